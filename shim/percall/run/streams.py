"""Pipes under the loop: writers that never block and know how much waits in them, and a bounded copy of stderr."""

from __future__ import annotations

import os
import select
import time
from collections import deque

from percall.run.loop import WRITE

TYPE_CHECKING = False  # `typing` itself costs 10 ms of each start
if TYPE_CHECKING:
    from collections.abc import Callable

    from percall.run.loop import Loop

READ_BYTES = 128 * 1024
_PIPE_BYTES = 4096
_STDERR = 2


class Writer:
    """Writes to a non-blocking descriptor; what does not fit waits. `waiting` is the number of bytes that do.

    `broken` is called once when nobody reads any more; `drained` each time that all has been written after waiting.
    """

    def __init__(self, loop: Loop, descriptor: int, broken: Callable[[], None], drained: Callable[[], None]) -> None:
        self.waiting = 0
        self._loop = loop
        self._descriptor = descriptor
        self._broken = broken
        self._drained = drained
        self._queue: deque[bytes | memoryview] = deque()
        self._open = True

    def write(self, data: bytes) -> None:
        """Write now what fits, and the rest when it does. Bytes for nobody are dropped."""
        if not self._open:
            return
        rest: bytes | memoryview = data
        if not self._queue:
            written = self._try(data)
            if written == len(data) or not self._open:
                return
            rest = memoryview(data)[written:]
            self._loop.watch(self._descriptor, WRITE, self._ready)
        self._queue.append(rest)
        self.waiting += len(rest)

    def close(self) -> None:
        """Write nothing more."""
        self._open = False
        self._queue.clear()
        self.waiting = 0
        self._loop.unwatch(self._descriptor)

    def _try(self, data: bytes | memoryview) -> int:
        try:
            return os.write(self._descriptor, data)
        except BlockingIOError:
            return 0
        except OSError:
            self.close()
            self._broken()
            return 0

    def _ready(self, _events: int) -> None:
        while self._queue:
            data = self._queue[0]
            written = self._try(data)
            if not self._open:
                return
            self.waiting -= written
            if written < len(data):
                self._queue[0] = memoryview(data)[written:]
                return
            self._queue.popleft()
        self._loop.unwatch(self._descriptor)
        self._drained()


class Stderr:
    """Our stderr, shared with the child: at most `rate` bytes a second after a burst, and never waiting for a reader.

    What is dropped is counted, and said.
    """

    def __init__(self, rate: int = 64 * 1024, burst: int = 512 * 1024) -> None:
        self._rate = rate
        self._burst = burst
        self._allowance = float(burst)
        self._then = time.monotonic()
        self._dropped = 0
        self._poll = select.poll()
        self._poll.register(_STDERR, select.POLLOUT)

    def copy(self, data: bytes) -> None:
        """Pass on bytes of the child's."""
        now = time.monotonic()
        self._allowance = min(float(self._burst), self._allowance + (now - self._then) * self._rate)
        self._then = now
        if self._dropped and self._allowance >= min(self._burst, self._rate):
            dropped, self._dropped = self._dropped, 0
            self.say(f"{dropped} bytes of the server's stderr were dropped: it writes too much.")
        kept = data[: int(self._allowance)]
        self._allowance -= len(kept)
        written = self._write(kept)
        if not self._dropped and written < len(data):
            self._write(b"\npercall: the server writes too much to stderr; dropping some.\n")
        self._dropped += len(data) - written

    def say(self, sentence: str) -> None:
        """One line of our own."""
        self._write(f"percall: {sentence}\n".encode(errors="replace"))

    def _write(self, data: bytes) -> int:
        """Write what a reader takes without making us wait (a pipe that polls writable takes a page)."""
        written = 0
        while written < len(data):
            ready = self._poll.poll(0)
            if not ready or ready[0][1] & ~select.POLLOUT:
                break
            try:
                written += os.write(_STDERR, data[written : written + _PIPE_BYTES])
            except OSError:
                break
        return written
