"""The loopback listener: takes the child's API requests on threads of its own and hands them to the broker.

`start` binds a port and starts the certificates' helper process; nothing heavy is loaded before the first request.
It never decides: the broker does, and a request outside any window does not even reach it.
"""

from __future__ import annotations

import contextlib
import os
import socket
from threading import Lock, Thread
from time import sleep
from typing import TYPE_CHECKING

from percall.egress import ways
from percall.egress.origins import Listed, Origin
from percall.egress.redemption import Redemptions
from percall.errors import LaunchError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from percall import wire
    from percall.egress.authority import Authority
    from percall.egress.conversation import Conversation
    from percall.egress.sending import BrokerSender

MAX_CONNECTIONS = 256
_BUSY = b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
_SECRET_BYTES = 24
_PROXY_USER = "percall"
_RETRY_SECONDS = 0.05


class Listener:
    """The listener of one child. `open_windows` and `redeemed` are called from its threads, and so is `send`."""

    def __init__(
        self,
        entry: wire.ServerEntry,
        placeholder: str,
        open_windows: Callable[[], tuple[wire.Window, ...]],
        redeemed: Callable[[str], None],
        send: BrokerSender,
    ) -> None:
        self.entry = entry
        self.placeholder = placeholder
        self.listed = Listed(entry.hosts)
        self.redemptions = Redemptions(open_windows, redeemed)
        self.send = send
        self.port = 0
        # Three secrets, so that a request also tells which way it came.
        self.base_url_secret, self.preload_secret, self.proxy_secret = (os.urandom(_SECRET_BYTES).hex() for _ in "123")
        self.authority: Authority | None = None
        self._socket: socket.socket | None = None
        self._lock = Lock()
        self._conversations: dict[Conversation, None] = {}
        self._is_closed = False

    def __repr__(self) -> str:
        """Without the secrets, for logs."""
        return f"Listener({self.entry.name!r}, port={self.port})"

    def start(self) -> None:
        """Bind a port on loopback and accept. Raises LaunchError."""
        if ways.PROXY in self.entry.ways and self.listed.certificate_names():
            from percall.egress.authority import Authority  # noqa: PLC0415 - only this way needs it

            self.authority = Authority(self.listed, {**os.environ, **self.entry.environment})
        try:
            self._socket = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
            self._socket.bind(("127.0.0.1", 0))
            self._socket.listen(128)
        except OSError as error:
            self.close()
            raise LaunchError(
                "egress.port",
                f"No port of this machine is left for the child's way to its API: {error.strerror}.",
                "Close programs that hold many connections or files, then restart the server in its client.",
            ) from None
        self.port = self._socket.getsockname()[1]
        Thread(target=self._accept, args=(self._socket,), name="percall-egress", daemon=True).start()

    def environment(self, base: Mapping[str, str]) -> dict[str, str]:
        """What the child's environment needs beside `base`. Raises LaunchError, WireError."""
        proxy = f"http://{_PROXY_USER}:{self.proxy_secret}@127.0.0.1:{self.port}"
        own = ways.rendered(self.entry.environment, self.placeholder, self.base_url, proxy)
        merged = {**base, **own}
        if ways.PRELOAD in self.entry.ways:
            listener = f"http://127.0.0.1:{self.port}/{self.preload_secret}"
            own.update(ways.preload_environment(merged, listener, self.listed))
        if ways.PROXY in self.entry.ways:
            own.update(ways.proxy_environment(merged, proxy, self.port, self.listed))
        if self.authority is not None:
            own.update(self.authority.environment())
        return own

    def base_url(self, origin: Origin) -> str:
        """The loopback URL that stands for an origin."""
        return f"http://127.0.0.1:{self.port}{ways.path_form(self.base_url_secret, origin)}"

    def cut(self) -> None:
        """End every open stream and tunnel: the grant has ended. The listener stays, and refuses."""
        with self._lock:
            conversations = tuple(self._conversations)
        for conversation in conversations:
            conversation.cut()

    def close(self) -> None:
        """Stop accepting, end what is open, remove the certificates."""
        self._is_closed = True
        if self._socket is not None:
            with contextlib.suppress(OSError):  # macOS wakes it at `close`
                self._socket.shutdown(socket.SHUT_RDWR)  # wakes `accept`
            self._socket.close()
        self.cut()
        if self.authority is not None:
            self.authority.close()

    def left(self, conversation: Conversation) -> None:
        """A conversation has ended."""
        with self._lock:
            self._conversations.pop(conversation, None)

    def _accept(self, listening: socket.socket) -> None:
        """Takes connections until `close`, whatever this process has run out of meanwhile."""
        while not self._is_closed:
            try:
                connection, _ = listening.accept()
            except OSError:
                sleep(_RETRY_SECONDS)  # a descriptor will be free again; or `close` woke us
                continue
            try:
                self._take(connection)
            except (ImportError, OSError, RuntimeError):  # no descriptor to load a module with, or no thread
                connection.close()  # the child may try again

    def _take(self, connection: socket.socket) -> None:
        from percall.egress.conversation import Conversation  # noqa: PLC0415 - loads h11, at the first request

        conversation = Conversation(self, connection)
        with self._lock:
            is_full = len(self._conversations) >= MAX_CONNECTIONS
            strangers = (one for one in self._conversations if not one.is_admitted) if is_full else ()
            stranger = next(iter(strangers), None)
            if stranger is not None:  # whoever has shown nothing makes room, the first one first
                del self._conversations[stranger]
            if not is_full or stranger is not None:
                self._conversations[conversation] = None
        if stranger is not None:
            stranger.cut()
        elif is_full:
            _turn_away(connection)
            return
        try:
            Thread(target=conversation.run, name="percall-egress-connection", daemon=True).start()
        except RuntimeError:
            self.left(conversation)
            raise


def _turn_away(connection: socket.socket) -> None:
    try:
        connection.setblocking(False)
        connection.send(_BUSY)
    except OSError:
        pass  # it has gone already
    connection.close()
