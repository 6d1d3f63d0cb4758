"""What becomes of outcomes that the broker does not take."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import pytest

from harness.bridged import Clock
from percall import wire
from percall.errors import BrokerRefusal, BrokerUnreachable, PercallError
from percall.run.settle import Settlements

if TYPE_CHECKING:
    from collections.abc import Callable

    from percall.run.broker import Broker
    from percall.run.loop import Loop


class Answering:
    """A broker that fails each request as it is told to."""

    def __init__(self) -> None:
        self.failure: PercallError | None = None
        self.asked = 0
        self.taken: list[dict[str, Any]] = []

    def request(
        self, _method: str, _path: str, body: bytes, done: Callable[[bytes], None], failed: Callable[[Any], None]
    ) -> None:
        self.asked += 1
        if self.failure is not None:
            failed(self.failure)
        else:
            self.taken += wire.strict_json(body)["settle"]
            done(b"")


@pytest.mark.parametrize(
    ("failure", "is_kept"),
    [
        (BrokerUnreachable("broker.unreachable", "It is away."), True),
        (BrokerRefusal("proof.time", "This machine's clock is 3 min behind the broker's."), True),
        (BrokerRefusal("request.rate", "Too many requests."), True),
        (BrokerRefusal("settle.form", "It is none that we know."), False),
        (BrokerRefusal("grant.unknown", "The grant is not known here."), False),
    ],
)
def test_an_outcome_is_kept_for_as_long_as_the_broker_may_take_it_later(failure: PercallError, is_kept: bool) -> None:
    clock, broker = Clock(), Answering()
    settlements = Settlements(cast("Loop", clock), cast("Broker", broker))
    broker.failure = failure
    settlements.add(wire.Settlement("call", "done", 7))
    clock.passes()
    assert broker.asked == 1
    broker.failure = None
    clock.passes()
    assert [one["call"] for one in broker.taken] == (["call"] if is_kept else [])
    emptied: list[bool] = []
    settlements.finish(lambda: emptied.append(True))
    assert emptied
