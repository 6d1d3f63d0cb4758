"""When each numbered step of a call or a request was done: one stopwatch for each, read by figures and spans alike."""

from __future__ import annotations

import time
from time import perf_counter
from typing import TYPE_CHECKING, Protocol, Self

if TYPE_CHECKING:
    from collections.abc import Mapping


class Steps:
    """A stopwatch. On the path of every call, so it does no more than look at the clock.

    `traceparent` names the span that it is part of (W3C Trace Context), None where nobody traces.
    """

    __slots__ = ("began", "began_ns", "ends")
    traceparent: str | None = None

    def __init__(self) -> None:
        self.began_ns = time.time_ns()
        self.began = perf_counter()
        self.ends: list[tuple[str, float]] = []

    def done(self, step: str) -> None:
        """A step is done; the next one begins."""
        self.ends.append((step, perf_counter()))

    def seconds(self) -> float:
        """From the beginning to the last step that was done."""
        return self.ends[-1][1] - self.began if self.ends else 0.0

    def note(self, attributes: Mapping[str, str]) -> None:
        """What was found out meanwhile. Never a secret, an argument, or what a stranger wrote: a span shows it."""

    def __enter__(self) -> Self:
        """The block is what is timed."""
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        """It is over, by an error or without one."""


class Tracing(Protocol):
    """Where stopwatches come from."""

    def begin(self, name: str, parent: str | None) -> Steps:
        """One for a call or a request. `parent` is a `traceparent` from outside, whatever it says."""

    def close(self) -> None:
        """Sends what is still to be sent, and waits no longer than seconds for that."""


class NoTracing:
    """Stopwatches alone."""

    def begin(self, _name: str, _parent: str | None) -> Steps:
        """One that makes no span."""
        return Steps()

    def close(self) -> None:
        """Nothing is sent."""
