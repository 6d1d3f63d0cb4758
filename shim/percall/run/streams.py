"""Pipes under the loop: writers that never block and know how much waits in them, and a bounded copy of stderr."""

from __future__ import annotations

import time
from collections import deque

from percall import system
from percall.errors import plain
from percall.run.loop import WRITE

TYPE_CHECKING = False  # `typing` itself costs 10 ms of each start
if TYPE_CHECKING:
    from collections.abc import Callable

    from percall.run.loop import Loop

ENOUGH_WAITING = 4 * 1024 * 1024
"""Once so many bytes wait for a reader, nothing more is read for it."""
_PAGE_BYTES = 4096
_STDERR = 2
_STDERR_PAUSE_SECONDS = 0.05
_MOST_STDERR_BYTES = 256 * 1024
"""How much waits for a client that does not read our stderr; what is more is dropped, and noted."""
_MOST_OF_A_SENTENCE = 2000
_ENOUGH_STDERR_BYTES = 16 * 1024
"""How much room there must be before no more is dropped."""
_LAST_FLUSH_SECONDS = 0.5
_NOTE_SECONDS = 1.0


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
            return system.write(self._descriptor, data)
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

    A reader that is slow for a moment loses nothing; what is dropped is counted, and said.
    """

    def __init__(self, loop: Loop, rate: int = 64 * 1024, burst: int = 512 * 1024) -> None:
        self._loop = loop
        self._rate = rate
        self._burst = burst
        self._allowance = float(burst)
        self._then = time.monotonic()
        self._dropped = 0
        self._noted = 0.0
        self._is_dropping = False
        self._waiting = b""
        self._scheduled = False
        self._stderr = system.standard(_STDERR)
        self._poll = system.Poll()
        self._poll.register(self._stderr, WRITE)

    def copy(self, data: bytes) -> None:
        """Pass on bytes of the child's."""
        now = time.monotonic()
        self._allowance = min(float(self._burst), self._allowance + (now - self._then) * self._rate)
        self._then = now
        room = min(int(self._allowance), _MOST_STDERR_BYTES - len(self._waiting))
        if self._is_dropping:  # until there is room for more than a few words
            self._is_dropping = room < _ENOUGH_STDERR_BYTES
        kept = b"" if self._is_dropping else data[: max(0, room)]
        self._is_dropping = len(kept) < len(data)
        self._allowance -= len(kept)
        self._dropped += len(data) - len(kept)
        self._waiting += kept
        self.flush()

    def say(self, sentence: str) -> None:
        """One line of our own; it may have the broker's words in it."""
        if len(self._waiting) < _MOST_STDERR_BYTES:
            self._waiting += f"percall: {plain(sentence[:_MOST_OF_A_SENTENCE])}\n".encode(errors="replace")
        self.flush()

    def finish(self) -> None:
        """At the end: give the reader a moment for what still waits."""
        end = time.monotonic() + _LAST_FLUSH_SECONDS
        self._noted = 0.0
        self.flush()
        while (self._waiting or self._dropped) and time.monotonic() < end and self._poll.poll(100):
            before = len(self._waiting)
            self.flush()
            if len(self._waiting) == before:
                break  # nobody reads any more

    def flush(self) -> None:
        """Write what a reader takes without making us wait (a pipe that polls writable takes a page)."""
        while self._waiting or self._may_note():
            ready = self._poll.poll(0)
            if not ready or ready[0][1] & ~WRITE:
                break
            if not self._waiting:
                dropped, self._dropped = self._dropped, 0
                self._noted = time.monotonic()
                self._waiting = f"\npercall: {dropped} bytes of the server's stderr were dropped.\n".encode()
            try:
                self._waiting = self._waiting[system.write(self._stderr, self._waiting[:_PAGE_BYTES]) :]
            except OSError:
                break
        if (self._waiting or self._dropped) and not self._scheduled:
            self._scheduled = True
            self._loop.later(_STDERR_PAUSE_SECONDS, self._again)

    def _may_note(self) -> bool:
        """Whether it is time to say what was dropped: once a second at most."""
        return self._dropped > 0 and time.monotonic() > self._noted + _NOTE_SECONDS

    def _again(self) -> None:
        self._scheduled = False
        self.flush()
