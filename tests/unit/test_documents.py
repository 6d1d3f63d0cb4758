"""Documents that promise: each promise's test must exist."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from harness import error_reference
from percall.system import posix

ROOT = Path(__file__).parent.parent.parent
PROOFS = re.findall(r"`(tests/[^`]+?\.py)::(test_[a-z0-9_]+)`", (ROOT / "docs" / "threat-model.md").read_text())
PROMISES = (ROOT / "docs" / "threat-model.md").read_text().split("## Promises")[1].split("##")[0].splitlines()


@pytest.mark.parametrize(("path", "name"), PROOFS)
def test_a_promise_of_the_threat_model_has_its_test(path: str, name: str) -> None:
    assert f"def {name}(" in (ROOT / path).read_text()


def test_no_promise_of_the_threat_model_lacks_a_test() -> None:
    rows = [line for line in PROMISES if line.startswith("| ") and not line.startswith("| promise")]
    assert len(rows) == len(PROOFS)
    assert rows


FOLDERS = ("docs", "examples")
DOCUMENTS = [*ROOT.glob("*.md"), *sorted(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.md"))]


def anchors(document: Path) -> set[str]:
    """Its headings, as GitHub names them in links."""
    text = re.sub(r"^```.*?^```", "", document.read_text(), flags=re.DOTALL | re.MULTILINE)
    headings = re.findall(r"^#+ (.*)", text, re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_link_of_a_document_leads_somewhere(document: Path) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", document.read_text()):
        if "://" in link:
            continue
        place, _, anchor = link.partition("#")
        target = document.parent / place if place else document
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


def test_every_document_and_picture_is_linked_from_another() -> None:
    linked = set()
    for document in DOCUMENTS:
        links = re.findall(r"\]\(([^)\s#]+)", document.read_text())
        linked |= {(document.parent / link).resolve() for link in links if "://" not in link}
    files = {path for path in (ROOT / "docs").rglob("*") if path.is_file() and path.parent.name != "adr"}
    assert files - linked == set()


def test_the_roll_outs_lists_allow_percall_alone() -> None:
    text = (ROOT / "docs" / "how-to" / "roll-out.md").read_text()
    (listed,) = re.findall(r"```json\n(.*?)```", text, re.DOTALL)
    settings = json.loads(listed)
    assert settings["allowManagedMcpServersOnly"] is True
    assert [entry["serverCommand"][:2] for entry in settings["allowedMcpServers"]] == [["percall", "run"]] * 2


def test_the_reference_names_each_variable_of_the_clients_that_a_child_gets() -> None:
    text = (ROOT / "docs" / "reference" / "server-entry.md").read_text()
    (sentence,) = re.findall(r"Of the client's environment the child gets (.*?);", text)
    assert re.findall(r"`(\w+)`", sentence) == list(posix.INHERITED)


def test_the_reference_of_errors_is_fresh_and_has_every_code_of_an_error() -> None:
    assert error_reference.FILE.read_text(encoding="utf-8") == error_reference.markdown(), "run: make docs"
    assert not error_reference.left_out()
