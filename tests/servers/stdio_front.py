"""A streamable-HTTP server in front of a stdio command, so that the conformance suite can talk to one.

`stdio_front.py COMMAND…` prints its URL when it listens. Old-era sessions get a process each; the stateless era shares
one. What only HTTP knows (headers, Host, statuses, closing a stream) is done here; every frame's answer is the
command's.
"""

import asyncio
import contextlib
import json
import secrets
import signal
import socket
import sys
from urllib.parse import urlsplit

import uvicorn

MODERN = "2026-07-28"
META = "io.modelcontextprotocol/"
LIMIT = 64 * 1024 * 1024
STATUS = {-32700: 400, -32600: 400, -32602: 400, -32020: 400, -32021: 400, -32022: 400, -32601: 404}
NAMED = {"tools/call": "name", "prompts/get": "name", "resources/read": "uri"}
PROBE = {
    "jsonrpc": "2.0",
    "id": "front-probe",
    "method": "server/discover",
    "params": {
        "_meta": {
            META + "protocolVersion": MODERN,
            META + "clientCapabilities": {},
            META + "clientInfo": {"name": "stdio-front", "version": "1"},
        }
    },
}


class Process:
    """One running command, and who waits for what it says."""

    @classmethod
    async def start(cls, command):
        self = cls()
        self.process = await asyncio.create_subprocess_exec(
            *command, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, limit=LIMIT
        )
        self.open = {}  # our id → (the client's id, its progress token, the queue of what it is sent)
        self.loose = asyncio.Queue()
        self.number = 0
        self.reader = asyncio.create_task(self.read())
        return self

    async def read(self):
        while line := await self.process.stdout.readline():
            frame = json.loads(line)
            if "method" not in frame and frame.get("id") in self.open:
                identifier, _, queue = self.open.pop(frame["id"])
                queue.put_nowait({**frame, "id": identifier})
            else:
                self.route(frame)
        for _, _, queue in self.open.values():
            queue.put_nowait(None)

    def route(self, frame):
        """To the request that it belongs to, as far as stdio lets one know."""
        params = frame.get("params") or {}
        meta = params.get("_meta") or {}
        of = self.open.get(meta.get(META + "subscriptionId"))
        if of:
            meta[META + "subscriptionId"] = of[0]
        if not of and "progressToken" in params:
            of = next((one for one in self.open.values() if one[1] == params["progressToken"]), None)
        if not of:
            calls = [one for one in self.open.values() if one[1] != "a stream"]
            of = calls[-1] if calls else None
        (of[2] if of else self.loose).put_nowait(frame)

    def write(self, frame):
        self.process.stdin.write(json.dumps(frame).encode() + b"\n")

    def ask(self, frame):
        """Pass a request on, under an id that no other client uses; returns that id and the queue."""
        self.number += 1
        ours, queue = f"front-{self.number}", asyncio.Queue()
        token = ((frame.get("params") or {}).get("_meta") or {}).get("progressToken")
        self.open[ours] = (frame["id"], "a stream" if frame["method"] == "subscriptions/listen" else token, queue)
        self.write({**frame, "id": ours})
        return ours, queue

    def forget(self, ours):
        """The client has gone away."""
        if self.open.pop(ours, None):
            params = {"requestId": ours, "reason": "The stream was closed."}
            self.write({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": params})

    async def close(self):
        self.process.stdin.close()
        try:
            await asyncio.wait_for(self.process.wait(), 10)
        except TimeoutError:
            self.process.kill()
        await self.reader


class Front:
    """The ASGI application."""

    def __init__(self, command):
        self.command = command
        self.sessions = {}
        self.closing = []
        self.shared = None
        self.starting = asyncio.Lock()

    async def __call__(self, scope, receive, send):
        if scope["type"] != "http":
            return
        headers = {name.decode(): value.decode() for name, value in scope["headers"]}
        answer = Answer(receive, send)
        if not is_local(headers):
            await answer.json(403, {"error": "a foreign host or origin"})
            return
        session = self.sessions.get(headers.get("mcp-session-id"))
        if "mcp-session-id" in headers and session is None:
            await answer.json(404, error(None, -32600, "There is no such session."))
        elif scope["method"] == "GET" and session:
            await self.stream(session, answer)
        elif scope["method"] == "DELETE" and session:
            del self.sessions[headers["mcp-session-id"]]
            self.closing.append(asyncio.create_task(session.close()))
            await answer.json(200, {})
        elif scope["method"] == "POST":
            await self.post(headers, session, answer)
        else:
            await answer.json(405, {"error": "POST"})

    async def post(self, headers, session, answer):
        body = await answer.body()
        try:
            frame = json.loads(body)
        except ValueError:
            await answer.json(400, error(None, -32700, "no JSON"))
            return
        more = {}
        is_old = session is not None or (frame.get("method") == "initialize" and version(headers, frame) != MODERN)
        if not is_old:
            if problem := mismatch(headers, frame):
                await answer.json(400, error(frame.get("id"), -32020, problem))
                return
            if frame.get("method") == "initialize":  # over stdio it would ask for the other era
                await answer.json(404, error(frame.get("id"), -32601, "Not a method of this revision"))
                return
            session = await self.stateless()
        elif session is None:
            session = await Process.start(self.command)
            more = {"mcp-session-id": secrets.token_hex(16)}
            self.sessions[more["mcp-session-id"]] = session
        if "method" not in frame or "id" not in frame:
            session.write(frame)
            await answer.json(202, None)
            return
        ours, queue = session.ask(frame)
        try:
            await answer.frames(queue, frame["id"], more, statuses=not is_old)
        finally:
            session.forget(ours)

    async def stateless(self):
        async with self.starting:
            if self.shared is None:
                self.shared = await Process.start(self.command)
                await self.shared.ask(PROBE)[1].get()
        return self.shared

    async def stream(self, session, answer):
        await answer.begin({})
        gone = asyncio.create_task(answer.gone())
        while True:
            coming = asyncio.create_task(session.loose.get())
            await asyncio.wait({coming, gone}, return_when=asyncio.FIRST_COMPLETED)
            if gone.done():
                coming.cancel()
                return
            await answer.event(coming.result())

    async def close(self):
        for process in (*self.sessions.values(), *([self.shared] if self.shared else [])):
            await process.close()
        await asyncio.gather(*self.closing)


class Answer:
    """One request's answer."""

    def __init__(self, receive, send):
        self.receive, self.send = receive, send

    async def body(self):
        body = b""
        while True:
            event = await self.receive()
            body += event.get("body", b"")
            if not event.get("more_body"):
                return body

    async def gone(self):
        while (await self.receive())["type"] != "http.disconnect":
            pass

    async def json(self, status, value, more=None):
        data = b"" if value is None else json.dumps(value).encode()
        headers = {"content-type": "application/json", "content-length": str(len(data)), **(more or {})}
        await self.head(status, headers)
        await self.send({"type": "http.response.body", "body": data})

    async def head(self, status, headers):
        pairs = [(name.encode(), value.encode()) for name, value in headers.items()]
        await self.send({"type": "http.response.start", "status": status, "headers": pairs})

    async def begin(self, more):
        await self.head(200, {"content-type": "text/event-stream", "cache-control": "no-cache", **more})
        await self.send({"type": "http.response.body", "body": b"", "more_body": True})

    async def event(self, frame):
        data = b"event: message\ndata: " + json.dumps(frame).encode() + b"\n\n"
        await self.send({"type": "http.response.body", "body": data, "more_body": True})

    async def frames(self, queue, identifier, more, *, statuses):
        """JSON where the answer comes first, else a stream that ends with it."""
        gone, streaming = asyncio.create_task(self.gone()), False
        while True:
            coming = asyncio.create_task(queue.get())
            await asyncio.wait({coming, gone}, return_when=asyncio.FIRST_COMPLETED)
            if not coming.done():
                coming.cancel()
                return
            frame = coming.result() or error(identifier, -32603, "The command has ended.")
            is_answer = "method" not in frame
            if is_answer and not streaming:
                status = STATUS.get((frame.get("error") or {}).get("code"), 200) if statuses else 200
                gone.cancel()
                await self.json(status, frame, more)
                return
            if not streaming:
                streaming = True
                await self.begin(more)
            await self.event(frame)
            if is_answer:
                gone.cancel()
                await self.send({"type": "http.response.body", "body": b""})
                return


def error(identifier, code, message):
    return {"jsonrpc": "2.0", "id": identifier, "error": {"code": code, "message": message}}


def is_local(headers):
    hosts = [urlsplit("//" + headers.get("host", "")).hostname]
    if "origin" in headers:
        hosts.append(urlsplit(headers["origin"]).hostname)
    return all(host in {"127.0.0.1", "localhost", "::1"} for host in hosts)


def version(headers, frame):
    meta = (frame.get("params") or {}).get("_meta") or {}
    return meta.get(META + "protocolVersion") or headers.get("mcp-protocol-version")


def mismatch(headers, frame):
    """What the headers of the stateless era say that the body does not."""
    params = frame.get("params") or {}
    said = (params.get("_meta") or {}).get(META + "protocolVersion")
    if "mcp-protocol-version" not in headers or (said and headers["mcp-protocol-version"] != said):
        return "MCP-Protocol-Version does not match"
    if "method" in frame and headers.get("mcp-method") != frame["method"]:
        return "Mcp-Method does not match"
    named = NAMED.get(frame.get("method"))
    if named and headers.get("mcp-name", "").strip() != params.get(named):
        return "Mcp-Name does not match"
    return ""


async def main():
    listening = socket.create_server(("127.0.0.1", 0))
    front = Front(sys.argv[1:])
    serving = uvicorn.Server(uvicorn.Config(front, log_level="error", lifespan="off", timeout_graceful_shutdown=1))
    print(f"http://127.0.0.1:{listening.getsockname()[1]}/mcp", flush=True)
    with contextlib.suppress(asyncio.CancelledError):
        await serving.serve(sockets=[listening])
    await front.close()


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(main())
