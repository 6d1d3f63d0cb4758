"""How long calls took, as it is recorded."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, cast

from harness.bridged import Clock
from percall import wire
from percall.rpc import frames
from percall.run.approvals import Approvals
from percall.run.calls import Calls
from percall.run.settle import Settlements
from percall.run.windows import Windows

if TYPE_CHECKING:
    from collections.abc import Callable

    import pytest

    from percall.run.broker import Broker
    from percall.run.loop import Loop

LINE = b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"merge"}}'
ASKED = wire.Asked("ap_1", 2**31, ("leads",), "http://127.0.0.1:9/console")
ANSWERS = (
    wire.CallAnswer("first", "ask", refusal=wire.Refusal("policy.ask", "It waits.", ""), approval=ASKED),
    wire.CallAnswer("second", "permit", 600),
)


class Asking:
    """A broker that decides each call a second after it was asked: the first has to be approved."""

    def __init__(self, passes: Callable[[float], None]) -> None:
        self._passes = passes
        self._answers = iter(ANSWERS)
        self.settled: list[dict[str, Any]] = []

    def request(self, _method: str, path: str, body: bytes, done: Callable[[bytes], None], _failed: object) -> None:
        if path == wire.PATH_SETTLEMENTS:
            self.settled += wire.strict_json(body)["settle"]
            done(b"")
            return
        self._passes(1.0)
        done(wire.dump(wire.encode(next(self._answers))))


def test_how_long_a_person_took_to_approve_a_call_is_not_how_long_it_took(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0

    def passes(seconds: float) -> None:
        nonlocal now
        now += seconds

    monkeypatch.setattr(time, "monotonic", lambda: now)
    clock, broker = cast("Loop", Clock()), Asking(passes)
    approvals = Approvals(clock, cast("Broker", broker), lambda _: None)
    settlements = Settlements(clock, cast("Broker", broker))
    calls = Calls(
        loop=clock,
        broker=cast("Broker", broker),
        approvals=approvals,
        settlements=settlements,
        windows=Windows(),
        server="github",
        one_at_a_time=True,
        forward=lambda _: passes(2.0),
        answer=lambda _: None,
        grant_ended=lambda _: None,
    )
    calls.submit(wire.strict_json(LINE), LINE)
    passes(40.0)
    approvals.answered(("ap_1",))
    calls.answered(frames.id_key(1), {"id": 1, "result": {}}, allow_sampling=False)
    settlements.finish(lambda: None)
    assert [(one["call"], one["outcome"], one["duration_ms"]) for one in broker.settled] == [("second", "done", 3000)]
