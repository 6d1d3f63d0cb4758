"""POST, GET and DELETE /mcp/{server}: a remote MCP server, as a client of streamable HTTP sees it.

A plain ASGI callable around `pipeline.relay`. What is refused once a request could be read is answered as JSON-RPC, so
that the model, or the client, reads why; everything else is an HTTP error like at every other door.
"""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

from percall import wire
from percall.rpc import refusals
from percall_broker.asgi import answer, read_body, signed_request
from percall_broker.model.errors import BrokerError, Forbidden, InvalidInput, NotFound, Unauthenticated, refusal
from percall_broker.pipeline.relay import Asked
from percall_broker.relay import heads
from percall_broker.relay.exchange import Exchange
from percall_broker.stages.message import HeaderMismatch, MethodNotFound

if TYPE_CHECKING:
    from percall_broker.asgi import Message as AsgiMessage
    from percall_broker.asgi import Receive, Send
    from percall_broker.outbound.streams import OpenStreams
    from percall_broker.outbound.upstream import Upstream
    from percall_broker.pipeline.relay import Permitted, RelayPipeline, Seen
    from percall_broker.stages.message import Message

_METHODS = frozenset({"POST", "GET", "DELETE"})
_CLIENT = wire.HEADER_CLIENT.encode()
_TRACEPARENT = b"traceparent"
_SESSION = wire.HEADER_SESSION.encode()
HEADER_MISMATCH = -32020
"""The specification's own code for headers that say another thing than the body."""


class RelayDoor:
    """The ASGI callable. `public_url` is the broker's, from its configuration."""

    def __init__(self, pipeline: RelayPipeline, upstream: Upstream, streams: OpenStreams, public_url: str) -> None:
        self._pipeline = pipeline
        self._upstream = upstream
        self._streams = streams
        self._public_url = public_url

    async def __call__(self, scope: AsgiMessage, receive: Receive, send: Send) -> None:
        """One request. Raises BrokerError before anything is answered."""
        method = scope["method"]
        if method not in _METHODS or scope["query_string"]:
            raise InvalidInput("request.method", f"{method[:16]}, or a query, is not answered here.")
        headers = heads.of_client(method, scope["headers"], self._public_url)
        self._pipeline.admit(signed_request(scope, b""))
        body = await read_body(receive, wire.MAX_FRAME_BYTES if method == "POST" else 0)
        client, session = (_said(scope, name) for name in (_CLIENT, _SESSION))
        server = scope["path"].removeprefix(wire.PATH_RELAY)
        traceparent = next((value.decode("latin-1") for name, value in scope["headers"] if name == _TRACEPARENT), None)
        asked = Asked(signed_request(scope, body), server, headers, body, client, session, time.time(), traceparent)
        said = self._pipeline.read(asked)

        async def forward(permitted: Permitted, seen: Seen) -> None:
            await Exchange(self._pipeline, self._upstream, self._streams, permitted, seen, method, receive, send)()

        try:
            await self._pipeline(asked, said, forward)
        except (Unauthenticated, NotFound):
            raise
        except BrokerError as error:
            if said is None or said.id is None:
                raise
            await _refuse(send, said, error)


async def _refuse(send: Send, said: Message, error: BrokerError) -> None:
    codes: dict[type[BrokerError], int] = {HeaderMismatch: HEADER_MISMATCH, MethodNotFound: refusals.METHOD_NOT_FOUND}
    if type(error) in codes:
        await answer(send, error.status, refusals.error_line(said.id, codes[type(error)], refusal(error)).rstrip(b"\n"))
    else:
        asking = error.approval if isinstance(error, Forbidden) else None
        more = [(wire.HEADER_APPROVAL.encode(), _ascii(wire.encode(asking)))] if asking else None
        await answer(send, 200, refusals.answer(said.value, refusal(error)).rstrip(b"\n"), headers=more)


def _ascii(members: dict[str, Any]) -> bytes:
    """JSON that a header can hold."""
    return json.dumps(members).encode()


def _said(scope: AsgiMessage, header: bytes) -> str:
    """What a laptop says in a header of ours; empty where it says nothing."""
    return next((bytes(value) for name, value in scope["headers"] if name == header), b"").decode("latin-1")
