"""What the plain ASGI doors share: reading a bounded body, whose signature a request carries, and answering in JSON.

No web framework stands on the path of a call: this is all of HTTP that it needs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

import structlog

from percall import wire
from percall.errors import WireError
from percall_broker.crypto.proofs import digest
from percall_broker.model.errors import BrokerError, InvalidInput, TooMany, Unauthenticated
from percall_broker.stages.authenticate import SignedRequest

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from percall_broker.crypto.tokens import Nonces

    Message = dict[str, Any]
    Receive = Callable[[], Awaitable[Message]]
    Send = Callable[[Message], Awaitable[None]]
    Headers = list[tuple[bytes, bytes]]
    Door = Callable[[Message, Receive, Send], Awaitable[None]]

T = TypeVar("T")
JSON = b"application/json"
_VERSION = wire.HEADER_VERSION.encode()
_PRESENCE = wire.HEADER_PRESENCE.encode()
_ONCE = frozenset({b"authorization", b"dpop", _VERSION, _PRESENCE})


log = structlog.get_logger()
_SERVER_ERROR = 500


class ClientGone(Exception):  # noqa: N818 - what happened
    """The client went away before its request was complete: nobody waits for an answer."""


async def read_body(receive: Receive, limit: int) -> bytes:
    """The whole body. Raises InvalidInput when it is longer than `limit`, ClientGone."""
    message = await receive()
    if message["type"] == "http.request" and not message.get("more_body", False):
        body: bytes = message.get("body", b"")
        if len(body) > limit:
            raise _too_long(limit)
        return body
    pieces = []
    size = 0
    while True:
        if message["type"] != "http.request":
            raise ClientGone
        piece = message.get("body", b"")
        size += len(piece)
        if size > limit:
            raise _too_long(limit)
        pieces.append(piece)
        if not message.get("more_body", False):
            return b"".join(pieces)
        message = await receive()


def read_first(inside: Door, limit: int) -> Door:
    """A door whose request is here, and bounded, before a framework looks at it."""

    async def door(scope: Message, receive: Receive, send: Send) -> None:
        body: bytes | None = await read_body(receive, limit)

        async def replayed() -> Message:
            nonlocal body
            if body is None:
                return await receive()
            whole, body = body, None
            return {"type": "http.request", "body": whole, "more_body": False}

        await inside(scope, replayed, send)

    return door


def _too_long(limit: int) -> InvalidInput:
    return InvalidInput("request.size", f"The request's body is longer than {limit} bytes.")


def read_message(kind: type[T], body: bytes) -> T:
    """A message of the wire from a whole body. Raises InvalidInput."""
    try:
        return wire.decode(kind, wire.strict_json(body))
    except WireError as error:
        raise InvalidInput(error.code, error.message) from None


def read_parts(kind: type[T], body: bytes) -> tuple[T, bytes]:
    """A message of the wire, and the bytes that follow it. Raises InvalidInput."""
    try:
        head, rest = wire.split(body)
        return wire.decode(kind, head), rest
    except WireError as error:
        raise InvalidInput(error.code, error.message) from None


def signed_request(scope: Message, body: bytes) -> SignedRequest:
    """What a request says of its signature. Raises InvalidInput when it shows two."""
    return signed_head(scope, digest(body))


def signed_head(scope: Message, body_digest: str) -> SignedRequest:
    """The same where the body is elsewhere, or, with an empty digest, still to come. Raises InvalidInput."""
    headers: dict[bytes, bytes] = {}
    for name, value in scope["headers"]:
        if name in _ONCE:
            if name in headers:
                raise InvalidInput("request.header", "The request shows two proofs or two grants.")
            headers[name] = value
    return SignedRequest(
        method=scope["method"],
        path=scope["path"],
        body_digest=body_digest,
        version=headers.get(_VERSION, b"").decode("latin-1"),
        authorization=headers.get(b"authorization", b"").decode("latin-1"),
        proof=headers.get(b"dpop", b"").decode("latin-1"),
        presence=headers.get(_PRESENCE, b"").decode("latin-1"),
    )


async def answer(
    send: Send, status: int, body: bytes, content_type: bytes = JSON, headers: Headers | None = None
) -> None:
    """A whole answer."""
    own = [
        (b"content-type", content_type),
        (b"content-length", b"%d" % len(body)),
        (b"cache-control", b"no-store"),
    ]
    if headers:
        own += headers
    await send({"type": "http.response.start", "status": status, "headers": own})
    await send({"type": "http.response.body", "body": body})


async def answer_message(send: Send, message: object) -> None:
    """A whole answer that is a message of the wire."""
    await answer(send, 200, wire.dump(wire.encode(message)))


class ErrorAnswers:
    """How an error is answered, at every door: JSON with a stable code, and the challenge where one is due.

    `note` is told of each, and from where it came: it logs what was an attack, and says whether it was. `stranger` is
    told of each request that tried to be authenticated and was not, and of each of a version that nobody speaks, which
    was not either; it says from where they came.
    """

    def __init__(
        self,
        nonces: Nonces,
        clock: Callable[[], float],
        note: Callable[[BrokerError, str], bool] = lambda *_: False,
        stranger: Callable[[], str] = lambda: "",
    ) -> None:
        self._nonces = nonces
        self._clock = clock
        self._note = note
        self._stranger = stranger

    def of(self, error: BrokerError) -> tuple[int, Headers, bytes]:
        """Status, headers and body. What a stranger tried, and what we could not do, goes into the process's log."""
        stranger = isinstance(error, Unauthenticated) and error.challenge != wire.NONCE_CHALLENGE and error.tried
        address = self._stranger() if stranger or error.code == "wire.version" else ""
        if self._note(error, address):
            pass
        elif stranger:
            log.warning("not authenticated", code=error.code, address=address)
        elif error.code == "wire.version":
            log.warning("not of a version that is served", message=error.message, address=address)
        elif error.status >= _SERVER_ERROR:
            log.error("not answered", code=error.code, message=error.message)
        body = wire.dump({"error": {"code": error.code, "message": error.message, "next_step": error.next_step}})
        headers = [
            (b"content-type", JSON),
            (b"content-length", b"%d" % len(body)),
            (b"cache-control", b"no-store"),
        ]
        if isinstance(error, Unauthenticated):
            headers.append((b"www-authenticate", f'DPoP error="{error.challenge}"'.encode()))
            if error.challenge == wire.NONCE_CHALLENGE:
                headers.append((wire.HEADER_NONCE.encode(), self._nonces.current(self._clock()).encode()))
        if isinstance(error, TooMany):
            headers.append((b"retry-after", b"%d" % error.seconds))
        return error.status, headers, body

    async def send(self, send: Send, error: BrokerError) -> None:
        """Answers with an error."""
        status, headers, body = self.of(error)
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})
