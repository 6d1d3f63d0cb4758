"""JSON-RPC frames, one a line: cut from a stream with a bounded length, and looked at strictly before anything else.

What a client sends is refused when two programs could read it in two ways: duplicate members, members that differ
from JSON-RPC's only in case, batches, a carriage return inside (some servers take it for the end of the line).
"""

from __future__ import annotations

import json
import os

from percall import wire
from percall.errors import FrameError, WireError

TYPE_CHECKING = False  # `typing` itself costs 10 ms of each start
if TYPE_CHECKING:
    from typing import Any

PARSE_ERROR = -32700
INVALID_REQUEST = -32600

MODERN = "io.modelcontextprotocol/protocolVersion"
"""The member of `params._meta` that each request of the 2026-07-28 revision carries."""
_TRACEPARENT_CHARACTERS = 55
_MOST_DIGITS = 16
_MOST_ID = 1e300
_KEPT_OF_DROPPED = 4096
CLIENT_INFO = "io.modelcontextprotocol/clientInfo"
INITIALIZED = b'{"jsonrpc":"2.0","method":"notifications/initialized"}'
MORE_TOOLS = b'{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}'

_ONE_ID = frozenset({"frame.long", "frame.nesting", "frame.number", "frame.return", "frame.surrogate", "frame.values"})
"""The rules which a frame may break and still have one id to all readers."""

_ENVELOPE = ("jsonrpc", "id", "method", "params", "result", "error")
_PARAMS = ("name", "arguments", "uri", "ref", "argument", "task", "taskId", "requestId", "_meta", "cursor")
_ENVELOPE_FOLDED = {name.casefold(): name for name in _ENVELOPE}
_PARAMS_FOLDED = {name.casefold(): name for name in _PARAMS}


class LineReader:
    """Cuts a stream into lines. A line longer than `limit` bytes is dropped whole, and `None` stands for it.

    `dropped_head` and `dropped_tail` are the beginning and the end of the last one that was dropped.
    """

    __slots__ = ("_dropping", "_limit", "_parts", "_size", "dropped_head", "dropped_tail")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._parts: list[bytes] = []
        self._size = 0
        self._dropping = False
        self.dropped_head = self.dropped_tail = b""

    def feed(self, data: bytes) -> list[bytes | None]:
        """The lines that are complete now, without their line ends."""
        lines: list[bytes | None] = []
        start = 0
        while (end := data.find(b"\n", start)) >= 0:  # quicker than `split` where lines are long
            self._append(data[start:end])
            lines.append(self._take())
            start = end + 1
        self._append(data[start:] if start else data)
        return lines

    def feed_eof(self) -> list[bytes | None]:
        """A last line without a line end."""
        return [self._take()] if self._parts else []

    def _append(self, piece: bytes) -> None:
        if not piece:
            return
        self._size += len(piece)
        self._parts.append(piece)
        if self._size > self._limit:
            if not self._dropping:
                self._dropping = True
                self.dropped_head = b"".join(self._parts)[:_KEPT_OF_DROPPED]
            self._parts = [b"".join(self._parts)[-_KEPT_OF_DROPPED:]]

    def _take(self) -> bytes | None:
        line: bytes | None = b"".join(self._parts)
        if self._dropping:
            self.dropped_tail, line = line or b"", None
        self._parts = []
        self._size, self._dropping = 0, False
        return line


def client_frame(line: bytes) -> dict[str, Any]:
    """The frame on a line that a client sent, after the strict pass.

    Raises FrameError, whose `code` says which rule was broken; `error_code` gives the JSON-RPC code for it.
    """
    if b"\r" in line:
        raise FrameError("frame.return", "A frame holds a carriage return.", "Send one JSON-RPC message a line.")
    try:
        frame = wire.strict_json(line)
    except WireError as error:
        raise FrameError(error.code.replace("json.", "frame."), error.message, error.next_step) from None
    if isinstance(frame, list):
        raise FrameError("frame.batch", "Batches of frames are refused.", "Send one JSON-RPC message a line.")
    if not isinstance(frame, dict):
        raise FrameError("frame.object", "A frame is a JSON object.", "Send one JSON-RPC message a line.")
    _refuse_look_alikes(frame, _ENVELOPE_FOLDED)
    if not isinstance(frame.get("method", ""), str):
        raise FrameError("frame.method", "A frame's method is a string.")
    params = frame.get("params")
    if isinstance(params, dict):
        _refuse_look_alikes(params, _PARAMS_FOLDED)
    return frame


def only_reading(frame: Any) -> dict[str, Any]:
    """A server's answer in which no member looks like another of JSON-RPC's. Raises FrameError."""
    if not isinstance(frame, dict) or ("result" in frame and "error" in frame):
        raise FrameError("frame.object", "An answer is a JSON object with a result or an error.")
    _refuse_look_alikes(frame, _ENVELOPE_FOLDED)
    return frame


def list_answer(line: bytes) -> tuple[Any, bytes]:
    """A list that a server answers with, and its line, in the one reading that it has; without the entries that hold
    half of a surrogate pair, for which many a reader refuses the others too. Raises WireError.
    """
    try:
        return wire.strict_json(line), line
    except WireError:
        frame = _with_halves(line)
        if not isinstance(frame, dict) or not isinstance(frame.get("result"), dict):
            raise
    result = frame["result"].items()
    kept = {name: list(filter(_is_whole, value)) if isinstance(value, list) else value for name, value in result}
    line = wire.dump({**frame, "result": kept})
    return wire.strict_json(line), line


def _with_halves(line: bytes) -> Any:
    """The value of a line in the one reading that it has, in which half of a surrogate pair may stand: it misleads
    nobody, and is in many servers' texts. Raises WireError.
    """
    try:
        return wire.strict_json(line)
    except WireError as error:
        if error.code != "json.surrogate":  # which is looked for last
            raise
        return json.loads(line)


def without_halves(line: bytes) -> bytes:
    """A line of which nothing is wrong but half of a surrogate pair, for readers that refuse that: `?` in its place."""
    return json.dumps(json.loads(line), ensure_ascii=False).encode(errors="replace")


def _is_whole(value: Any) -> bool:
    try:
        wire.check_surrogates(value)
    except WireError:
        return False
    return True


def error_code(error: FrameError) -> int:
    """JSON-RPC's own code for a frame that is refused."""
    return PARSE_ERROR if error.code in {"frame.syntax", "frame.utf8"} else INVALID_REQUEST


def server_frame(line: bytes) -> dict[str, Any] | None:
    """The frame on a line that the child sent, or None: what is no request and no answer does not reach the client.

    A frame with a method gets the strict pass, so that no request hides behind a duplicate member, and no answer behind
    a request.
    """
    try:
        frame = json.loads(line)
        if not isinstance(frame, dict):
            return None
        if "method" in frame:
            return server_request(line)
        _refuse_look_alikes(frame, _ENVELOPE_FOLDED)
    except (ValueError, RecursionError, WireError, FrameError):
        return None
    return frame


def server_request(line: bytes) -> dict[str, Any]:
    """A server's request or notification, which nobody takes for an answer. Raises WireError, FrameError."""
    frame: dict[str, Any] = wire.strict_json(line)
    _refuse_look_alikes(frame, _ENVELOPE_FOLDED)
    if not isinstance(frame["method"], str) or "result" in frame or "error" in frame:
        raise FrameError("frame.method", "A request names a method, and answers nothing.")
    return frame


def may_hide_a_request(line: bytes) -> bool:
    """Whether one reader of an answer could find in it what the server asks of the client, and another one nothing."""
    has_escapes = b"\\" in line and b"\\u00" in line  # letters may be written as those; one byte is found much faster
    may_ask = has_escapes or b"inputRequests" in line
    return may_ask and is_ambiguous(line)


def is_ambiguous(line: bytes) -> bool:
    """Whether two readers of an answer could read different ones."""
    try:
        only_reading(_with_halves(line))
    except (WireError, FrameError):
        return True
    return False


def id_key(frame_id: Any) -> str | tuple[float] | None:
    """What identifies an id among open requests: JSON's `1` and `1.0` are one number, and MCP's SDKs take `"1"` for it.

    None: not an id.
    """
    if isinstance(frame_id, str):
        return (int(frame_id),) if _is_number(frame_id) else frame_id
    # Beyond that a whole number is no float, with which JSON's readers compare it.
    if isinstance(frame_id, (int, float)) and not isinstance(frame_id, bool) and abs(frame_id) < _MOST_ID:
        return (frame_id,)
    return None


def own_id() -> str:
    """The id of a request of our own: none of the client's."""
    return f"percall-{os.urandom(9).hex()}"


def _is_number(text: str) -> bool:
    return len(text) < _MOST_DIGITS and text.isascii() and text.isdigit() and str(int(text)) == text


def id_of_dropped(head: bytes, tail: bytes) -> str | tuple[float] | None:
    """`id_key` of an answer of which only the ends are here, or can be read; None where its id stands in neither."""
    return id_key(_id_at_the_ends(head, tail, of_request=False))


def id_of_refused(error: FrameError, head: bytes, tail: bytes) -> str | int | None:
    """The id of a client's frame that is refused, from `head` to `tail`; None where its readers could differ.

    A request's alone: an answer of the client's bears an id of the server's, which may be one of its own as well.
    """
    return _id_at_the_ends(head, tail, of_request=True) if error.code in _ONE_ID else None


def _id_at_the_ends(head: bytes, tail: bytes, *, of_request: bool) -> str | int | None:
    """The id of a frame, which names a method if it is a request's.

    It stands before all that the frame has to say, or after it, and nowhere else: in between, an id is somebody's.
    """
    import re  # noqa: PLC0415 - loaded long ago by the dataclasses of `wire`

    plain = rb'\s*"(id|jsonrpc|method)"\s*:\s*(-?(?:0|[1-9]\d{0,19})|"[^"\\\x00-\x1f\x80-\xff]*")\s*'
    ends = (
        re.match(rb"\s*\{(?:" + plain + rb",)*", head[:_KEPT_OF_DROPPED]),
        re.search(rb"(?:," + plain + rb")*\}\s*$", tail[-_KEPT_OF_DROPPED:]),
    )
    members = [member for end in ends if end for member in re.findall(plain, end[0])]
    ids = {value for name, value in members if name == b"id"}
    is_request = any(name == b"method" for name, _ in members)
    return json.loads(ids.pop()) if len(ids) == 1 and is_request is of_request else None


def meta(frame: dict[str, Any]) -> dict[str, Any]:
    """The frame's `params._meta`, empty when there is none."""
    params = frame.get("params")
    found = params.get("_meta") if isinstance(params, dict) else None
    return found if isinstance(found, dict) else {}


def traceparent(frame: dict[str, Any]) -> str | None:
    """Which span a request belongs to, as its `_meta` says (SEP-414)."""
    return checked_traceparent(meta(frame).get("traceparent"))


def checked_traceparent(value: Any) -> str | None:
    """The value where it could be a `traceparent` (W3C Trace Context); what it means, whoever traces finds out."""
    if not isinstance(value, str) or len(value) != _TRACEPARENT_CHARACTERS or not value.isascii():
        return None
    return value if value.replace("-", "").isalnum() else None


def is_modern(frame: dict[str, Any]) -> bool:
    """Whether a request is of the stateless 2026-07-28 revision."""
    return MODERN in meta(frame)


def client_info(frame: dict[str, Any]) -> str:
    """The client's name and version as it claims them, in either era; empty when the frame does not say."""
    params = frame.get("params")
    info = params.get("clientInfo") if isinstance(params, dict) and frame.get("method") == "initialize" else None
    if info is None:
        info = meta(frame).get(CLIENT_INFO)
    if not isinstance(info, dict):
        return ""
    words = [info.get(name) for name in ("name", "version")]
    return " ".join(word for word in words if isinstance(word, str))[:200]


def _refuse_look_alikes(members: dict[str, Any], known: dict[str, str]) -> None:
    for name in members:
        exact = known.get(name) or known.get(name.casefold())
        if exact is not None and exact != name:
            raise FrameError(
                "frame.case", f"{name!r} looks like {exact!r}.", "Some servers would take one for the other."
            )
