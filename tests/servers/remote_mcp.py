"""A real MCP server over streamable HTTP, of the `mcp` SDK, that answers only to its key.

`remote_mcp.py KEY [--json] [--stateless] [--port N]` prints its URL. Both eras: the SDK goes by what the client says.
"""

import argparse
import asyncio
import socket

import uvicorn
from mcp.server.mcpserver import Context, MCPServer

server = MCPServer(name="remote", version="1.0.0", log_level="WARNING")
STEP = "x" * 1024
GOING_ON = asyncio.Event()


@server.tool()
def get_item(id: int) -> str:  # noqa: A002 - what it is
    """Reads one item"""
    return f"item {id}"


@server.tool()
def get_key(context: Context) -> str:
    """Gives away what it was sent"""
    return str(dict(context.headers or {}))


@server.tool()
def get_large(characters: int) -> str:
    """So much"""
    return "x" * characters


@server.tool()
async def get_steps(steps: int, context: Context, pause: bool = False) -> str:
    """Reports each step; where it pauses, the first one, and the others after `get_going`"""
    for step in range(steps):
        await context.report_progress(step, steps, STEP)
        if pause:
            await GOING_ON.wait()
    return f"{steps} steps"


@server.tool()
def get_going() -> str:
    """Ends every pause"""
    GOING_ON.set()
    return "going on"


@server.tool()
def delete_item(id: int) -> str:  # noqa: A002 - what it is
    """Deletes one item"""
    return f"deleted {id}"


class Keyed:
    """Nobody passes without the key."""

    def __init__(self, application, key):
        self.application, self.expected = application, f"Bearer {key}".encode()

    async def __call__(self, scope, receive, send):
        if scope["type"] == "http" and dict(scope["headers"]).get(b"authorization") != self.expected:
            await send({"type": "http.response.start", "status": 401, "headers": [(b"www-authenticate", b"Bearer")]})
            await send({"type": "http.response.body", "body": b""})
            return
        await self.application(scope, receive, send)


def main():
    options = argparse.ArgumentParser()
    options.add_argument("key")
    options.add_argument("--json", action="store_true")
    options.add_argument("--stateless", action="store_true")
    options.add_argument("--port", type=int, default=0)
    given = options.parse_args()
    application = Keyed(server.streamable_http_app(json_response=given.json, stateless_http=given.stateless), given.key)
    listening = socket.create_server(("127.0.0.1", given.port), backlog=512)
    print(f"http://127.0.0.1:{listening.getsockname()[1]}", flush=True)
    config = uvicorn.Config(application, log_level="error", timeout_graceful_shutdown=1)
    asyncio.run(uvicorn.Server(config).serve(sockets=[listening]))


if __name__ == "__main__":
    main()
