"""The listener for those who watch: health, readiness and figures, apart from the door of laptops.

Off unless it is named. It is on loopback, or asks for a token: figures say how much each server is used.
"""

from __future__ import annotations

import contextlib
import stat
from typing import TYPE_CHECKING

import structlog
import uvicorn

from percall_broker.api.probes import PATH_METRICS
from percall_broker.connection import Connection, Room
from percall_broker.http_server import plain
from percall_broker.listening import authority, bound
from percall_broker.model.errors import InvalidInput, Unavailable
from percall_broker.model.peers import is_loopback

if TYPE_CHECKING:
    import socket
    from collections.abc import Iterator

    from percall_broker.api.probes import ProbeApplication
    from percall_broker.settings import Settings

_MINIMUM_TOKEN_BYTES = 16
_MOST_CONNECTIONS = 64
_MAKE_ONE = "Make one that the broker alone may read: (umask 077; openssl rand -hex 32 > FILE)."

log = structlog.get_logger()


@contextlib.contextmanager
def watched(settings: Settings) -> Iterator[socket.socket | None]:
    """The bound socket, where one is configured. Raises InvalidInput, Unavailable."""
    if not settings.metrics_listen:
        yield None
        return

    def check(address: str) -> None:
        if not is_loopback(address) and settings.metrics_token_file is None:
            raise InvalidInput(
                "serve.metrics",
                f"{settings.metrics_listen} can be reached from elsewhere, and nothing says who may read the figures.",
                "Listen on 127.0.0.1, or give --metrics-token-file.",
            )

    with bound(settings.metrics_listen, check) as listener:
        address = listener.getsockname()
        log.info("figures are served", at=f"http://{authority(address[0], address[1])}{PATH_METRICS}")
        yield listener


def token(settings: Settings) -> bytes:
    """What those who read the figures must show; empty where nothing is asked for. Raises InvalidInput, Unavailable."""
    path = settings.metrics_token_file
    if path is None:
        return b""
    try:
        found = path.read_bytes().strip()
        shared = stat.S_IMODE(path.stat().st_mode) & 0o077
    except OSError as error:
        raise Unavailable("serve.metrics", f"{path} cannot be read: {error.strerror}.", _MAKE_ONE) from None
    if shared:
        raise InvalidInput("serve.metrics", f"Others may read {path}.", f"Run: chmod 600 {path}")
    if len(found) < _MINIMUM_TOKEN_BYTES or not found.isascii():
        said = f"{path} holds no token of {_MINIMUM_TOKEN_BYTES} characters or more."
        raise InvalidInput("serve.metrics", said, _MAKE_ONE)
    return found


async def watch(application: ProbeApplication, listener: socket.socket) -> None:
    """Serves, until it is cancelled."""
    await _Server(plain(application, http=_Connection)).serve([listener])


class _Connection(Connection):
    """One of whoever reads the figures."""

    room = Room(_MOST_CONNECTIONS)


class _Server(uvicorn.Server):
    """Leaves signals to the broker's own server."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield
