"""GET /v1/nonce: a nonce for a first signed request, as ACME's newNonce gives one (RFC 8555, section 7.2).

Without it that request is refused and sent again (RFC 9449, section 8), which costs a round trip and a signature.
Anybody may have one: it says what time it is here, and opens nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from percall import wire

if TYPE_CHECKING:
    from collections.abc import Callable

    from percall_broker.asgi import Message, Receive, Send
    from percall_broker.crypto.tokens import Nonces

_NONCE = wire.HEADER_NONCE.encode()


class NonceDoor:
    """Answers with this minute's nonce."""

    def __init__(self, nonces: Nonces, clock: Callable[[], float]) -> None:
        self._nonces = nonces
        self._clock = clock

    async def __call__(self, _scope: Message, _receive: Receive, send: Send) -> None:
        """One request."""
        headers = [(_NONCE, self._nonces.current(self._clock()).encode()), (b"cache-control", b"no-store")]
        await send({"type": "http.response.start", "status": 204, "headers": headers})
        await send({"type": "http.response.body", "body": b""})
