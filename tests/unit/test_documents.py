"""Documents that promise: each promise's test must exist."""

from __future__ import annotations

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
