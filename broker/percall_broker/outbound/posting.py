"""One POST to an address that is checked like an upstream's: https to public ones, http to loopback alone.

Over connections of its own, and cut after a few seconds: whoever hangs holds up nobody else.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from percall import __version__
from percall_broker.model.errors import InvalidInput, UpstreamFailed
from percall_broker.model.rules import is_loopback_name, parse_url
from percall_broker.outbound.network import Deadlines
from percall_broker.outbound.streams import Use
from percall_broker.outbound.upstream import Upstream, in_one_piece

if TYPE_CHECKING:
    from percall_broker.model.rules import Target

SECONDS = 5.0
"""For all of it: name, connection, TLS, request, and the head of the answer. Its body is not read."""


def checked(url: str) -> Target:
    """An address that may be posted to. Raises InvalidInput."""
    try:
        target = parse_url(url)
    except InvalidInput as error:
        raise InvalidInput(error.code, error.message, "Give an https URL.") from None
    if target.scheme == "http" and not is_loopback_name(target.host):
        raise InvalidInput("webhook.url", "http is for loopback alone.", "Give an https URL.")
    return target


class Posting:
    """Posts. One for each process."""

    def __init__(self, upstream: Upstream | None = None) -> None:
        self._upstream = upstream or Upstream(deadlines=Deadlines(SECONDS, SECONDS, SECONDS, SECONDS))

    async def post(self, url: str, headers: list[tuple[bytes, bytes]], body: bytes) -> int:
        """The status of the answer; redirects are not followed. Raises UpstreamFailed, InvalidInput."""
        target = checked(url)
        whole = [
            (b"host", target.authority.encode()),
            (b"content-type", b"application/json"),
            (b"content-length", b"%d" % len(body)),
            (b"user-agent", f"percall/{__version__}".encode()),
            *headers,
        ]
        try:
            async with (
                asyncio.timeout(SECONDS),
                self._upstream.send("POST", target, whole, in_one_piece(body), {}, use=Use("", url)) as came,
            ):
                return came.status
        except TimeoutError:
            raise UpstreamFailed("upstream.timeout", f"No answer within {SECONDS:.0f} seconds.") from None

    async def close(self) -> None:
        """Lets go of every connection."""
        await self._upstream.close()
