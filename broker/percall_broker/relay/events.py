"""Server-sent events, cut from an upstream's stream one by one, and written again for the client.

Nothing is passed on that is not a whole event; what a broken stream leaves behind is dropped, as the standard says.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from percall import wire
from percall_broker.held import MEMORY_BYTES, Held
from percall_broker.model.errors import UpstreamFailed

if TYPE_CHECKING:
    from collections.abc import Iterator

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_PASSED_ON = frozenset({b"", b"event", b"retry"})
_RETURN, _NEWLINE = b"\r\n"
_LONGEST_BLANK_LINE = 4


class EventReader:
    """Cuts a stream into events. Holds one event at most. Use in a `with` block."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._looked_at = 0
        self._begun = False
        self._held: Held | None = None

    def __enter__(self) -> Self:
        """Use in a `with` block."""
        return self

    def __exit__(self, *_: object) -> None:
        """Forgets what came last."""
        if self._held is not None:
            self._held.forget()

    def feed(self, data: bytes) -> Iterator[bytes | Held]:
        """The events that are complete now, without the blank lines that end them; a long one as it is held, to be
        forgotten by whoever takes it. Raises UpstreamFailed for one that is too long, Unavailable.
        """
        self._buffer += data
        if not self._begun:
            if _BYTE_ORDER_MARK.startswith(self._buffer):
                return
            self._buffer = self._buffer.removeprefix(_BYTE_ORDER_MARK)
            self._begun = True
        # A carriage return at the end may be half of a line's end.
        known = len(self._buffer) - self._buffer.endswith(b"\r")
        start = 0
        found = _blank_line(self._buffer, max(0, self._looked_at - _LONGEST_BLANK_LINE), known)
        while found is not None:
            if event := self._taken(self._buffer[start : found[0]]):
                yield event
            start = found[1]
            found = _blank_line(self._buffer, start, known)
        del self._buffer[:start]
        if len(self._buffer) > MEMORY_BYTES:
            self._held = self._held or Held("the server's answer")
            self._held.add(self._buffer[:-_LONGEST_BLANK_LINE])
            del self._buffer[:-_LONGEST_BLANK_LINE]
            if self._held.size > wire.MAX_EVENT_BYTES:
                raise UpstreamFailed(
                    "upstream.size", f"A message of the server's is longer than {wire.MAX_FRAME_BYTES} bytes."
                )
        self._looked_at = max(0, len(self._buffer) - self._buffer.endswith(b"\r"))

    def end(self) -> Iterator[bytes | Held]:
        """A last event that only lacked the second half of its last line's end."""
        if self._buffer.endswith((b"\r\r", b"\n\r")):
            yield self._taken(self._buffer.rstrip(b"\r\n"))

    def _taken(self, rest: bytearray) -> bytes | Held:
        held, self._held = self._held, None
        if held is None:
            return bytes(rest)
        held.add(rest)
        return held


def _blank_line(buffer: bytearray, start: int, end: int) -> tuple[int, int] | None:
    """Where the next two ends of lines stand together, each a newline, a return, or both. Found in C: events are long.

    Both together are one end, so what tells is a pair of which the second can only begin another.
    """
    at = end
    for pair in (b"\n\r", b"\r\r", b"\n\n") if buffer.find(b"\r", start, end) >= 0 else (b"\n\n",):
        found = buffer.find(pair, start, min(at + 1, end))
        at = found if found >= 0 else at
    if at == end:
        return None
    begins = at - 1 if at > start and buffer[at] == _NEWLINE and buffer[at - 1] == _RETURN else at
    is_both = buffer[at + 1] == _RETURN and buffer[at + 2 : at + 3] == b"\n"
    return begins, at + 2 + is_both


@dataclass(slots=True)
class Event:
    """One event. `data` and `id` are None where the event has no such line.

    `others` are its other lines that mean anything, untouched.
    """

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
    for line in raw.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n"):
        name, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if name == b"data":
            data.append(value)
        elif name == b"id":
            # An id with a null in it is none; one that is not UTF-8 could not be handed back.
            identifier = None if b"\0" in value else value.decode("utf-8", "replace")
        elif line and name in _PASSED_ON:  # what readers ignore, some might not
            others.append(line)
    return Event(b"\n".join(data) if data else None, identifier, tuple(others))


def message_event(data: bytes) -> bytes:
    """An event of ours that holds one message."""
    return b"event: message\n" + bytes(Event(data, None, ()))
