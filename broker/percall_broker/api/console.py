"""POST /v1/console/link and /v1/console/enrolment: one-time links into the console, for whoever signs.

A link that signs in reads no more than its maker can with the commands, so that a device's signature makes one; a link
that enrols a passkey needs the person's presence.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from percall import wire
from percall_broker.asgi import answer, read_body, signed_request

if TYPE_CHECKING:
    from percall_broker.asgi import Message, Receive, Send
    from percall_broker.pipeline.console import Console
    from percall_broker.pipeline.signed import Signed


class LinkDoor:
    """POST: a link. `enrol`: one that also enrols a passkey."""

    def __init__(self, signed: Signed, console: Console, *, enrol: bool) -> None:
        self._signed = signed
        self._console = console
        self._enrol = enrol

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """One request. Raises BrokerError before anything is answered."""
        request = signed_request(scope, await read_body(receive, 0))
        now = time.time()
        by = (await self._signed.present(request, now))[0] if self._enrol else await self._signed.standing(request, now)
        code, expires_at = await self._console.sessions.link(by, enrol=self._enrol)
        # The code is in the fragment, which no browser sends, no log keeps and no page passes on.
        link = f"{self._console.presence.origin.url}/console/sign-in#{code}"
        await answer(send, 200, wire.dump({"link": link, "expires_at": expires_at}))
