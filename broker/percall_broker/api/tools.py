"""The door to reports of tools: POST /v1/tools, what a server that runs on a laptop says its tools are."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from percall import wire
from percall_broker.asgi import answer_message, read_body, read_parts, signed_request

if TYPE_CHECKING:
    from percall_broker.asgi import Message, Receive, Send
    from percall_broker.pipeline.tools import Tools

_MAX_BYTES = wire.MAX_HEAD_BYTES + wire.MAX_REPORT_BYTES


class ToolsDoor:
    """A report, and which of its tools are not to be shown."""

    def __init__(self, tools: Tools) -> None:
        self._tools = tools

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """One request. Raises BrokerError before anything is answered."""
        body = await read_body(receive, _MAX_BYTES)
        report, definitions = read_parts(wire.ToolsSeen, body)
        found = await self._tools.reported(signed_request(scope, body), report, definitions, time.time())
        await answer_message(send, found)
