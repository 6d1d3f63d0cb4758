"""A broker whose source of keys does not answer yet: every request is told so, until it does.

What is wrong with the source is for the log; strangers learn only that the broker is sealed.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import structlog

from percall import wire
from percall_broker import http_server
from percall_broker.api.probes import PATH_READY, HealthDoor, ReadyDoor
from percall_broker.asgi import answer
from percall_broker.vault import Sealed

if TYPE_CHECKING:
    import contextlib
    import socket
    from collections.abc import Callable

    import uvicorn

    from percall_broker.asgi import Door, Message, Receive, Send
    from percall_broker.compose import Broker

RETRY_SECONDS = 2.0
CODE = "broker.sealed"
_STATUS = 503
_SAID = {
    "code": CODE,
    "message": "The broker is sealed: the source of its keys does not answer.",
    "next_step": "Try again later; its administrator finds more in its log.",
}

log = structlog.get_logger()


class NotYet:
    """The readiness of a broker that is not open."""

    async def problems(self) -> dict[str, str]:
        """Its keys are missing; why, is not for strangers."""
        return {"keys": CODE}


PROBES: dict[str, Door] = {wire.PATH_HEALTH: HealthDoor(), PATH_READY: ReadyDoor(NotYet())}


async def door(scope: Message, receive: Receive, send: Send) -> None:
    """One request: 503, save to whoever asks whether the process lives."""
    if scope["type"] == "http" and scope["path"] in PROBES:
        await PROBES[scope["path"]](scope, receive, send)
    elif scope["type"] == "http":
        await answer(send, _STATUS, wire.dump({"error": _SAID}))


async def opened(
    stack: contextlib.AsyncExitStack,
    opening: Callable[[], contextlib.AbstractAsyncContextManager[Broker]],
    config: Callable[[Door], uvicorn.Config],
    listener: socket.socket,
) -> Broker | None:
    """The broker, once its keys are there; meanwhile `door` answers at the listener. None: a signal came first.

    Raises Unavailable for whatever else keeps it from opening.
    """
    try:
        return await stack.enter_async_context(opening())
    except Sealed as error:
        _say(error)
    waiting = http_server.Server(config(door))
    serving = asyncio.create_task(waiting.serve([listener.dup()]))  # what it closes at its end is not the listener
    try:
        while True:
            await asyncio.wait({serving}, timeout=RETRY_SECONDS)
            if serving.done():
                return None
            try:
                return await stack.enter_async_context(opening())
            except Sealed as error:
                _say(error)
    finally:
        waiting.should_exit = True
        await serving


def _say(error: Sealed) -> None:
    log.warning("sealed", code=error.code, message=error.message, next_step=error.next_step)
