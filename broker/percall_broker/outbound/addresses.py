"""Which addresses the broker connects to: public ones, resolved and checked here, then used as they were checked.

A name that resolves to any other address is refused as a whole: half of a rebinding is one.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from typing import TYPE_CHECKING, Protocol

from percall_broker.model.errors import UpstreamFailed
from percall_broker.model.rules import is_loopback_address

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

# NAT64 (RFC 6052): an IPv4 address in the last 32 bits.
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
# Not global though some versions of `ipaddress` say so: IPv4-compatible, IPv4-translated, site-local, discard, local
# NAT64, 6to4 relays, protocol assignments (one cloud's metadata among them).
_NEVER = (
    ipaddress.ip_network("::/96"),
    ipaddress.ip_network("::ffff:0:0:0/96"),
    ipaddress.ip_network("fec0::/10"),
    ipaddress.ip_network("100::/64"),
    ipaddress.ip_network("64:ff9b:1::/48"),
    ipaddress.ip_network("3fff::/20"),
    ipaddress.ip_network("5f00::/16"),
    ipaddress.ip_network("192.0.0.0/24"),
    ipaddress.ip_network("192.88.99.0/24"),
    ipaddress.ip_network("100.64.0.0/10"),
    ipaddress.ip_network("168.63.129.16/32"),  # a cloud's own host agent, on an address that looks public
)


class Resolver(Protocol):
    """Names to addresses."""

    async def __call__(self, host: str, port: int, /) -> Sequence[str]:
        """The addresses of a host, in the order to try them. Raises OSError."""


async def system_resolver(host: str, port: int) -> Sequence[str]:
    """What the system's resolver says, IPv6 and IPv4 in turn. Raises OSError."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return in_turn(str(info[4][0]) for info in found)


def in_turn(found: Iterable[str]) -> list[str]:
    """Each address once, those of IPv6 and IPv4 in turn; the kind of the first one first (RFC 8305, section 4)."""
    addresses = list(dict.fromkeys(found))
    first = [address for address in addresses if (":" in address) == (":" in addresses[0])]
    second = [address for address in addresses if address not in first]
    return [address for pair in zip(first, second, strict=False) for address in pair] + (
        first[len(second) :] or second[len(first) :]
    )


def is_public(address: str) -> bool:
    """Whether an address is of the public internet, also where it carries another one inside."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return False
    return all(_is_public(inner) for inner in _with_inner(parsed))


def _with_inner(address: Address) -> list[Address]:
    """The address, and the IPv4 addresses that translators would reach through it."""
    found: list[Address] = [address]
    if isinstance(address, ipaddress.IPv6Address):
        teredo = address.teredo
        inner = [address.ipv4_mapped, address.sixtofour, *(teredo or ())]
        if address in _NAT64:
            inner.append(ipaddress.IPv4Address(int(address) & 0xFFFFFFFF))
        found += [one for one in inner if one is not None]
        if address.ipv4_mapped is not None:
            found.remove(address)  # the mapped form itself is never global; what it maps decides
    return found


def _is_public(address: Address) -> bool:
    return (
        address.is_global
        and not address.is_multicast
        and not any(address.version == network.version and address in network for network in _NEVER)
    )


async def public_addresses(resolve: Resolver, host: str, port: int) -> Sequence[str]:
    """The checked addresses of a public host. Raises UpstreamFailed."""
    found = await _resolved(resolve, host, port)
    for address in found:
        if not is_public(address):
            raise UpstreamFailed(
                "upstream.address", f"{host} resolves to an address that is not public; the broker does not go there."
            )
    return found


async def loopback_addresses(resolve: Resolver, host: str, port: int) -> Sequence[str]:
    """The checked addresses of a loopback origin that an administrator named. Raises UpstreamFailed."""
    found = await _resolved(resolve, host, port)
    for address in found:
        if not is_loopback_address(address):
            raise UpstreamFailed("upstream.address", f"{host} is not loopback; http goes nowhere else.")
    return found


async def _resolved(resolve: Resolver, host: str, port: int) -> Sequence[str]:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        pass
    else:
        return [host]
    try:
        found = await resolve(host, port)
    except (OSError, UnicodeError) as error:
        raise UpstreamFailed("upstream.name", f"The name {host} does not resolve: {error}.") from None
    if not found:
        raise UpstreamFailed("upstream.name", f"The name {host} has no address.")
    return found
