"""Who is at the other end of a connection: the peer itself, or whom a proxy that we were told to trust speaks for.

For logs and for bounds on strangers alone. What a proof is for is the configured public URL, whatever a proxy says.
"""

from __future__ import annotations

from ipaddress import IPv6Address, IPv6Network, ip_address, ip_network
from typing import TYPE_CHECKING

from percall_broker.model.errors import InvalidInput

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from ipaddress import IPv4Address, IPv4Network

    Address = IPv4Address | IPv6Address
    Network = IPv4Network | IPv6Network

FORWARDED_FOR = b"x-forwarded-for"
"""The one header that is believed. A proxy appends to it; `Forwarded` most proxies pass on as the client wrote it."""
UNKNOWN = "unknown"
_IPV6_SITE_BITS = 64


class TrustedProxies:
    """The addresses and networks (CIDR) of the proxies in front of the broker. Raises InvalidInput."""

    def __init__(self, named: Iterable[str]) -> None:
        self.networks: tuple[Network, ...] = tuple(_network(text) for text in named)

    def __bool__(self) -> bool:
        """Whether there are any."""
        return bool(self.networks)

    def __contains__(self, host: object) -> bool:
        """Whether this peer is one of them."""
        address = _parse(host) if isinstance(host, str) else None
        return address is not None and any(address in network for network in self.networks)

    def client(self, peer: str, headers: Sequence[tuple[bytes, bytes]]) -> str:
        """The address of the client, for a peer and its request's headers; an IPv6 client counts as its /64.

        From the right, the first one that is no proxy of ours: what stands left of it, that client wrote itself.
        """
        hops = [peer]
        if peer in self:
            given = b",".join(value for name, value in headers if name == FORWARDED_FOR)
            hops = [*(given.decode("latin-1").split(",") if given else ()), peer]
        for hop in reversed(hops):
            address = _parse(hop.strip())
            if address is None:
                return UNKNOWN
            if not any(address in network for network in self.networks):
                return _named(address)
        return peer


def is_loopback(host: str) -> bool:
    """Whether this address is the machine itself."""
    address = _parse(host)
    return address is not None and address.is_loopback


def _parse(text: str) -> Address | None:
    try:
        address = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    return (address.ipv4_mapped or address) if isinstance(address, IPv6Address) else address


def _named(address: Address) -> str:
    if isinstance(address, IPv6Address) and not address.is_loopback:
        return str(IPv6Network((address, _IPV6_SITE_BITS), strict=False))
    return str(address)


def _network(text: str) -> Network:
    try:
        return ip_network(text.strip())
    except ValueError:
        raise InvalidInput(
            "serve.trusted_proxy", f"{text!r} is no address or network.", "Write it like 10.0.0.5 or 10.0.0.0/28."
        ) from None
