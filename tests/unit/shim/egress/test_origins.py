from __future__ import annotations

import pytest

from percall.egress.origins import Listed, parse_origin


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
