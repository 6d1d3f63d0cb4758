"""Server-sent events, cut from an upstream's stream one by one, and written again for the client.

Nothing is passed on that is not a whole event; what a broken stream leaves behind is dropped, as the standard says.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from percall import wire
from percall_broker.model.errors import UpstreamFailed

_LINE_END = rb"(?:\r\n|\n|\r)"
_BLANK_LINE = re.compile(_LINE_END + _LINE_END)
_LINES = re.compile(_LINE_END)
_LONGEST_BLANK_LINE = 4
MAX_EVENT_BYTES = wire.MAX_FRAME_BYTES + 64 * 1024


class EventReader:
    """Cuts a stream into events. Holds one event at most. Raises UpstreamFailed for one that is too long."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._looked_at = 0
        self._begun = False

    def feed(self, data: bytes) -> list[bytes]:
        """The events that are complete now, each without the blank line that ends it."""
        if not self._begun:
            data = data.removeprefix(b"\xef\xbb\xbf")
            self._begun = True
        self._buffer += data
        # A carriage return at the end may be half of a line's end.
        known = len(self._buffer) - self._buffer.endswith(b"\r")
        events, start = [], 0
        found = _BLANK_LINE.search(self._buffer, max(0, self._looked_at - _LONGEST_BLANK_LINE), known)
        while found is not None:
            events.append(bytes(self._buffer[start : found.start()]))
            start = found.end()
            found = _BLANK_LINE.search(self._buffer, start, known)
        if start:
            del self._buffer[:start]
        self._looked_at = max(0, known - start)
        if len(self._buffer) > MAX_EVENT_BYTES:
            raise UpstreamFailed(
                "upstream.size", f"A message of the server's is longer than {wire.MAX_FRAME_BYTES} bytes."
            )
        return [event for event in events if event]

    def end(self) -> list[bytes]:
        """A last event that only lacked the second half of its last line's end."""
        left, self._buffer = bytes(self._buffer), bytearray()
        return [left.rstrip(b"\r\n")] if left.endswith((b"\r\r", b"\n\r")) else []


@dataclass(slots=True)
class Event:
    """One event. `data` and `id` are None where the event has no such line; `others` are its other lines, untouched."""

    data: bytes | None
    id: str | None
    others: tuple[bytes, ...]

    def __bytes__(self) -> bytes:
        """The event on the wire."""
        lines = list(self.others)
        if self.id is not None:
            lines.append(b"id: " + self.id.encode())
        if self.data is not None:
            lines += [b"data: " + line for line in self.data.split(b"\n")]
        return b"\n".join(lines) + b"\n\n"


def read_event(raw: bytes) -> Event:
    """The event of its lines."""
    data: list[bytes] = []
    identifier, others = None, []
    for line in _LINES.split(raw):
        name, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if name == b"data":
            data.append(value)
        elif name == b"id":
            # An id with a null in it is none; one that is not UTF-8 could not be handed back.
            identifier = None if b"\0" in value else value.decode("utf-8", "replace")
        elif line:
            others.append(line)
    return Event(b"\n".join(data) if data else None, identifier, tuple(others))


def message_event(data: bytes) -> bytes:
    """An event of ours that holds one message."""
    return b"event: message\n" + bytes(Event(data, None, ()))
