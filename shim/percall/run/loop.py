"""The shim's one loop: polled file descriptors, timers, signals, and calls handed over by other threads.

Everything that touches a frame, a call or the broker's answers runs here, one callback after another; nothing here
blocks. Other threads may only use `call_soon`.
"""

from __future__ import annotations

import signal
import time
from collections import deque
from contextlib import suppress
from heapq import heappop, heappush
from itertools import count

from percall import system
from percall.system import READ, WRITE

TYPE_CHECKING = False  # `typing` itself costs 10 ms of each start
if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["READ", "WRITE", "Loop", "Timer"]

_WAKE_BYTES = 4096


class Timer:
    """A callback at a moment in the future; `cancel` takes it back."""

    __slots__ = ("callback",)

    def __init__(self, callback: Callable[[], None] | None) -> None:
        self.callback = callback

    def cancel(self) -> None:
        """Never call it."""
        self.callback = None


class Loop:
    """Polls until `stop`."""

    def __init__(self) -> None:
        self._poll = system.Poll()
        self._handlers: dict[int, Callable[[int], None]] = {}
        self._timers: list[tuple[float, int, Timer]] = []
        self._order = count()
        self._handed_over: deque[Callable[[], None]] = deque()
        self._signals: dict[int, Callable[[], None]] = {}
        self._stopped = False
        self._wake_reader, self._wake_writer = system.pipe()
        self.watch(self._wake_reader, READ, self._woken)

    def watch(self, descriptor: int, events: int, handler: Callable[[int], None]) -> None:
        """Call `handler` with the events that happened; replaces an earlier watch of the same descriptor."""
        self._handlers[descriptor] = handler
        self._poll.register(descriptor, events)

    def unwatch(self, descriptor: int) -> None:
        """Stop watching; harmless when nobody did."""
        if self._handlers.pop(descriptor, None) is not None:
            self._poll.unregister(descriptor)

    def later(self, seconds: float, callback: Callable[[], None]) -> Timer:
        """Call back after that many seconds."""
        timer = Timer(callback)
        heappush(self._timers, (time.monotonic() + seconds, next(self._order), timer))
        return timer

    def call_soon(self, callback: Callable[[], None]) -> None:
        """Call back from the loop's own thread, soon. The one method that other threads may use."""
        self._handed_over.append(callback)
        with suppress(BlockingIOError):  # enough bytes are in the pipe to wake the loop
            system.write(self._wake_writer, b"\0")

    def on_signal(self, number: int, callback: Callable[[], None]) -> None:
        """Call back from the loop, instead of at any moment, when the signal arrives."""
        self._signals[number] = callback
        signal.set_wakeup_fd(self._wake_writer, warn_on_full_buffer=False)
        signal.signal(number, lambda _number, _frame: None)

    def run(self) -> None:
        """Serve callbacks until `stop`."""
        while not self._stopped:
            for descriptor, events in self._poll.poll(self._until_next_timer()):
                handler = self._handlers.get(descriptor)
                if handler is not None:
                    handler(events)
            self._run_timers()

    def stop(self) -> None:
        """Let `run` return after the present callback."""
        self._stopped = True

    def _until_next_timer(self) -> int | None:
        while self._timers and self._timers[0][2].callback is None:
            heappop(self._timers)
        if not self._timers:
            return None
        return max(0, int((self._timers[0][0] - time.monotonic()) * 1000) + 1)

    def _run_timers(self) -> None:
        timers = self._timers
        if not timers:
            return
        now = time.monotonic()
        while timers and timers[0][0] <= now:
            callback = heappop(timers)[2].callback
            if callback is not None:
                callback()

    def _woken(self, _events: int) -> None:
        for byte in system.read(self._wake_reader, _WAKE_BYTES):
            on_signal = self._signals.get(byte)
            if on_signal is not None:
                on_signal()
        for _ in range(len(self._handed_over)):
            self._handed_over.popleft()()
