"""Whose address a request comes from, with and without proxies that are trusted."""

from __future__ import annotations

import pytest

from percall_broker.model.errors import InvalidInput
from percall_broker.model.peers import UNKNOWN, TrustedProxies

PROXIES = TrustedProxies(["10.0.0.5", "10.1.0.0/28", "fd00::/64"])


def client(peer: str, *forwarded: str) -> str:
    return PROXIES.client(peer, [(b"x-forwarded-for", value.encode()) for value in forwarded])


@pytest.mark.parametrize(
    ("peer", "forwarded", "expected"),
    [
        ("203.0.113.9", (), "203.0.113.9"),
        ("10.0.0.5", ("198.51.100.7",), "198.51.100.7"),
        ("::ffff:10.0.0.5", ("198.51.100.7",), "198.51.100.7"),
        ("10.0.0.5", ("6.6.6.6, 198.51.100.7, 10.1.0.3",), "198.51.100.7"),
        ("10.0.0.5", ("6.6.6.6", "198.51.100.7"), "198.51.100.7"),
        ("fd00::1", ("2001:db8:1:2:3::4",), "2001:db8:1:2::/64"),
        ("10.0.0.5", (), "10.0.0.5"),
        ("10.0.0.5", ("10.0.0.5",), "10.0.0.5"),
        ("10.0.0.5", ("198.51.100.7, nonsense",), UNKNOWN),
    ],
)
def test_a_trusted_proxy_says_who_its_client_is_and_only_its_own_word_counts(
    peer: str, forwarded: tuple[str, ...], expected: str
) -> None:
    assert client(peer, *forwarded) == expected


def test_what_anybody_else_says_of_the_client_is_not_believed() -> None:
    assert client("203.0.113.9", "198.51.100.7") == "203.0.113.9"
    assert TrustedProxies([]).client("10.0.0.5", [(b"x-forwarded-for", b"1.2.3.4")]) == "10.0.0.5"
    assert PROXIES.client("10.0.0.5", [(b"forwarded", b"for=1.2.3.4")]) == "10.0.0.5"


@pytest.mark.parametrize("text", ["", "proxy.example.com", "10.0.0.5/33", "10.0.0.5/8"])
def test_a_proxy_is_named_by_address_or_network(text: str) -> None:
    with pytest.raises(InvalidInput):
        TrustedProxies([text])
