from __future__ import annotations

import pytest

from percall.egress.origins import Listed, parse_authority, parse_origin
from percall.errors import WireError


@pytest.mark.parametrize(
    ("origin", "covered"),
    [
        ("https://api.example.com", True),
        ("https://a.b.example.org:8443", True),
        ("http://api.example.com", False),
        ("https://api.example.com:8443", False),
        ("https://example.org:8443", False),
        ("https://notexample.org:8443", False),
        ("https://a.example.org", False),
        ("http://a.example.org:8443", False),
        ("https://a.example.org.evil.example:8443", False),
    ],
)
def test_a_listed_origin_covers_itself_and_a_wildcard_what_is_below_it(origin: str, *, covered: bool) -> None:
    assert Listed(("api.example.com", "https://*.example.org:8443")).covers(parse_origin(origin)) is covered


@pytest.mark.parametrize(
    "text",
    [
        *("", ".", "a..b", "-a", "a!b", "a b", "\u00e9", "a" * 64, "a." * 127, "[]", "[::g]", "[::1", "::1"),
        *("a:0", "a:65536", "a:", "a:+1", "a:\u0661", "a:" + "9" * 5000),
        *("a" * 250 + "!", "a" * 40 + "!/x", "a-" * 120 + "!"),  # a stranger's, on which a pattern could take for ever
    ],
)
def test_what_is_no_host_is_refused_at_once(text: str) -> None:
    with pytest.raises(WireError):
        parse_authority("https", text)


@pytest.mark.parametrize("text", ["a", "a.", "_a.b-c", "a" * 63 + ".b", "[::1]:1", "A.Example:65535"])
def test_a_host_is_read_in_lower_case(text: str) -> None:
    assert parse_authority("https", text).authority == text.lower()


def test_an_origin_has_a_scheme_that_is_known() -> None:
    assert parse_origin("a.example").scheme == "https"
    with pytest.raises(WireError):
        parse_origin("ftp://a.example")


@pytest.mark.parametrize(
    ("origin", "is_local"),
    [("http://localhost:1", True), ("http://[::1]", True), ("http://127.9.9.9", True), ("http://128.0.0.1", False)],
)
def test_loopback_is_known_by_its_name(origin: str, *, is_local: bool) -> None:
    assert parse_origin(origin).is_loopback is is_local
