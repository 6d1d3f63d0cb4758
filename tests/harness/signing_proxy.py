"""A front for clients that know nothing of Percall: plain MCP over HTTP on one side, signed requests to the broker's
door for remote servers on the other. `signing_proxy.py BROKER INVITE` enrols, and prints where it listens.
"""

from __future__ import annotations

import contextlib
import http.client
import socket
import sys
import threading
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from urllib.parse import urlsplit

sys.path.insert(0, str(Path(__file__).parent.parent))

from harness.loopback import Listening, Quiet
from harness.signing import SigningLaptop
from percall import wire

_OF_A_CONNECTION = frozenset({"host", "origin", "connection", "content-length", "transfer-encoding", "keep-alive"})
_PIECE = 64 * 1024


class SigningProxy(Listening):
    """One laptop's door. A client's `http://…/mcp/NAME` is the broker's `/mcp/NAME`."""

    def __init__(self, laptop: SigningLaptop) -> None:
        self.laptop = laptop
        laptop.send("GET", wire.PATH_SESSION)  # for a nonce

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        return type("Handler", (_Handler,), {"laptop": self.laptop})

    def door(self, server: str) -> str:
        return f"{self.url}{wire.PATH_RELAY}{server}"


class _Handler(Quiet, BaseHTTPRequestHandler):
    laptop: SigningLaptop

    def _serve(self) -> None:
        self.close_connection = True
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        answer, upstream = self._signed(body)
        if answer.status == http.client.UNAUTHORIZED and "use_dpop_nonce" in answer.headers.get("www-authenticate", ""):
            self.laptop.nonce = answer.headers["dpop-nonce"]
            upstream.close()
            answer, upstream = self._signed(body)
        over = threading.Event()
        threading.Thread(target=self._hang_up, args=(upstream.sock, over), daemon=True).start()
        try:
            self.send_response_only(answer.status)
            for name, value in answer.getheaders():
                if name.lower() not in _OF_A_CONNECTION or name.lower() == "content-length":
                    self.send_header(name, value)
            self.send_header("Connection", "close")
            self.end_headers()
            while piece := answer.read1(_PIECE):
                self.wfile.write(piece)
                self.wfile.flush()
        except (OSError, http.client.HTTPException):
            # An answer that was cut must not look whole.
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        finally:
            over.set()
            upstream.close()

    def _meant(self) -> dict[str, str]:
        """A client that means this front means the broker; any other host or site is the broker's to refuse."""
        here = {f"{name}:{self.connection.getsockname()[1]}" for name in ("127.0.0.1", "localhost")}
        host, origin = self.headers.get("Host", ""), self.headers.get("Origin", "")
        meant = {"Host": urlsplit(self.laptop.url).netloc if host in here else host}
        if origin:
            meant["Origin"] = self.laptop.url if urlsplit(origin).netloc in here else origin
        return meant

    def _signed(self, body: bytes) -> tuple[http.client.HTTPResponse, http.client.HTTPConnection]:
        own = {name: value for name, value in self.headers.items() if name.lower() not in _OF_A_CONNECTION}
        connection = self.laptop.connection()
        connection.timeout = None
        headers = {**own, **self._meant(), **self.laptop.headers(self.command, self.path, body)}
        connection.request(self.command, self.path, body or None, headers)
        return connection.getresponse(), connection

    def _hang_up(self, upstream: socket.socket, over: threading.Event) -> None:
        """When the client leaves, so do we."""
        with contextlib.suppress(OSError):
            while self.connection.recv(1, socket.MSG_PEEK):
                if over.wait(0.05):
                    return
        with contextlib.suppress(OSError):
            upstream.shutdown(socket.SHUT_RDWR)

    do_GET = do_POST = do_DELETE = _serve  # noqa: N815 - http.server's names


def main() -> None:
    with SigningProxy(SigningLaptop.enrolled(*sys.argv[1:3])) as proxy:
        print(proxy.door(""), flush=True)
        with contextlib.suppress(KeyboardInterrupt):
            threading.Event().wait()


if __name__ == "__main__":
    main()
