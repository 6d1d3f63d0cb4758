"""Which refusals are attacks, and that each is told."""

from __future__ import annotations

import json
import re
import sqlite3
import time
from contextlib import closing, suppress
from pathlib import Path

import pytest

import percall.wire
from percall_broker.model.errors import Unauthenticated, Unavailable
from percall_broker.pipeline.attacks import BUCKET_SECONDS, KNOWN, Attacks, is_attack
from percall_broker.stages.lookup import Lookup
from percall_broker.store import Statement, migrate, open_store
from percall_broker.telemetry.metrics import Metrics

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


@pytest.mark.anyio
@pytest.mark.parametrize("is_over_first", [False, True], ids=["within its bucket", "beyond its bucket"])
async def test_an_attack_that_could_not_be_told_at_once_is_told_later_though_it_came_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_over_first: bool
) -> None:
    monkeypatch.setattr("percall_broker.store.sqlite.LOCKED_SECONDS", 0.0)
    await migrate(tmp_path / "store")
    store = await open_store(tmp_path / "store")
    endpoint = {"id": "w", "origin": "https://here", "format": "json", "created_at": 1, "created_by": "ada"}
    await store.append(Statement("add_webhook", endpoint))
    attacks = Attacks(store, Lookup(store), Metrics(), "this replica")
    with closing(sqlite3.connect(tmp_path / "store")) as another:
        another.execute("BEGIN IMMEDIATE")
        assert attacks.note(Unauthenticated("invite.unknown", "There is no such invite."))
        later = time.time() + BUCKET_SECONDS
        if is_over_first:
            with suppress(Unavailable):
                await attacks.flush(later)
        await attacks.close()
    assert await store.fetch("next_deliveries", webhook="w") == []
    for now in (later, later + BUCKET_SECONDS):
        await attacks.flush(now)
    (told,) = await store.fetch("next_deliveries", webhook="w")
    assert json.loads(told["body"])["data"]["reason"] == "invite.unknown"
    assert json.loads(told["body"])["data"]["times"] == 1
    await store.close()
