"""How soon the system notices that whoever is at a connection's other end cannot be reached any more."""

from __future__ import annotations

TYPE_CHECKING = False  # `typing` itself costs 10 ms of each start
if TYPE_CHECKING:
    import socket

_OPTIONS = (
    ("TCP_KEEPIDLE", 15),
    ("TCP_KEEPALIVE", 15),  # as macOS calls the same
    ("TCP_KEEPINTVL", 5),
    ("TCP_KEEPCNT", 3),
    ("TCP_USER_TIMEOUT", 30_000),  # milliseconds that what was sent may go unacknowledged
)


def notice_loss(connected: socket.socket) -> None:
    """Have the system notice within half a minute that a path is gone (another network, a firewall that has forgotten
    it), for who only waits too. By itself it takes a quarter of an hour, or for ever. Of a listening socket, each
    connection that it takes inherits that.
    """
    import socket  # noqa: PLC0415 - loaded by whoever connected

    connected.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in _OPTIONS:
        option = getattr(socket, name, None)  # each system has some of them
        if option is not None:
            connected.setsockopt(socket.IPPROTO_TCP, option, value)
