"""The doors to what is a person's own: PUT /v1/presence, a new passphrase. Each needs the person's presence."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from percall import wire
from percall_broker.asgi import answer, read_body, read_message, signed_request

if TYPE_CHECKING:
    from percall_broker.asgi import Message, Receive, Send
    from percall_broker.pipeline.own import Own

_MAX_BYTES = 16 * 1024


class PassphraseDoor:
    """PUT /v1/presence: signed by the device, and by the presence key that the new one takes the place of."""

    def __init__(self, own: Own) -> None:
        self._own = own

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """One request. Raises BrokerError before anything is answered."""
        body = await read_body(receive, _MAX_BYTES)
        new = read_message(wire.PresenceKey, body)
        await self._own.change_passphrase(signed_request(scope, body), new, time.time())
        await answer(send, 200, b"{}")
