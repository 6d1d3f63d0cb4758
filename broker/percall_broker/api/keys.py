"""GET /v1/keys, a person's own keys, and POST /v1/keys, which changes one: no answer ever holds a key."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from percall import wire
from percall_broker.asgi import answer_message, read_body, read_parts, signed_request

if TYPE_CHECKING:
    from percall_broker.asgi import Message, Receive, Send
    from percall_broker.pipeline.personal_keys import PersonalKeys

_MAX_BYTES = 32 * 1024


class KeysDoor:
    """GET: signed by the device."""

    def __init__(self, keys: PersonalKeys) -> None:
        self._keys = keys

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """One request. Raises BrokerError before anything is answered."""
        body = await read_body(receive, 0)
        await answer_message(send, await self._keys.listed(signed_request(scope, body), time.time()))


class KeyChangeDoor:
    """POST: signed by the device, and by the person's presence. Where the change brings a key, it follows the head."""

    def __init__(self, keys: PersonalKeys) -> None:
        self._keys = keys

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """One request. Raises BrokerError before anything is answered."""
        body = await read_body(receive, _MAX_BYTES)
        asked, secret = read_parts(wire.KeyChange, body)
        changed = await self._keys.change(signed_request(scope, body), asked, secret, time.time())
        await answer_message(send, changed)
