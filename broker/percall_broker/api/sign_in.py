"""GET /v1/sign-in, where the organisation's people sign in, and POST /v1/sign-in with what came of it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from percall import wire
from percall_broker.asgi import answer_message, read_body, read_message

if TYPE_CHECKING:
    from percall_broker.asgi import Message, Receive, Send
    from percall_broker.pipeline.sign_in import SignIn

_MAX_BYTES = 16 * 1024


class SignInOfferDoor:
    """GET: the provider's sign-in page, for the laptop's browser."""

    def __init__(self, sign_in: SignIn) -> None:
        self._sign_in = sign_in

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:  # noqa: ARG002 - a door
        """One request. Raises BrokerError before anything is answered."""
        await read_body(receive, 0)
        await answer_message(send, await self._sign_in.offer())


class SignInDoor:
    """POST: the provider's code, for an invite."""

    def __init__(self, sign_in: SignIn) -> None:
        self._sign_in = sign_in

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:  # noqa: ARG002 - a door
        """One request. Raises BrokerError before anything is answered."""
        asked = read_message(wire.SignIn, await read_body(receive, _MAX_BYTES))
        await answer_message(send, await self._sign_in(asked, time.time()))
