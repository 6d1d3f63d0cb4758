"""What every line of a client's goes through before anything else looks at it, wherever its server is."""

from __future__ import annotations

from percall import wire
from percall.errors import FrameError
from percall.rpc import frames, refusals

TYPE_CHECKING = False  # `typing` itself costs 10 ms of each start
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any


def read(line: bytes, answer: Callable[[bytes], None]) -> tuple[dict[str, Any], bytes] | None:
    """The frame on a client's line, and the line without its end; None for a blank line and for one that is refused.

    What is refused is answered.
    """
    line = line.removesuffix(b"\r")
    if not line or line.isspace():
        return None
    try:
        return frames.client_frame(line), line
    except FrameError as error:
        answer(refusals.bad_frame(error, frames.id_of_refused(error, line, line)))
        return None


def too_long(head: bytes, tail: bytes) -> bytes:
    """The answer to a line that was too long, from `head` to `tail`."""
    error = FrameError("frame.long", f"A frame is longer than {wire.MAX_FRAME_BYTES} bytes.")
    return refusals.bad_frame(error, frames.id_of_refused(error, head, tail))


def without_id(frame: dict[str, Any]) -> bytes:
    """The answer to a request whose id is none that an answer could repeat."""
    error = FrameError("frame.id", f"A {frame['method'][:64]!r} request has no id that could be answered.")
    return refusals.bad_frame(error)


def repeated_id(frame: dict[str, Any]) -> bytes:
    """The answer to a request whose id is still in use."""
    problem = wire.Refusal("frame.id", "A request with this id has not been answered yet.", "Use a new id.")
    return refusals.error_line(frame["id"], frames.INVALID_REQUEST, problem)


MOST_OPEN = 10_000
"""How many requests of a client wait for their answers."""
FLOOD = wire.Refusal("frame.flood", "Too many requests wait for an answer.", "Wait for some of them.")
