"""The headers of a relayed request and its answer: MCP's own travel, everything else stays where it is.

So no credential, cookie or address of the caller's reaches an upstream, and no cookie or challenge of an upstream's
reaches the caller.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from percall.rpc.http_headers import BOTH, EVENTS, JSON, METHOD, NAME, PARAMETER, RESUME, SESSION, VERSION
from percall_broker.model.errors import Forbidden, InvalidInput, UpstreamFailed

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from percall_broker.outbound.upstream import UpstreamAnswer
    from percall_broker.pipeline.relay import Permitted

_TRAVEL = frozenset({"accept", VERSION, METHOD, NAME, SESSION, RESUME})
_VALUE = re.compile(r"[\x20-\x7e]{0,8192}")
_MAX_HEADERS = 128


def of_client(method: str, headers: Iterable[tuple[bytes, bytes]], origin: str) -> dict[str, str]:
    """MCP's own headers of a client's request. Raises InvalidInput, Forbidden for a page of another site."""
    found: dict[str, str] = {}
    for at, (raw_name, raw_value) in enumerate(headers):
        name, value = raw_name.decode("latin-1"), raw_value.decode("latin-1")
        if at >= _MAX_HEADERS:
            raise InvalidInput("request.header", f"The request has more than {_MAX_HEADERS} headers.")
        if name == "origin" and value != origin:
            raise Forbidden("request.origin", "The request comes from a page of another site.")
        if name in {"content-encoding", "transfer-encoding"} and value.lower() not in {"identity", "chunked"}:
            raise InvalidInput("request.encoding", "The request's body is encoded.")
        if name not in _TRAVEL and not name.startswith(PARAMETER):
            continue
        if name in found:
            raise InvalidInput("request.header", f"The request has the header {name!r} twice.")
        if not _VALUE.fullmatch(value):
            raise InvalidInput("request.header", f"The header {name!r} is malformed.")
        found[name] = value
    if RESUME in found and method != "GET":
        # Its answer would be taken for the rest of the one that is resumed, and pass by that one's filter.
        raise InvalidInput("request.header", f"A stream is resumed by GET, not by {method}.")
    return found


def to_upstream(permitted: Permitted, method: str) -> list[tuple[bytes, bytes]]:
    """All that the upstream receives: MCP's headers, the key, and framing of our own. SECRET, never log."""
    sent = [("host", permitted.target.authority), ("accept-encoding", "identity"), ("user-agent", "percall")]
    sent += [pair for pair in permitted.headers if pair[0] != "accept" or pair[1]]
    if "accept" not in dict(permitted.headers):
        sent.append(("accept", EVENTS if method == "GET" else BOTH))
    if method == "POST":
        sent += [("content-type", JSON), ("content-length", str(len(permitted.body)))]
    return [(name.encode("ascii"), value.encode("ascii")) for name, value in sent]


def content_type(answer: UpstreamAnswer) -> str:
    """An answer's media type where it is one of MCP's, else empty: the upstream's own words go no further.

    Raises UpstreamFailed for an encoding, in which the key could not be struck out.
    """
    found = ""
    for name, value in answer.headers:
        lower = name.lower()
        if lower == b"content-encoding" and value.strip().lower() not in {b"", b"identity"}:
            raise UpstreamFailed("upstream.encoding", "The server sent an encoded answer, unasked.")
        if lower == b"content-type":
            found = value.decode("latin-1").partition(";")[0].strip().lower()
    return found if found in {JSON, EVENTS} else ""


def session_of(headers: Sequence[tuple[bytes, bytes]]) -> str:
    """The upstream's own id of the session that an answer opens; empty when it opens none. Raises UpstreamFailed."""
    for name, value in headers:
        if name.lower() == SESSION.encode():
            text = value.decode("latin-1").strip()
            if not text or not _VALUE.fullmatch(text) or len(text) > 4096:  # noqa: PLR2004 - sealed, it must still fit a header
                raise UpstreamFailed("upstream.session", "The server named its session in a way that no header can.")
            return text
    return ""


def to_client(content: str, call: str, session: str = "") -> list[tuple[bytes, bytes]]:
    """What the client receives beside the body."""
    headers = [("content-type", content), ("cache-control", "no-store"), ("x-accel-buffering", "no")]
    if call:
        headers.append(("percall-call", call))
    if session:
        headers.append((SESSION, session))
    return [(name.encode(), value.encode("ascii")) for name, value in headers]
