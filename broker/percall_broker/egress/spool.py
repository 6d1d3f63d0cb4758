"""A request's body, kept until its digest is known: 1 MiB in memory, then a file that has no name any more."""

from __future__ import annotations

import hashlib
import tempfile
from typing import TYPE_CHECKING, Any, Self

from percall import wire
from percall.errors import WireError
from percall_broker.asgi import ClientGone
from percall_broker.crypto import base64url
from percall_broker.model.errors import InvalidInput, Unavailable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from types import TracebackType

MEMORY_BYTES = 1024 * 1024
MAX_BYTES = wire.MAX_EGRESS_BODY_BYTES + wire.MAX_HEAD_BYTES + 1
PIECE_BYTES = 256 * 1024


class Spool:
    """A whole message as it came: its digest, its head, and the bytes that follow it."""

    def __init__(self) -> None:
        # Its file, when it comes to one, is unlinked from the start; no name, so nothing to clean up.
        self._file = tempfile.SpooledTemporaryFile(max_size=MEMORY_BYTES)  # noqa: SIM115 - closed in __exit__
        self._digest = hashlib.sha256()
        self._size = 0
        self._body_at = 0

    def __enter__(self) -> Self:
        """Use in a `with` block."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Forgets the bytes."""
        self._file.close()

    async def fill(self, receive: Callable[[], Awaitable[dict[str, Any]]]) -> None:
        """Takes in an ASGI request's body. Raises InvalidInput, Unavailable (disk), ClientGone."""
        more = True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise ClientGone
            piece = message.get("body", b"")
            self._size += len(piece)
            if self._size > MAX_BYTES:
                raise InvalidInput("request.size", f"A body may have {wire.MAX_EGRESS_BODY_BYTES} bytes at most.")
            self._digest.update(piece)
            try:
                self._file.write(piece)
            except OSError:
                raise Unavailable("broker.disk", "The broker has no room for the request's body.") from None
            more = message.get("more_body", False)

    @property
    def digest(self) -> str:
        """SHA-256 of all of it, in base64url without padding."""
        return base64url.encode(self._digest.digest())

    def head(self) -> dict[str, Any]:
        """The message's head. Raises InvalidInput."""
        self._file.seek(0)
        start = self._file.read(wire.MAX_HEAD_BYTES + 1)
        try:
            head, rest = wire.split(start)
        except WireError as error:
            raise InvalidInput(error.code, error.message) from None
        self._body_at = len(start) - len(rest)
        return head

    @property
    def body_length(self) -> int:
        """How many bytes follow the head."""
        return self._size - self._body_at

    def body(self) -> bytes:
        """All that follows the head."""
        self._file.seek(self._body_at)
        return self._file.read()

    async def pieces(self) -> AsyncIterator[bytes]:
        """What follows the head, piece by piece."""
        self._file.seek(self._body_at)
        while piece := self._file.read(PIECE_BYTES):
            yield piece
