"""Server-sent events, cut from a stream as it arrives: the broker's own, and those of a remote MCP server."""

from __future__ import annotations

from percall.errors import WireError
from percall.rpc.frames import LineReader

_MAX_RETRY_DIGITS = 18
_SHORTEST_RETRY_SECONDS, _LONGEST_RETRY_SECONDS = 1.0, 3600.0
"""A server may neither have the shim, and the broker with it, ask many times a second nor sleep for years."""


class Event:
    """One event. `data` and `id` are None where the event has no such line; `retry` is in seconds, None if not said."""

    __slots__ = ("data", "id", "kind", "retry")

    def __init__(self) -> None:
        self.kind = "message"
        self.data: bytes | None = None
        self.id: str | None = None
        self.retry: float | None = None


class EventParser:
    """Cuts a `text/event-stream` into events. Raises WireError when one is longer than `limit` bytes."""

    def __init__(self, limit: int) -> None:
        self._lines = LineReader(limit)
        self._limit = limit
        self._event = Event()
        self._data: list[bytes] = []
        self._size = 0

    def feed(self, data: bytes) -> list[Event]:
        """The events that are complete now. Lines end with a line feed, or carriage return and line feed."""
        events: list[Event] = []
        for line in self._lines.feed(data):
            if line is not None:
                self._line(line.removesuffix(b"\r"), events)
        if self._lines.dropped_head:
            raise _too_long()
        return events

    def _line(self, line: bytes, events: list[Event]) -> None:
        if not line:
            self._end(events)
            return
        name, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if name == b"data":
            self._size += len(value)
            if self._size > self._limit:
                raise _too_long()
            self._data.append(value)
        elif name == b"event":
            self._event.kind = value.decode(errors="replace")
        elif name == b"id" and value.isascii() and value.decode().isprintable():  # else no header could give it back
            self._event.id = value.decode()
        elif name == b"retry" and value.isdigit() and len(value) <= _MAX_RETRY_DIGITS:
            self._event.retry = min(max(int(value) / 1000, _SHORTEST_RETRY_SECONDS), _LONGEST_RETRY_SECONDS)

    def _end(self, events: list[Event]) -> None:
        event, self._event = self._event, Event()
        if self._data:
            event.data = b"\n".join(self._data)
            self._data, self._size = [], 0
        if event.data is not None or event.id is not None or event.retry is not None:
            events.append(event)


def _too_long() -> WireError:
    return WireError("events.long", "The broker sent too long an event.")
