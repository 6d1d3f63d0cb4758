"""The client's requests to a remote server that have no answer yet, and how many may be on their way at once."""

from __future__ import annotations

from collections import deque

from percall.rpc import gate
from percall.run import intake

TYPE_CHECKING = False  # `typing` itself costs 10 ms of each start
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    from percall.run.pending import Pending

_MOST_ON_THEIR_WAY = 128
_MOST_BYTES = 32 * 1024 * 1024
_MOST_LINGERING = 16


class OpenRequests:
    """All of them, by the key of their id. `send` takes each that had to wait for others, when it may go.

    `size`: how many bytes they hold.
    """

    def __init__(self, send: Callable[[Pending], None]) -> None:
        self.size = 0
        self._send = send
        self._of: dict[Any, Pending] = {}
        self._waiting: deque[Pending] = deque()
        self._on_their_way = 0
        self._lingering: deque[Pending] = deque()

    def __contains__(self, pending: Pending) -> bool:
        """Whether a request is still open."""
        return self._of.get(pending.key) is pending

    def __iter__(self) -> Iterator[Pending]:
        return iter(tuple(self._of.values()))

    @property
    def is_full(self) -> bool:
        """Whether another one is too many."""
        return len(self._of) >= intake.MOST_OPEN

    @property
    def is_settled(self) -> bool:
        """Whether all that is open are streams that never end by themselves."""
        return all(pending.method == gate.LONG_LIVED for pending in self._of.values())

    def is_behind(self, held: int, held_bytes: int) -> bool:
        """Whether so much waits, with so many lines held besides, that no more should be read."""
        return self.size + held_bytes > _MOST_BYTES or max(len(self._waiting), held) > _MOST_ON_THEIR_WAY

    def find(self, key: Any) -> Pending | None:
        """The open request with this key."""
        return self._of.get(key)

    def add(self, pending: Pending) -> None:
        """A request of the client's."""
        self._of[pending.key] = pending
        self.size += pending.size

    def goes(self, pending: Pending) -> bool:
        """Whether a request may go on its way now; else it waits for others."""
        if self._on_their_way >= _MOST_ON_THEIR_WAY and _counts(pending):
            self._waiting.append(pending)
            return False
        self._on_their_way += _counts(pending)
        return True

    def comes_back(self, pending: Pending) -> None:
        """A request is open, and on its way no longer: others may go."""
        pending.has_started = False
        self._arrived(pending)

    def remove(self, pending: Pending) -> None:
        """A request is no longer open; the next one may go."""
        if pending not in self:
            return
        del self._of[pending.key]
        self.size -= pending.size
        pending.line = b""
        if pending.has_started:
            self._arrived(pending)
        elif pending in self._waiting:
            self._waiting.remove(pending)

    def clear(self) -> tuple[Pending, ...]:
        """None is open any more: those that were."""
        pendings = tuple(self._of.values())
        self._of.clear()
        self._waiting.clear()
        self.size = self._on_their_way = 0
        return pendings

    def linger(self, pending: Pending) -> None:
        """A request is answered, and its stream still open: it may go on for a while."""
        self._lingering.append(pending)
        if len(self._lingering) > _MOST_LINGERING:
            self._lingering.popleft().abandon()

    def over(self, pending: Pending) -> None:
        """The stream of an answered request has ended."""
        if pending in self._lingering:
            self._lingering.remove(pending)

    def _arrived(self, pending: Pending) -> None:
        self._on_their_way -= _counts(pending)
        while self._waiting and self._on_their_way < _MOST_ON_THEIR_WAY:
            self._send(self._waiting.popleft())


def _counts(pending: Pending) -> bool:
    """Whether a request takes a place among those on their way: one that stays open for ever would keep it."""
    return pending.method != gate.LONG_LIVED
