"""A company's proxy on the way to the broker: its address, what it is shown, and the tunnel through it (CONNECT).

Which one is used is recorded at login, without its password, which is in the keyring. Nothing is read from the
environment here: a client may start `percall run` without the variables, or with somebody else's.

Standard library only, and little of it: `percall run` imports this.
"""

from __future__ import annotations

from _thread import allocate_lock

from percall.errors import BrokerUnreachable, UsageError
from percall.http1 import MAX_HEAD_BYTES, is_port, parted

TYPE_CHECKING = False  # `typing` itself costs 10 ms of each start
if TYPE_CHECKING:
    import socket

_DEFAULT_PORT = 80
_CREDENTIALS_WANTED = 407
_OK = range(200, 300)


class Proxy:
    """One proxy. Its password is told later, when the keyring has been read; threads that need it wait.

    Raises UsageError when the URL is not one of an HTTP proxy.
    """

    __slots__ = ("_is_told", "_password", "_waiting", "host", "port", "user")

    def __init__(self, url: str) -> None:
        scheme, separator, rest = url.partition("://")
        authority, slash, path = rest.partition("/")
        user, _, place = authority.rpartition("@")
        host, port = parted(place)
        is_url = scheme == "http" and separator and host and (not port or is_port(port))
        if not is_url or (slash and path) or ":" in user:
            raise UsageError(
                "proxy.url",
                f"{_without_password(url)!r} is not the URL of a proxy that can be used.",
                "Write it like http://proxy.example.com:3128; the way from there to the broker is encrypted anyway.",
            )
        self.host, self.port, self.user = host, int(port) if port else _DEFAULT_PORT, user
        self._password = ""
        self._is_told = not user
        self._waiting = allocate_lock()
        if user:
            self._waiting.acquire()

    def __repr__(self) -> str:
        """Without the password, for logs."""
        return f"Proxy({self})"

    def __str__(self) -> str:
        """How a person knows it."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}"

    def tell(self, password: str) -> None:
        """The keyring has been read."""
        self._password = password
        if not self._is_told:
            self._is_told = True
            self._waiting.release()

    def open_tunnel(self, connected: socket.socket, target: str, timeout: float) -> None:
        """Have a connection to the proxy lead to the broker from now on. Raises BrokerUnreachable, OSError."""
        lines = [f"CONNECT {target} HTTP/1.1", f"host: {target}", *self._credentials(timeout)]
        connected.sendall("\r\n".join([*lines, "", ""]).encode())
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            piece = connected.recv(1)  # not a byte more: what follows belongs to TLS
            if not piece or len(head) > MAX_HEAD_BYTES:
                raise self._refused(target, "it ended the connection")
            head += piece
        first = head.partition(b"\r\n")[0].decode("latin-1")
        version, _, status = first.partition(" ")
        code = status[:3]
        if not version.startswith("HTTP/1.") or not (code.isascii() and code.isdigit()):
            raise self._refused(target, "it does not speak HTTP")
        if int(code) == _CREDENTIALS_WANTED:
            raise credentials_refused(str(self))
        if int(code) not in _OK:
            raise self._refused(target, status.strip())

    def _credentials(self, timeout: float) -> list[str]:
        if not self.user:
            return []
        from base64 import b64encode  # noqa: PLC0415 - only where a proxy wants credentials
        from urllib.parse import unquote  # noqa: PLC0415 - the same

        if not self._waiting.acquire(timeout=timeout):
            raise BrokerUnreachable("proxy.waiting", f"The password of the proxy {self} has not been read yet.")
        self._waiting.release()
        shown = f"{unquote(self.user)}:{self._password}".encode()
        return [f"proxy-authorization: Basic {b64encode(shown).decode()}"]

    def _refused(self, target: str, reason: str) -> BrokerUnreachable:
        return connection_refused(str(self), target, reason)


def connection_refused(proxy: str, target: str, reason: str) -> BrokerUnreachable:
    """The proxy answered, and does not let us through."""
    return BrokerUnreachable(
        "proxy.refused",
        f"The proxy {proxy} does not connect to {target}: {reason.rstrip('.')}.",
        "Ask whoever runs the proxy to allow the broker; or log in again without it.",
    )


def credentials_refused(proxy: str) -> BrokerUnreachable:
    """The proxy wants other credentials than it was shown."""
    return BrokerUnreachable(
        "proxy.credentials",
        f"The proxy {proxy} wants credentials, or others than those of this login.",
        "Log in again with HTTPS_PROXY=http://USER:PASSWORD@HOST:PORT.",
    )


def _without_password(url: str) -> str:
    scheme, separator, rest = url.partition("://")
    return f"{scheme}{separator}{rest.rpartition('@')[2]}"
