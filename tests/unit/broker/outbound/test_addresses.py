"""Only public addresses are connected to, whatever they are wrapped in."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from percall_broker.model.errors import UpstreamFailed
from percall_broker.model.rules import is_loopback_address
from percall_broker.outbound.addresses import (
    in_turn,
    is_public,
    loopback_addresses,
    public_addresses,
    system_resolver,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from percall_broker.outbound.addresses import Resolver


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "127.9.9.9", "0.0.0.0", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254",  # noqa: S104
        "100.64.0.1", "100.127.255.255", "224.0.0.1", "239.1.1.1", "255.255.255.255", "198.18.0.1", "192.0.2.1",
        "240.0.0.1", "192.88.99.1", "168.63.129.16", "192.0.0.192",
        "::", "::1", "fe80::1", "fe80::1%eth0", "fc00::1", "fd00:ec2::254", "ff02::1", "fec0::1", "2001:db8::1",
        "100::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::127.0.0.1", "::8.8.8.8", "64:ff9b::7f00:1",
        "64:ff9b::a00:1", "64:ff9b:1::1", "2002:7f00:1::1", "2002:a00:1::", "2001:0:7f00:1::1", "localhost", "",
        "2130706433", "0x7f000001", "127.1", "::ffff:0:127.0.0.1",
    ],
)  # fmt: skip
def test_an_address_that_is_not_public_is_refused(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize(
    "address", ["8.8.8.8", "140.82.121.6", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808"]
)
def test_a_public_address_passes(address: str) -> None:
    assert is_public(address)


def resolver(*addresses: str) -> Resolver:
    async def resolve(_host: str, _port: int) -> Sequence[str]:
        return addresses

    return resolve


def test_a_name_with_one_private_address_among_public_ones_is_refused_as_a_whole() -> None:
    with pytest.raises(UpstreamFailed) as refused:
        asyncio.run(public_addresses(resolver("8.8.8.8", "10.0.0.1"), "api.example.com", 443))
    assert refused.value.code == "upstream.address"


def test_a_literal_is_checked_like_any_other() -> None:
    with pytest.raises(UpstreamFailed):
        asyncio.run(public_addresses(system_resolver, "169.254.169.254", 443))


@pytest.mark.parametrize("host", ["2130706433", "0x7f.1", "127.1", "0177.0.0.1"])
def test_odd_spellings_of_loopback_are_resolved_and_then_refused(host: str) -> None:
    with pytest.raises(UpstreamFailed):
        asyncio.run(public_addresses(system_resolver, host, 443))


def test_a_loopback_origin_goes_nowhere_else() -> None:
    assert list(asyncio.run(loopback_addresses(system_resolver, "127.0.0.1", 80))) == ["127.0.0.1"]
    with pytest.raises(UpstreamFailed):
        asyncio.run(loopback_addresses(resolver("127.0.0.1", "8.8.8.8"), "localhost", 80))


def test_a_name_without_addresses_is_an_upstream_failure() -> None:
    with pytest.raises(UpstreamFailed) as refused:
        asyncio.run(public_addresses(resolver(), "api.example.com", 443))
    assert refused.value.code == "upstream.name"


@pytest.mark.parametrize("error", [OSError("no such name"), UnicodeError("label too long")])
def test_a_name_that_does_not_resolve_is_an_upstream_failure(error: Exception) -> None:
    async def resolve(_host: str, _port: int) -> Sequence[str]:
        raise error

    with pytest.raises(UpstreamFailed) as refused:
        asyncio.run(public_addresses(resolve, "api.example.com", 443))
    assert refused.value.code == "upstream.name"


@pytest.mark.parametrize(
    ("found", "tried"),
    [
        ([], []),
        (["::1", "::1", "::2", "::3", "1.1.1.1"], ["::1", "1.1.1.1", "::2", "::3"]),
        (["1.1.1.1", "::1", "::2", "::3"], ["1.1.1.1", "::1", "::2", "::3"]),
        (["1.1.1.1", "1.1.1.2"], ["1.1.1.1", "1.1.1.2"]),
    ],
)
def test_both_kinds_of_address_are_tried_in_turn(found: list[str], tried: list[str]) -> None:
    assert in_turn(found) == tried


def test_the_system_resolves_its_own_name() -> None:
    found = asyncio.run(system_resolver("localhost", 443))
    assert found
    assert all(is_loopback_address(address) for address in found)
