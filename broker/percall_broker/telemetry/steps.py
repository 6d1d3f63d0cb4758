"""When each numbered step of a call or a request was done: one stopwatch for each, read by figures and spans alike."""

from __future__ import annotations

import time
from time import perf_counter


class Steps:
    """A stopwatch. On the path of every call, so it does no more than look at the clock."""

    __slots__ = ("began", "began_ns", "ends")

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
