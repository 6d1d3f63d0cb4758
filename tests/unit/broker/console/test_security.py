"""Where a request comes from, and the cookie that no other site's request carries."""

from __future__ import annotations

import pytest

from percall_broker.console.security import check_origin, cookie, token_of
from percall_broker.model.errors import Forbidden

HTTPS = "https://percall.example.com"
LOCAL = "http://localhost:8765"


def scope(method: str = "POST", **headers: str) -> dict[str, object]:
    named = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    return {"method": method, "headers": named}


def test_over_https_the_cookie_is_this_hosts_alone_and_never_sent_in_clear() -> None:
    told = cookie(HTTPS, "t", 60)
    assert told == "__Host-percall=t; Path=/; Max-Age=60; HttpOnly; SameSite=Strict; Secure"
    assert "Secure" not in cookie(LOCAL, "t", 60)


def test_a_token_is_read_from_its_own_cookie() -> None:
    assert token_of(scope(cookie="a=b; __Host-percall=t; percall-console=other"), HTTPS) == "t"
    for sent in ("", "a=b", "__Host-percall", "percall-console=t", "\x00=;;;", "__Host-percall=a\x01b"):
        assert token_of(scope(cookie=sent), HTTPS) == ""
    assert token_of(scope(cookie="__Host-percall=mine; __Host-percall=another's"), HTTPS) == ""


@pytest.mark.parametrize(
    "other", ['prefs={"a":1}', 'a="b', "bare", "a b=c d", "=", "é=1", "__Host-percall2=x", "[a]=1"]
)
def test_whatever_other_cookies_hold_nobody_is_signed_out(other: str) -> None:
    for sent in (f"{other}; __Host-percall=t", f"__Host-percall=t; {other}"):
        assert token_of(scope(cookie=sent), HTTPS) == "t"


@pytest.mark.parametrize(
    "headers",
    [{"origin": HTTPS}, {"origin": HTTPS, "sec_fetch_site": "same-origin"}, {"sec_fetch_site": "same-origin"}],
)
def test_the_consoles_own_pages_may_change_things(headers: dict[str, str]) -> None:
    check_origin(scope(**headers), HTTPS)


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"origin": "null"},
        {"origin": "http://percall.example.com"},
        {"origin": HTTPS + ":8443"},
        {"origin": HTTPS + ".evil.example"},
        {"origin": HTTPS, "sec_fetch_site": "cross-site"},
        {"sec_fetch_site": "same-site"},
        {"sec_fetch_site": "none"},
        {"referer": HTTPS + "/console/"},
    ],
)
def test_nobody_elses_pages_may_change_things(headers: dict[str, str]) -> None:
    with pytest.raises(Forbidden):
        check_origin(scope(**headers), HTTPS)
    check_origin(scope("GET", **headers), HTTPS)


def test_two_origins_are_none() -> None:
    twice = {"method": "POST", "headers": [(b"origin", HTTPS.encode()), (b"origin", b"https://evil.example")]}
    with pytest.raises(Forbidden):
        check_origin(twice, HTTPS)
