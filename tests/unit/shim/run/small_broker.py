"""A broker that only authorises: real sockets, real answers, no store. `python small_broker.py` prints its URL.

It asks for a nonce, permits calls but those of tools named `forbidden…`, has those named `asked…` wait for a person and
those named `late…` for the test, records what it was sent, and lets a test push events. POST /test/push sends an event
to all streams; GET /test/seen gives what has been seen; POST /test/nonce makes earlier nonces stale.
"""

from __future__ import annotations

import base64
import json
import queue
import socket
import sys
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from percall import wire
from percall.proof import digest

if TYPE_CHECKING:
    import ssl


class SmallBroker:
    def __init__(self, session: dict[str, Any] | None = None, context: ssl.SSLContext | None = None) -> None:
        self._listening = socket.create_server(("127.0.0.1", 0))
        self._context = context
        self.url = f"{'https' if context else 'http'}://127.0.0.1:{self._listening.getsockname()[1]}"
        self.nonce = "nonce-1"
        self.session = session
        self.calls: list[dict[str, Any]] = []
        self.settled: list[dict[str, Any]] = []
        self.requests: list[str] = []
        self.gives_nonces = True
        self.challenges = 0
        self.keep_alive = True
        self.decides = threading.Event()
        self._streams: list[queue.Queue[bytes]] = []
        self._connections: list[socket.socket] = []
        self._is_closed = False
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def close(self) -> None:
        if self._is_closed:
            return
        self._is_closed = True
        self._listening.shutdown(socket.SHUT_RDWR)  # wakes `accept`
        self._threads[0].join()
        self._listening.close()
        for connection in self._connections:
            with suppress(OSError):  # not the shutdown of TLS, which would take its state from under the reader
                socket.socket.shutdown(connection, socket.SHUT_RDWR)
        self.decides.set()
        for stream in self._streams:
            stream.put(b"")
        for thread in self._threads:
            thread.join()

    @property
    def connections(self) -> int:
        """How many there have been."""
        return len(self._connections)

    def push(self, event: str, data: dict[str, Any]) -> None:
        if event == "session":
            self.session = data
        for stream in self._streams:
            stream.put(b"event: %s\ndata: %s\n\n" % (event.encode(), wire.dump(data)))

    @property
    def streams(self) -> int:
        return len(self._streams)

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listening.accept()
            except OSError:
                return
            if self._context is not None:
                try:
                    connection = self._context.wrap_socket(connection, server_side=True)
                except OSError:
                    continue
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._connections.append(connection)
            self._threads.append(threading.Thread(target=self._serve, args=(connection,)))
            self._threads[-1].start()

    def _serve(self, connection: socket.socket) -> None:
        file = connection.makefile("rb")
        try:
            while True:
                first = file.readline()
                if not first:
                    return
                headers = {}
                while line := file.readline().strip():
                    name, _, value = line.decode().partition(":")
                    headers[name.lower()] = value.strip()
                body = file.read(int(headers.get("content-length", 0)))
                method, path, _ = first.decode().split(" ")
                self._answer(connection, method, path, headers, body)
                if not self.keep_alive:
                    return
        except OSError:
            return
        finally:
            file.close()
            connection.close()

    def _answer(self, connection: socket.socket, method: str, path: str, headers: dict[str, str], body: bytes) -> None:
        self.requests.append(f"{method} {path}")
        if path.startswith("/test/"):
            self._send(connection, 200, wire.dump(self._test(path, body)))
            return
        if (method, path) == ("GET", wire.PATH_NONCE) and self.gives_nonces:
            self._send(connection, 204, b"", f"{wire.HEADER_NONCE}: {self.nonce}\r\n")
            return
        claims = _claims(headers.get("dpop", ""))
        if claims.get("content_digest") != digest(body) or claims.get("htu") != self.url + path:
            self._error(connection, 401, "proof.digest", "The proof is for another request.")
        elif claims.get("nonce") != self.nonce:
            self.challenges += 1
            self._send(
                connection, 401, b"{}", f'www-authenticate: DPoP error="use_dpop_nonce"\r\ndpop-nonce: {self.nonce}\r\n'
            )
        elif path == wire.PATH_CALLS:
            self._decide(connection, claims["jti"], body)
        elif path == wire.PATH_SETTLEMENTS:
            self.settled += json.loads(body)["settle"]
            self._send(connection, 204, b"")
        elif path == wire.PATH_EVENTS:
            self._stream(connection)
        elif path == wire.PATH_TOOLS:
            self._send(connection, 200, wire.dump(wire.encode(wire.ToolsAnswer())))
        else:
            self._error(connection, 404, "path.unknown", "No such path.")

    def _decide(self, connection: socket.socket, jti: str, body: bytes) -> None:
        head, frame_bytes = wire.split(body)
        frame = json.loads(frame_bytes)
        self.settled += head.get("settle", [])
        self.calls.append({"jti": jti, "head": head, "frame": frame_bytes})
        name = str(frame.get("params", {}).get("name", ""))
        if name.startswith("late"):
            self.decides.wait()
            name = name.removeprefix("late_")
        if name.startswith("forbidden"):
            refusal = {"code": "grant.tool", "message": f"The grant does not name {name!r}.", "next_step": "Ask."}
            answer: dict[str, Any] = {"call": jti, "decision": "forbid", "refusal": refusal}
        elif name.startswith("asked"):
            refusal = {"code": "policy.ask", "message": "It waits for approval by leads.", "next_step": "Wait."}
            asked = {"id": "ap_1", "expires_at": 2**31, "groups": ["leads"], "url": f"{self.url}/console"}
            answer = {"call": jti, "decision": "ask", "refusal": refusal, "approval": asked}
        elif name == "endless":
            connection.sendall(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
            for _ in range(1024):
                connection.sendall(b"10000\r\n" + bytes(0x10000) + b"\r\n")
            return
        elif name == "nonsense":
            answer = {"call": jti, "decision": ["permit"]}
        else:
            deadline = 1 if name.startswith("short") else 600
            answer = {"call": jti, "decision": "permit", "deadline_seconds": deadline, "credential": "c" * 43}
        self._send(connection, 200, wire.dump(answer))

    def _stream(self, connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")
        stream: queue.Queue[bytes] = queue.Queue()
        if self.session is not None:
            stream.put(b"event: session\ndata: " + wire.dump(self.session) + b"\n\n")
        self._streams.append(stream)
        while not self._is_closed and (piece := stream.get()):
            connection.sendall(b"%x\r\n%s\r\n" % (len(piece), piece))

    def _test(self, path: str, body: bytes) -> Any:
        if path == "/test/push":
            self.push(**json.loads(body))
        elif path == "/test/nonce":
            self.nonce = body.decode()
        return {"calls": len(self.calls), "settled": self.settled, "streams": self.streams}

    def _error(self, connection: socket.socket, status: int, code: str, message: str) -> None:
        self._send(connection, status, wire.dump({"error": {"code": code, "message": message, "next_step": ""}}))

    def _send(self, connection: socket.socket, status: int, body: bytes, headers: str = "") -> None:
        length = f"content-length: {len(body)}\r\n" if status != 204 else ""
        connection.sendall(f"HTTP/1.1 {status} X\r\n{length}{headers}\r\n".encode() + body)


def _claims(proof: str) -> dict[str, Any]:
    try:
        return dict(json.loads(base64.urlsafe_b64decode(proof.split(".")[1] + "==")))
    except (IndexError, ValueError):
        return {}


if __name__ == "__main__":
    broker = SmallBroker()
    print(broker.url, flush=True)
    sys.stdin.read()
    broker.close()
