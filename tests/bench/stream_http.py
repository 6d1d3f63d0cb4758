"""A server over streamable HTTP that answers every request with ten megabytes of events. Prints its address."""

import asyncio
import json
import socket

import uvicorn

NOTES, NOTE_BYTES = 160, 64 * 1024
NOTE = json.dumps(
    {"jsonrpc": "2.0", "method": "notifications/message", "params": {"level": "info", "data": "x" * NOTE_BYTES}}
).encode()


async def application(scope: dict, receive: object, send: object) -> None:
    """Notifications, then the answer."""
    if scope["type"] != "http":
        return
    body = b""
    while True:
        event = await receive()
        body += event.get("body", b"")
        if not event.get("more_body"):
            break
    answer = {"jsonrpc": "2.0", "id": json.loads(body)["id"], "result": {"content": []}}
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/event-stream")]})
    for _ in range(NOTES):
        await send({"type": "http.response.body", "body": b"data: " + NOTE + b"\n\n", "more_body": True})
    await send({"type": "http.response.body", "body": b"data: " + json.dumps(answer).encode() + b"\n\n"})


async def main() -> None:
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listening.bind(("127.0.0.1", 0))
    listening.listen(512)
    print(f"http://127.0.0.1:{listening.getsockname()[1]}/mcp", flush=True)
    config = uvicorn.Config(application, log_level="error", lifespan="off")
    await uvicorn.Server(config).serve(sockets=[listening])


if __name__ == "__main__":
    asyncio.run(main())
