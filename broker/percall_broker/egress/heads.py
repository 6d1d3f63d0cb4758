"""The headers that travel between child and upstream: what belongs to a connection or to the caller stays behind.

Framing is always our own: the length of the body that we send, and no encoding but identity.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from percall import wire
from percall_broker.model.errors import Forbidden, InvalidInput, Unavailable, UpstreamFailed

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from percall_broker.outbound.redaction import Redactor

Headers = tuple[tuple[str, str], ...]

MAX_HEADERS = 128

_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,128}")
_VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]*")

HOP_BY_HOP = frozenset({
    "connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "proxy-connection", "te", "trailer",
    "transfer-encoding", "upgrade", "http2-settings",
})  # fmt: skip

# Who the caller is towards someone else; and what would change where an answer comes from or how it is read.
_NEVER_SENT = HOP_BY_HOP | {
    "host", "content-length", "expect", "accept-encoding", "cookie", "cookie2", "dpop", wire.HEADER_VERSION,
    "forwarded", "via", "x-forwarded-for", "x-forwarded-host", "x-forwarded-port", "x-forwarded-prefix",
    "x-forwarded-proto", "x-forwarded-server", "x-real-ip", "true-client-ip", "cf-connecting-ip",
    # A part of an answer may hold a part of the key, which nobody would recognise; nor the key in UTF-16 or a delta.
    "range", "if-range", "accept-charset", "a-im",
}  # fmt: skip

_NEVER_RETURNED = HOP_BY_HOP | {"set-cookie", "set-cookie2", "alt-svc", "content-encoding", wire.HEADER_NONCE}

# Servers that know these read a POST as a DELETE, or another path than the request's: the rules would decide on
# something else than the upstream does.
_OVERRIDES = frozenset({
    "x-http-method-override", "x-http-method", "x-method-override", "x-original-method", "x-original-url",
    "x-rewrite-url",
})  # fmt: skip

# The other way to ask for UTF-16, which frameworks grant.
_CHARSET = re.compile(r";[ \t]*charset[ \t]*=[^;,]*", re.IGNORECASE)

_SINGLE = frozenset({"authorization", "content-type", "content-length", "host"})


def check(headers: Iterable[tuple[str, str]]) -> None:
    """Refuses a request's headers that could be read in two ways. Raises InvalidInput, Forbidden."""
    seen: set[str] = set()
    count = 0
    for name, value in headers:
        count += 1
        lower = _plain(name)
        if not _NAME.fullmatch(name) or not _VALUE.fullmatch(value):
            raise InvalidInput("request.header", "A header of the request is malformed.")
        if lower in _SINGLE and lower in seen:
            raise InvalidInput("request.header", f"The request has the header {name!r} twice.")
        if lower in _OVERRIDES:
            raise Forbidden("request.override", f"The header {name!r} would change what was decided on.")
        seen.add(lower)
    if count > MAX_HEADERS:
        raise InvalidInput("request.header", f"The request has more than {MAX_HEADERS} headers.")
    if {"content-length", "transfer-encoding"} <= seen:
        raise InvalidInput("request.framing", "The request has both a length and a transfer encoding.")


def to_upstream(headers: Headers, *, authority: str, body_length: int, has_body: bool) -> list[tuple[bytes, bytes]]:
    """What the upstream receives: our framing, no cookies, no identity but what a slot holds. Raises Unavailable."""
    named = _named_by_connection(headers)
    sent = [(b"host", authority.encode("ascii")), (b"accept-encoding", b"identity")]
    for name, value in headers:
        if _plain(name) in _NEVER_SENT or name.lower() in named:
            continue
        if not _VALUE.fullmatch(value):  # the child's own were checked: this one has the key in it
            raise Unavailable("credential.form", "The stored key cannot stand in a header.", "Rotate the key.")
        asked = _CHARSET.sub("", value) if _plain(name) == "accept" else value
        sent.append((name.encode("ascii"), asked.strip(" \t").encode("latin-1")))
    if has_body:
        sent.append((b"content-length", str(body_length).encode()))
    return sent


def to_child(headers: Sequence[tuple[bytes, bytes]], redactor: Redactor) -> Headers:
    """What the child receives, redacted. Raises UpstreamFailed for an encoding other than identity."""
    texts = tuple((name.decode("latin-1"), value.decode("latin-1")) for name, value in headers)
    named = _named_by_connection(texts)
    answer = []
    for name, value in texts:
        lower = name.lower()
        if lower == "content-encoding" and value.strip().lower() not in {"", "identity"}:
            raise UpstreamFailed(
                "upstream.encoding", "The upstream sent an encoded answer, in which the key could not be struck out."
            )
        if lower not in _NEVER_RETURNED and lower not in named:
            answer.append((redactor.text(name), redactor.text(value)))
    return tuple(answer)


def _plain(name: str) -> str:
    """A header's name as gateways in the manner of CGI know it, to which `X_A` and `x-a` are one."""
    return name.lower().replace("_", "-")


def _named_by_connection(headers: Iterable[tuple[str, str]]) -> set[str]:
    return {
        token.strip().lower() for name, value in headers if name.lower() == "connection" for token in value.split(",")
    } - {"authorization", "content-type"}
