"""Step 1 of a relayed request: what one JSON-RPC message of a client is, and whether the headers that repeat it agree.

The same strict reading as the shim's: what two programs could read in two ways is refused, and which methods are
gated is one list for both. The bytes are never changed.
"""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from percall.errors import FrameError
from percall.rpc import frames, gate
from percall.rpc.http_headers import FIRST_STATELESS, METHOD, NAME, NAMED_BY, PARAMETER, VERSION
from percall.rpc.refusals import REMOVED
from percall_broker.model.errors import InvalidInput
from percall_broker.stages import frame

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from percall_broker.stages.frame import Frame

_DATE = re.compile(r"\d{4}-\d{2}-\d{2}")
_ENCODED = re.compile(r"=\?base64\?(.*)\?=")


class HeaderMismatch(InvalidInput):
    """A header says another thing than the body that it repeats."""

    def __init__(self, message: str) -> None:
        super().__init__("request.header_mismatch", message)


class MethodNotFound(InvalidInput):
    """A message of the stateless era asks for what that era no longer has."""

    status = 404

    def __init__(self, method: str) -> None:
        super().__init__("frame.method", f"The revision {FIRST_STATELESS} has no method {method!r}.")


@dataclass(frozen=True, slots=True)
class Message:
    """One message. `kind` is request, notification or response; `frame` is there where it is gated."""

    kind: str
    method: str
    value: dict[str, Any]
    frame: Frame | None = None

    @property
    def id(self) -> Any:
        """What its answer will carry; None where none is due."""
        return self.value.get("id") if self.kind == "request" else None


def read(body: bytes) -> Message:
    """The message of some bytes. Raises InvalidInput (`frame.*`)."""
    try:
        value = frames.client_frame(body)
    except FrameError as error:
        raise InvalidInput(error.code, error.message, error.next_step) from None
    answers = "result" in value or "error" in value
    if "method" not in value:
        if not answers or frames.id_key(value.get("id")) is None:
            raise InvalidInput("frame.method", "The frame names no method and answers nothing.")
        return Message("response", "", value)
    method = value["method"]
    if answers:
        raise InvalidInput("frame.method", "The frame is a request and an answer at once.")
    has_id = frames.id_key(value.get("id")) is not None
    if not gate.is_gated(method) or _is_gone(method, value):
        return Message("request" if has_id else "notification", method, value)
    if not has_id:
        raise InvalidInput("frame.id", f"A {method} request has no id that could be answered.")
    return Message("request", method, value, frame.asked(value, body))


def check_headers(message: Message, headers: Mapping[str, str]) -> None:
    """The headers of the new era against the body that they repeat. Raises HeaderMismatch, and MethodNotFound.

    Whatever stands between would route by the headers, the server acts on the body, and we decided on the body.
    """
    if _is_gone(message.method, message.value):
        raise MethodNotFound(message.method)
    said = headers.get(VERSION, "")
    written = frames.meta(message.value).get(frames.MODERN)
    modern = written is not None or bool(_DATE.fullmatch(said) and said >= FIRST_STATELESS)
    if written is not None and said != written:
        raise HeaderMismatch("The header MCP-Protocol-Version is not the version that the message's _meta names.")
    if (modern and message.kind == "request") or METHOD in headers:
        _must_be(headers.get(METHOD), {message.method}, "Mcp-Method is not the message's method")
    params = message.value.get("params")
    params = params if isinstance(params, dict) else {}
    named = params.get(NAMED_BY.get(message.method, ""))
    if NAME in headers:
        # Extensions name other parameters; a name that stands in none of them is nobody's.
        possible = {named} if named is not None else {value for value in params.values() if isinstance(value, str)}
        _must_be(_decoded(headers[NAME]), possible, "Mcp-Name is not what the message names")
    elif modern and named is not None:
        raise HeaderMismatch("The header Mcp-Name is missing.")
    repeated = [name for name in headers if name.startswith(PARAMETER)]
    if repeated:
        # Which argument a header repeats, only the tool's schema says; but some argument it must be.
        written_arguments = set(_rendered(params.get("arguments")))
        for name in repeated:
            _must_be(_comparable(_decoded(headers[name])), written_arguments, f"{name} is no argument of the call")


def _is_gone(method: str, value: dict[str, Any]) -> bool:
    return method in REMOVED and frames.is_modern(value)


def _must_be(said: str | None, written: set[Any], problem: str) -> None:
    if said is None or said not in written:
        raise HeaderMismatch(f"The header {problem}.")


def _decoded(value: str) -> str:
    """A header's value; the encoded form is for texts that no header can hold."""
    encoded = _ENCODED.fullmatch(value)
    if encoded is None:
        return value
    try:
        return base64.b64decode(encoded[1], validate=True).decode()
    except (binascii.Error, ValueError):
        raise HeaderMismatch("A header's encoded value is not base64 of UTF-8.") from None


def _rendered(value: Any) -> Iterator[str]:
    """Every plain value inside, as a header would say it."""
    if isinstance(value, dict):
        for inner in value.values():
            yield from _rendered(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _rendered(inner)
    elif isinstance(value, bool):
        yield "true" if value else "false"
    elif value is not None:
        yield _comparable(str(value))


def _comparable(text: str) -> str:
    """JSON's 42 and 42.0 are one number."""
    whole, point, fraction = text.partition(".")
    return whole if point and fraction and not fraction.strip("0") and whole.removeprefix("-").isdigit() else text
