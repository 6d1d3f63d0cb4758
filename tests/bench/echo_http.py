"""The same echo server over streamable HTTP, for wrappers that want a URL. Prints its address when ready."""

import asyncio
import json
import socket

import uvicorn
from echo_stdio import handle


async def application(scope: dict, receive: object, send: object) -> None:
    """JSON answers on /mcp; no standing stream."""
    if scope["type"] != "http":
        return
    body = b""
    while True:
        event = await receive()
        body += event.get("body", b"")
        if not event.get("more_body"):
            break
    answer = handle(json.loads(body)) if scope["method"] == "POST" else None
    status = 405 if scope["method"] == "GET" else 200 if answer else 202
    data = json.dumps(answer).encode() if answer else b""
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(data)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": data})


async def main() -> None:
    # With the protocol named: only then does asyncio turn Nagle's algorithm off, which would cost each answer 40 ms.
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listening.bind(("127.0.0.1", 0))
    listening.listen(128)
    print(f"http://127.0.0.1:{listening.getsockname()[1]}/mcp", flush=True)
    config = uvicorn.Config(application, log_level="error", lifespan="off", timeout_keep_alive=600)
    await uvicorn.Server(config).serve(sockets=[listening])


if __name__ == "__main__":
    asyncio.run(main())
