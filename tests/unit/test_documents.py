"""Documents that promise: each promise's test must exist."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

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


DOCUMENTS = [ROOT / "README.md", ROOT / "SECURITY.md", *sorted((ROOT / "docs").rglob("*.md"))]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_link_of_a_document_leads_somewhere(document: Path) -> None:
    links = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", document.read_text())
    assert [link for link in links if not (document.parent / link).exists()] == []


def test_the_roll_outs_lists_allow_percall_alone() -> None:
    text = (ROOT / "docs" / "how-to" / "roll-out.md").read_text()
    (listed,) = re.findall(r"```json\n(.*?)```", text, re.DOTALL)
    settings = json.loads(listed)
    assert settings["allowManagedMcpServersOnly"] is True
    assert [entry["serverCommand"][:2] for entry in settings["allowedMcpServers"]] == [["percall", "run"]] * 2


@pytest.mark.parametrize("page", ["README.md", "docs/README.md", "examples/README.md", "docs/tutorial/first-server.md"])
def test_every_link_of_an_index_leads_somewhere(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    links = [link.partition("#")[0] for link in re.findall(r"\]\(([^)\s]+)\)", text) if "://" not in link]
    assert links
    assert [link for link in links if not ((ROOT / page).parent / link).exists()] == []
