"""Which refusals are attacks, and that each is told."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import percall.wire
from percall_broker.model.errors import Unauthenticated, Unavailable
from percall_broker.pipeline.attacks import BUCKET_SECONDS, KNOWN, Attacks, is_attack
from percall_broker.telemetry.metrics import Metrics

if TYPE_CHECKING:
    from percall_broker.store.protocol import Statement

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


class StoreThatFails:
    """Appends nothing until it is told to; keeps what it appended."""

    def __init__(self) -> None:
        self.fails = True
        self.written: list[Statement] = []

    async def append(self, *statements: Statement) -> None:
        if self.fails:
            raise Unavailable("store.full", "The disk of the store is full.")
        self.written += statements


@pytest.mark.anyio
async def test_an_attack_that_could_not_be_told_at_once_is_told_later_though_it_came_once() -> None:
    store: Any = StoreThatFails()
    lookup: Any = None  # nobody's grant was shown
    attacks = Attacks(store, lookup, Metrics(), "this replica")
    assert attacks.note(Unauthenticated("invite.unknown", "There is no such invite."))
    await attacks.close()
    store.fails = False
    later = time.time() + BUCKET_SECONDS
    await attacks.flush(later)
    told = [json.loads(one.parameters["body"])["data"] for one in store.written if "body" in one.parameters]
    assert [(one["reason"], one["times"]) for one in told] == [("invite.unknown", 1)]
    await attacks.flush(later + BUCKET_SECONDS)
    assert len([one for one in store.written if "body" in one.parameters]) == 1, "and once"
