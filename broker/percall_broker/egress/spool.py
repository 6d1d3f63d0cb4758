"""A request's body, kept until its digest is known: 1 MiB in memory, then a file that has no name any more."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

from percall import wire
from percall.errors import WireError
from percall_broker.asgi import ClientGone
from percall_broker.crypto import base64url
from percall_broker.held import Held
from percall_broker.model.errors import InvalidInput

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

MEMORY_BYTES = 1024 * 1024
MAX_BYTES = wire.MAX_EGRESS_BODY_BYTES + wire.MAX_HEAD_BYTES + 1
PIECE_BYTES = 256 * 1024


class Spool(Held):
    """A whole message as it came: its digest, its head, and the bytes that follow it."""

    def __init__(self) -> None:
        super().__init__("the request's body", MEMORY_BYTES)
        self._digest = hashlib.sha256()
        self._body_at = 0

    async def fill(self, receive: Callable[[], Awaitable[dict[str, Any]]]) -> None:
        """Takes in an ASGI request's body. Raises InvalidInput, Unavailable (disk), ClientGone."""
        more = True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise ClientGone
            piece = message.get("body", b"")
            if self.size + len(piece) > MAX_BYTES:
                raise InvalidInput("request.size", f"A body may have {wire.MAX_EGRESS_BODY_BYTES} bytes at most.")
            self._digest.update(piece)
            self.add(piece)
            more = message.get("more_body", False)

    @property
    def digest(self) -> str:
        """SHA-256 of all of it, in base64url without padding."""
        return base64url.encode(self._digest.digest())

    def head(self) -> dict[str, Any]:
        """The message's head. Raises InvalidInput."""
        start = self.beginning(wire.MAX_HEAD_BYTES + 1)
        try:
            head, rest = wire.split(start)
        except WireError as error:
            raise InvalidInput(error.code, error.message) from None
        self._body_at = len(start) - len(rest)
        return head

    @property
    def body_length(self) -> int:
        """How many bytes follow the head."""
        return self.size - self._body_at

    def body(self) -> bytes:
        """All that follows the head."""
        return self.whole(self._body_at)

    async def body_pieces(self) -> AsyncIterator[bytes]:
        """What follows the head, piece by piece."""
        for piece in self.pieces(self._body_at, PIECE_BYTES):
            yield piece
