"""Where a request of the child wants to go, and whether it may use the listener at all.

It shows a path secret, the proxy's credentials or this child's placeholder; any local process could connect, and only
the child knows these. Secrets are compared in constant time.
"""

from __future__ import annotations

import base64
import binascii
import hmac
from dataclasses import dataclass
from typing import TYPE_CHECKING

from percall.egress import ways
from percall.egress.origins import parse_authority
from percall.errors import PercallError, WireError

if TYPE_CHECKING:
    from percall.egress.listener import Listener
    from percall.egress.origins import Origin
    from percall.egress.request_head import RequestHead


class Refused(PercallError):  # noqa: N818 - an answer, not a failure of ours
    """A request that the listener itself refuses, with the status that the child sees."""

    def __init__(self, status: int, code: str, message: str, next_step: str = "") -> None:
        super().__init__(code, message, next_step)
        self.status = status


@dataclass(frozen=True, slots=True)
class Destination:
    """An origin, and the path and query there. `is_base_url`: a base URL of the listener's stood for the origin."""

    origin: Origin
    path: str
    is_base_url: bool = False

    @property
    def url(self) -> str:
        """The absolute URL, as the child meant it."""
        return f"{self.origin}{self.path}"


def _same(given: str, expected: str) -> bool:
    return hmac.compare_digest(given.encode("utf-8", "replace"), expected.encode())


def shows_proxy_credentials(listener: Listener, head: RequestHead) -> bool:
    """Whether Proxy-Authorization holds the proxy's secret."""
    scheme, _, value = (head.header("proxy-authorization") or "").partition(" ")
    return scheme.lower() == "basic" and _same(_from_base64(value.strip()).partition(":")[2], listener.proxy_secret)


def _from_base64(text: str) -> str:
    try:
        return base64.b64decode(text, validate=True).decode("utf-8", "replace")
    except (binascii.Error, ValueError):
        return ""


def shows_placeholder(listener: Listener, head: RequestHead) -> bool:
    """Whether the placeholder stands in a header (also within basic credentials) or in the target."""
    placeholder = listener.placeholder
    if not placeholder:
        return False
    texts = [head.target]
    for name, value in head.headers:
        scheme, _, rest = value.partition(" ")
        texts.append(_from_base64(rest.strip()) if name == "authorization" and scheme.lower() == "basic" else value)
    found = False
    for text in texts:
        for start in _starts(text, placeholder[:1]):
            found |= _same(text[start : start + len(placeholder)], placeholder)
    return found


def _starts(text: str, character: str) -> list[int]:
    return [index for index, found in enumerate(text) if found == character]


def is_origin_form(head: RequestHead) -> bool:
    """Whether the target is a path alone."""
    return head.target.startswith("/")


def by_path(listener: Listener, head: RequestHead, target: str) -> Destination:
    """`/SECRET/host/path`; or, where the server kept only a base URL's host, a path that shows the placeholder.

    Raises Refused, WireError.
    """
    secret, _, rest = target[1:].partition("/")
    is_base_url = _same(secret, listener.base_url_secret)
    if is_base_url or _same(secret, listener.preload_secret):
        authority, path = _parted(rest)
        scheme = "http" if authority.startswith("http:") else "https"
        return Destination(parse_authority(scheme, authority.removeprefix("http:")), path, is_base_url)
    bases = ways.base_url_origins(listener.entry.environment)
    if len(bases) == 1 and shows_placeholder(listener, head):
        return Destination(bases.pop(), target, is_base_url=True)
    raise Refused(
        403,
        "egress.secret",
        "This listener serves one MCP server's own requests; this request did not show that it is one of them.",
        "Use the base URL, proxy or preload that Percall put into the server's environment, unchanged.",
    )


def by_absolute_url(head: RequestHead, scheme: str, rest: str) -> Destination:
    """`POST https://host/path` sent to a proxy in clear. Raises Refused, WireError."""
    authority, path = _parted(rest)
    origin = parse_authority(scheme, authority)
    host = head.header("host")
    if host is not None and parse_authority(scheme, host) != origin:
        raise WireError("http.ambiguous", "The request is refused: its Host contradicts its target.")
    return Destination(origin, path)


def _parted(rest: str) -> tuple[str, str]:
    """The authority, and the path with the query, of what stands behind `https://`."""
    end = next((index for index, character in enumerate(rest) if character in "/?"), len(rest))
    path = rest[end:]
    return rest[:end], path if path.startswith("/") else f"/{path}"


def in_tunnel(head: RequestHead, origin: Origin) -> Destination:
    """A request inside a CONNECT whose TLS ended here. Raises Refused, WireError."""
    if not is_origin_form(head):
        raise WireError("http.ambiguous", "The request is refused: its target inside a tunnel is not a path.")
    host = head.header("host")
    if host is None or parse_authority(origin.scheme, host) != origin:
        raise WireError("http.ambiguous", "The request is refused: its Host is not the host of its tunnel.")
    return Destination(origin, head.target)
