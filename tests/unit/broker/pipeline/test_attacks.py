"""Which refusals are attacks."""

from __future__ import annotations

import re
from pathlib import Path

import percall.wire
from percall_broker.pipeline.attacks import KNOWN, is_attack

BROKER = Path(__file__).parents[4] / "broker" / "percall_broker"
SAID = [path.read_text(encoding="utf-8") for path in BROKER.rglob("*.py")]


def codes() -> set[str]:
    """Those of the families, from where they are raised."""
    text = "\n".join(SAID)
    whole = set(re.findall(r'"((?:proof|window|frame)\.[A-Za-z0-9_]+)"', text))
    proofs = re.findall(r'_refused\(\s*"(\w+)"', (BROKER / "crypto" / "proofs.py").read_text())
    frames = re.findall(r'_text\(\w+, "(\w+)"\)', (BROKER / "stages" / "frame.py").read_text())
    json = re.findall(r'WireError\("json\.(\w+)"', Path(percall.wire.__file__).read_text())
    assert proofs
    assert frames
    assert json
    return whole | {f"proof.{one}" for one in proofs} | {f"frame.{one}" for one in (*frames, *json)}


def test_every_code_of_an_attack_is_known_to_the_figures() -> None:
    assert {code for code in codes() if is_attack(code)} - KNOWN == set()
    assert all(is_attack(code) for code in KNOWN)
