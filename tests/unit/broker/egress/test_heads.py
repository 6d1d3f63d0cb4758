"""Which headers travel to an upstream and back, and which requests' heads could be read in two ways."""

from __future__ import annotations

import pytest

from percall_broker.egress import heads
from percall_broker.model.errors import BrokerError, Unavailable, UpstreamFailed
from percall_broker.outbound.redaction import Redactor


def sent(*headers: tuple[str, str]) -> list[tuple[bytes, bytes]]:
    found = heads.to_upstream(headers, authority="api.example", body_length=0, has_body=False)
    assert found[:2] == [(b"host", b"api.example"), (b"accept-encoding", b"identity")]
    return found[2:]


@pytest.mark.parametrize(
    "name",
    [
        "Host", "Content-Length", "Expect", "Accept-Encoding", "Cookie", "Cookie2", "DPoP", "Percall-Wire", "Forwarded",
        "Via", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Port", "X-Forwarded-Prefix", "X-Forwarded-Proto",
        "X-Forwarded-Server", "X-Real-IP", "True-Client-IP", "CF-Connecting-IP", "Range", "If-Range", "Connection",
        "Keep-Alive", "TE", "Trailer", "Transfer-Encoding", "Upgrade", "Proxy-Authorization", "X_Forwarded_For",
        "Accept-Charset", "A-IM",
    ],
)  # fmt: skip
def test_what_is_the_callers_or_the_connections_is_not_sent_on(name: str) -> None:
    assert sent((name, "x"), ("Accept", "*/*")) == [(b"Accept", b"*/*")]


@pytest.mark.parametrize("charset", [";charset=utf-16", '; CharSet = "UTF-32BE"', ";charset=utf-16; charset=utf-32"])
def test_no_answer_is_asked_for_in_a_charset_in_which_the_key_would_pass(charset: str) -> None:
    asked = f"application/json{charset}, text/csv;q=0.8{charset};header=absent"
    assert sent(("Accept", asked)) == [(b"Accept", b"application/json, text/csv;q=0.8;header=absent")]
    assert sent(("X-Other", asked)) == [(b"X-Other", asked.encode())]


def test_what_a_connection_names_is_left_out_but_never_the_key_s_own_header() -> None:
    headers = [("Connection", "x-hop, Authorization, content-type")]
    kept = [("X-Hop", "1"), ("Authorization", "Bearer key"), ("Content-Type", "text/plain")]
    assert sent(*headers, *kept) == [(b"Authorization", b"Bearer key"), (b"Content-Type", b"text/plain")]


@pytest.mark.parametrize("key", ["a\r\nX-Other: b", "a\0b", "a\u0100b"])
def test_a_key_that_no_header_can_hold_is_not_sent(key: str) -> None:
    with pytest.raises(Unavailable) as refused:
        sent(("Authorization", f"Bearer {key}"))
    assert refused.value.code == "credential.form"


@pytest.mark.parametrize(
    "name",
    ["Set-Cookie", "Set-Cookie2", "Alt-Svc", "DPoP-Nonce", "Content-Encoding", "Connection", "Trailer", "X-Hop"],
)
def test_what_is_the_brokers_alone_does_not_come_back(name: str) -> None:
    answer = [(b"Connection", b"x-hop"), (name.encode(), b"identity"), (b"ETag", b"x")]
    assert heads.to_child(answer, Redactor(b"a key of some length")) == (("ETag", "x"),)


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        *((((name, "DELETE"),), "request.override") for name in (
            "X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override", "X-Original-Method", "X-Original-URL",
            "X-Rewrite-URL", "X_HTTP_Method_Override",
        )),
        *((((name, "a"), (name.lower(), "a")), "request.header") for name in (
            "Authorization", "Content-Type", "Content-Length", "Host",
        )),
        ((("Content-Length", "1"), ("Transfer-Encoding", "chunked")), "request.framing"),
        ((("X Y", "a"),), "request.header"),
        ((("X", "a\r\nY: b"),), "request.header"),
        ((("X", "a"),) * (heads.MAX_HEADERS + 1), "request.header"),
    ],
)  # fmt: skip
def test_a_head_that_could_be_read_in_two_ways_is_refused(headers: tuple[tuple[str, str], ...], code: str) -> None:
    with pytest.raises(BrokerError) as refused:
        heads.check(headers)
    assert refused.value.code == code


def test_a_head_that_is_long_and_repeats_what_may_be_repeated_passes() -> None:
    heads.check([("Accept", "a")] * heads.MAX_HEADERS)


def test_an_answer_in_another_encoding_is_not_passed_on() -> None:
    with pytest.raises(UpstreamFailed) as refused:
        heads.to_child([(b"Content-Encoding", b"gzip")], Redactor(b"a key of some length"))
    assert refused.value.code == "upstream.encoding"
