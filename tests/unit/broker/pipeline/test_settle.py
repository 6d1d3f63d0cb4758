"""Outcomes: the first one stands, and what nobody reported becomes unknown."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from percall import wire
from percall_broker.model.errors import InvalidInput
from percall_broker.model.records import Identity
from percall_broker.pipeline.settle import GRACE_SECONDS, Settle, check
from percall_broker.telemetry.metrics import Metrics

from .conftest import CALL, GRANT, NOW, outcomes, with_call

if TYPE_CHECKING:
    from pathlib import Path

    from percall_broker.store import Store


def test_the_first_outcome_stands(tmp_path: Path) -> None:
    async def story(store: Store) -> None:
        settle = Settle(store, Metrics())
        for outcome in ("failed", "done"):
            await settle.settle(Identity(GRANT, "x"), (wire.Settlement(CALL, outcome, 5),), NOW)
        assert await outcomes(store) == [("failed", "call.settled")]

    asyncio.run(with_call(tmp_path, story))


def test_a_call_that_nobody_settled_is_swept_to_unknown_once(tmp_path: Path) -> None:
    async def story(store: Store) -> None:
        settle = Settle(store, Metrics())
        assert await settle.sweep(NOW) == 0
        assert await settle.sweep(NOW + 60 + GRACE_SECONDS - 1) == 0
        assert await settle.sweep(NOW + 60 + GRACE_SECONDS + 1) == 1
        assert await settle.sweep(NOW + 60 + GRACE_SECONDS + 2) == 0
        assert await Settle(store, Metrics()).sweep(NOW + 900) == 0
        assert await outcomes(store) == [("unknown", "call.overdue")]

    asyncio.run(with_call(tmp_path, story))


FINE = wire.Settlement("c" * 64, "done", 2**40, {f"o{number}": 1 for number in range(16)})


def test_outcomes_of_our_shims_form_pass() -> None:
    check(())
    check(
        (FINE, *(replace(FINE, outcome=outcome, duration_ms=0) for outcome in ("failed", "refused", "unknown"))) * 250
    )


@pytest.mark.parametrize(
    ("settled", "code"),
    [
        ([FINE] * 1001, "settle.many"),
        ([FINE, replace(FINE, outcome="splendid")], "settle.form"),
        ([replace(FINE, duration_ms=-1)], "settle.form"),
        ([replace(FINE, duration_ms=2**40 + 1)], "settle.form"),
        ([replace(FINE, call="c" * 65)], "settle.form"),
        ([replace(FINE, observed={f"o{number}": 1 for number in range(17)})], "settle.form"),
    ],
    ids=["too many", "outcome", "negative", "too long", "long id", "many observed"],
)
def test_outcomes_of_another_form_are_refused(settled: list[wire.Settlement], code: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        check(tuple(settled))
    assert refused.value.code == code
