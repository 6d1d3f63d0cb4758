"""The `mcp` SDK's own client and server."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING, Any

from mcp import Client, StdioServerParameters
from mcp.client.stdio import stdio_client

from harness.processes import COMMANDS, SERVERS
from harness.upstream import CANARY

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from harness.processes import Laptop

ERAS = ["legacy", "2026-07-28"]
"""What a client is told to speak, as `mode`."""
KEYED = [sys.executable, str(SERVERS / "remote_mcp.py"), CANARY]
"""The command of a server of the SDK's, on HTTP, that wants the key."""


def used(laptop: Laptop, server: str, using: Callable[[Client], Awaitable[Any]], **how: Any) -> Any:
    """What comes of using a client that starts `percall run`, as its config says; `how` goes to the client."""
    shim = StdioServerParameters(command=str(COMMANDS / "percall"), args=["run", server], env=laptop.environment)

    async def session() -> Any:
        with (laptop.home / "stderr").open("w") as stderr:
            async with asyncio.timeout(60), Client(stdio_client(shim, errlog=stderr), **how) as client:
                return await using(client)

    return asyncio.run(session())


def text_of(result: Any) -> str:
    """What a tool has answered."""
    return str(result.content[0].text)
