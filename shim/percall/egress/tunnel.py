"""Traffic to hosts that no entry lists, where the entry lets it pass: no key, and nothing is looked at.

npx and uvx need their downloads. The broker has no part in this.
"""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

from percall import system
from percall.errors import PercallError, WireError

if TYPE_CHECKING:
    from percall.egress.admission import Destination
    from percall.egress.origins import Origin
    from percall.egress.request_head import RequestHead
    from percall.egress.spool import Spool

_CONNECT_SECONDS = 15.0
_IDLE_MILLISECONDS = 600_000
_SEND_SECONDS = 120.0
_RECEIVE_BYTES = 128 * 1024


def connect(origin: Origin) -> socket.socket:
    """A connection to a host. Raises PercallError (`wire.unreachable`)."""
    try:
        return socket.create_connection((origin.host.strip("[]"), origin.port), _CONNECT_SECONDS)
    except OSError as error:
        raise _unreachable(origin, error) from None


def _unreachable(origin: Origin, error: OSError) -> PercallError:
    return WireError("wire.unreachable", f"{origin} cannot be reached: {error.strerror or error}.")


def relay(child: socket.socket, upstream: socket.socket, first: bytes) -> None:
    """Pass bytes both ways until both sides have ended, or one breaks. Raises OSError."""
    upstream.settimeout(_SEND_SECONDS)
    child.settimeout(_SEND_SECONDS)
    if first:
        upstream.sendall(first)
    other = {child.fileno(): (child, upstream), upstream.fileno(): (upstream, child)}
    poll = system.Poll()
    for descriptor in other:
        poll.register(descriptor, system.READ)
    is_open = len(other)
    while is_open:
        ready = poll.poll(_IDLE_MILLISECONDS)
        if not ready:
            return
        for descriptor, _ in ready:
            source, target = other[descriptor]
            data = source.recv(_RECEIVE_BYTES)
            if data:
                target.sendall(data)
            else:
                poll.unregister(descriptor)
                is_open -= 1
                target.shutdown(socket.SHUT_WR)


def forward_in_clear(child: socket.socket, head: RequestHead, destination: Destination, spool: Spool) -> None:
    """A request in absolute form for an unlisted host: sent there as it is, its answer relayed to the end.

    Raises PercallError before any byte went back, OSError after.
    """
    origin = destination.origin
    upstream = connect(origin)
    try:
        if origin.scheme == "https":
            import ssl  # noqa: PLC0415 - rarely needed

            upstream = ssl.create_default_context().wrap_socket(upstream, server_hostname=origin.host.strip("[]"))
        lines = [f"{head.method} {destination.path} HTTP/1.1", f"host: {origin.authority}", "connection: close"]
        lines += [f"{name}: {value}" for name, value in head.sent_on()]
        if spool.length or head.header("content-length") or head.header("transfer-encoding"):
            lines.append(f"content-length: {spool.length}")
        upstream.sendall("\r\n".join([*lines, "", ""]).encode("latin-1"))
        for chunk in spool.chunks():
            upstream.sendall(chunk)
        upstream.settimeout(_SEND_SECONDS)
        first = upstream.recv(_RECEIVE_BYTES)
    except OSError as error:
        upstream.close()
        raise _unreachable(origin, error) from None
    with upstream:
        data = first
        while data:
            child.sendall(data)
            data = upstream.recv(_RECEIVE_BYTES)
