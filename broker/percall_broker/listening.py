"""Where the broker listens, from whom it takes connections, and by which names it may be called.

Grants never travel in clear over a network: a listener without TLS is on loopback, or takes connections from the named
proxies alone.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from percall.loss import notice_loss
from percall_broker.connection import Connection, Handshake, Room, most_connections
from percall_broker.model.errors import InvalidInput, Unavailable
from percall_broker.model.peers import TrustedProxies, is_loopback

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Iterator

    from percall_broker.settings import Settings

BACKLOG = 1024
_DEFAULT_PORTS = {"https": 443, "http": 80}
_UNSPECIFIED = frozenset({"0.0.0.0", "::"})  # noqa: S104 - compared with, never bound to


@contextlib.contextmanager
def listening(settings: Settings) -> Iterator[socket.socket]:
    """A bound socket. Raises InvalidInput for what cannot be or must not be, Unavailable when it is taken."""
    with bound(settings.listen, lambda address: check_reach(settings, address)) as listener:
        yield listener


@contextlib.contextmanager
def bound(listen: str, check: Callable[[str], None]) -> Iterator[socket.socket]:
    """A bound socket at HOST:PORT, once `check` has seen its address. Raises InvalidInput, Unavailable."""
    host, _, port = listen.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not host or not port.isdecimal() or int(port) > 65535:  # noqa: PLR2004 - the ports there are
        raise InvalidInput("serve.listen", f"{listen!r} is not an address to listen at.", "Write HOST:PORT.")
    try:
        family, *_, address = socket.getaddrinfo(host, int(port), type=socket.SOCK_STREAM)[0]
        check(str(address[0]))  # before anybody can connect
        listener = socket.create_server(address[:2], family=family, backlog=BACKLOG)
    except OSError as error:
        raise Unavailable(
            "serve.listen", f"Nothing can listen at {listen}: {error.strerror}.", "Is it taken?"
        ) from error
    with listener:
        notice_loss(listener)  # of laptops: each holds a stream open
        yield listener


def tls_context(settings: Settings) -> ssl.SSLContext | None:
    """The listener's certificate and key; None where it speaks no TLS. Raises InvalidInput where not both are there, or
    they do not belong together.
    """
    if settings.tls_cert is None and settings.tls_key is None:
        return None
    if settings.tls_cert is None or settings.tls_key is None:
        raise InvalidInput("serve.tls", "TLS needs a certificate and its key.", "Give --tls-cert and --tls-key.")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        # An encrypted key would have OpenSSL ask at a terminal, which a service has not.
        context.load_cert_chain(settings.tls_cert, settings.tls_key, password="")
    except OSError as error:
        reason = getattr(error, "reason", None) or error.strerror or type(error).__name__
        raise InvalidInput(
            "serve.tls",
            f"TLS cannot be set up with {settings.tls_cert} and {settings.tls_key}: {reason}.",
            "Both are PEM files, the key without a passphrase and the certificate's own.",
        ) from None
    return context


def check_reach(settings: Settings, address: str) -> None:
    """Raises InvalidInput where grants would travel in clear, or laptops could not know the broker's URL."""
    local, encrypted = is_loopback(address), settings.tls_cert is not None
    if not local and not encrypted and not settings.trusted_proxies:
        raise InvalidInput(
            "serve.plain",
            f"{settings.listen} is not loopback, and without TLS grants would travel in clear.",
            "Give --tls-cert and --tls-key; or, behind a proxy that speaks TLS, --trusted-proxy ITS-ADDRESS.",
        )
    if not settings.public_url and not local and (not encrypted or address in _UNSPECIFIED):
        raise InvalidInput(
            "serve.public_url", "Laptops need to know by which URL to reach this broker.", "Give --public-url."
        )


def protocol(settings: Settings, tls: ssl.SSLContext | None) -> Callable[..., asyncio.BaseProtocol]:
    """Makes what speaks on a connection: HTTP, within TLS where there is a context for it. Without, and with proxies
    named, those alone may connect.
    """
    proxies = TrustedProxies(settings.trusted_proxies if tls is None else ())

    class Ours(Connection):
        room = Room(most_connections())

        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            if proxies and (self.client is None or self.client[0] not in proxies):
                transport.abort()

    return Ours if tls is None else lambda **given: Handshake(Ours(**given), tls)


def authority(host: str, port: int) -> str:
    """Host and port, as a URL has them."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def host_names(*urls: str) -> set[bytes]:
    """What a Host header may say: the names of these URLs with their port, or without where it is the usual one."""
    names = set()
    for url in urls:
        parts = urlsplit(url)
        default = _DEFAULT_PORTS[parts.scheme]
        name = (parts.hostname or "").lower()
        names.add(authority(name, parts.port or default).encode())
        if (parts.port or default) == default:
            names.add((f"[{name}]" if ":" in name else name).encode())
    return names
