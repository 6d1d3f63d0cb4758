"""What the broker issues: grant tokens, call credentials, nonces and the console's tokens."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from joserfc import jws as oracle
from joserfc.jwk import OKPKey

from percall_broker.crypto import base64url, sodium
from percall_broker.crypto.tokens import (
    NEVER,
    NONCE_MINUTES,
    CallCredential,
    CallCredentials,
    ConsoleTokens,
    GrantTokens,
    Nonces,
)
from percall_broker.model.errors import Unauthenticated

SEED = bytes(range(32))
ISSUER = "https://broker.example"
TOKENS = GrantTokens(SEED, ISSUER)
CREDENTIAL = CallCredential("call", "grant", "thumb", "github", "get_me", "digest", 1030)


def forged(header: bytes, claims: bytes, seed: bytes = SEED) -> str:
    signed = f"{base64url.encode(header)}.{base64url.encode(claims)}"
    return f"{signed}.{base64url.encode(sodium.sign(seed, signed.encode()))}"


def test_a_grant_token_says_what_never_changes_and_nothing_else() -> None:
    token = TOKENS.issue("g1", "thumb", 0, now=1000)
    key = OKPKey.import_key({"kty": "OKP", "crv": "Ed25519", "x": base64url.encode(sodium.public_key(SEED))})
    read = oracle.deserialize_compact(token, key, algorithms=["Ed25519"])
    assert read.headers() == {"alg": "Ed25519", "typ": "at+jwt"}
    assert json.loads(read.payload) == {
        "iss": ISSUER, "aud": ISSUER, "sub": "g1", "cnf": {"jkt": "thumb"}, "iat": 1000, "exp": NEVER,
    }  # fmt: skip


def test_a_grant_token_is_verified_and_its_end_is_checked_each_time() -> None:
    token = TOKENS.issue("g1", "thumb", 2000, now=1000)
    for _ in range(2):
        held = TOKENS.verify(token, 1999)
        assert (held.grant, held.thumbprint, held.expires_at) == ("g1", "thumb", 2000)
    with pytest.raises(Unauthenticated) as caught:
        TOKENS.verify(token, 2000)
    assert caught.value.code == "grant.expired"


def test_tokens_of_another_key_issuer_algorithm_or_type_are_refused() -> None:
    good = json.dumps({"iss": ISSUER, "aud": ISSUER, "sub": "g", "cnf": {"jkt": "t"}, "iat": 1, "exp": NEVER}).encode()
    header = b'{"alg":"Ed25519","typ":"at+jwt"}'
    assert TOKENS.verify(forged(header, good), 1).grant == "g"
    for bad in (
        forged(header, good, seed=bytes(32)),
        forged(b'{"alg":"none","typ":"at+jwt"}', good),
        forged(b'{"alg":"Ed25519","typ":"dpop+jwt"}', good),
        forged(b'{"alg":"Ed25519","typ":"at+jwt","jku":"https://evil.example"}', good),
        forged(header, good.replace(b"broker.example", b"other.example")),
        forged(header, good.replace(b"broker.example", b"other.example", 1)),
        forged(header, good.replace(b'"aud": "https://broker', b'"aud": "https://other')),
        forged(header, good[:-1] + b',"sub":"h"}'),
        forged(header, b"{}"),
        forged(header, b"[]"),
        forged(header, good.replace(b'{"jkt": "t"}', b"7")),
        forged(header, good) + "=",
        TOKENS.issue("g", "t", 0, now=1000) + ".x",
        "", ".", "..", "x" * 5000, "\N{SNOWMAN}", "\ud800",
    ):  # fmt: skip
        with pytest.raises(Unauthenticated):
            TOKENS.verify(bad, 1)


def test_a_call_credential_comes_back_as_it_was_issued_until_its_time_is_over() -> None:
    credentials = CallCredentials(bytes(32))
    text = credentials.issue(CREDENTIAL)
    assert credentials.verify(text, 1029) == CREDENTIAL
    for key, now, code in ((bytes(32), 1030, "credential.expired"), (b"k" * 32, 1029, "credential.invalid")):
        with pytest.raises(Unauthenticated) as caught:
            CallCredentials(key).verify(text, now)
        assert caught.value.code == code


def test_what_was_made_by_this_key_for_something_else_is_no_credential() -> None:
    body = CallCredentials(bytes(32)).issue(CREDENTIAL).rpartition(".")[0].replace("pcc1.", "pcc2.")
    text = f"{body}.{base64url.encode(sodium.mac(bytes(32), body.encode()))}"
    with pytest.raises(Unauthenticated) as caught:
        CallCredentials(bytes(32)).verify(text, 0)
    assert caught.value.code == "credential.invalid"


@given(st.integers(min_value=0), st.characters())
def test_a_call_credential_changed_anywhere_is_refused(position: int, character: str) -> None:
    credentials = CallCredentials(bytes(32))
    text = credentials.issue(replace(CREDENTIAL, tool="t\u00fcr.\N{SNOWMAN}"))
    position %= len(text)
    if text[position] != character:
        with pytest.raises(Unauthenticated):
            credentials.verify(text[:position] + character + text[position + 1 :], 0)


@given(st.text())
def test_any_other_text_is_no_credential_and_no_nonce(text: str) -> None:
    with pytest.raises(Unauthenticated):
        CallCredentials(bytes(32)).verify(text, 0)
    assert not Nonces(bytes(32)).holds(text, 0)


def test_a_nonce_holds_for_its_minute_and_the_next_few_and_on_every_replica() -> None:
    now = 60.0 * 1000
    nonce = Nonces(bytes(32)).current(now)
    replica = Nonces(bytes(32))
    assert replica.holds(nonce, now)
    assert replica.holds(nonce, now + NONCE_MINUTES * 60 + 59)
    assert replica.holds(nonce, now - 1), "the replica's clock is a little behind"
    assert not replica.holds(nonce, now + (NONCE_MINUTES + 1) * 60)
    assert not replica.holds(nonce, now - 61)
    assert not Nonces(b"k" * 32).holds(nonce, now)
    assert not replica.holds(None, now)
    assert not replica.holds("\ud800", now)
    assert nonce != replica.current(now + 60)


@given(st.text(max_size=100) | st.binary(max_size=100).map(base64url.encode))
def test_a_guess_is_no_token_of_the_console_s(guess: str) -> None:
    tokens = ConsoleTokens(SEED)
    token = tokens.new()
    assert tokens.is_ours(token)
    assert not tokens.is_ours(guess)
    assert not tokens.is_ours(token[:-2])
    assert not ConsoleTokens(bytes(32)).is_ours(token)
    assert token != tokens.new()
