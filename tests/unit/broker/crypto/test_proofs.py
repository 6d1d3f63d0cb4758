"""Proofs: the one accepted form, and every other one refused."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from hypothesis import given
from hypothesis import strategies as st
from joserfc import jws as oracle
from joserfc.jwk import ECKey, OKPKey

from percall import wire
from percall.proof import DeviceKey, make_enrolment_proof
from percall_broker.crypto import base64url, jwk, sodium
from percall_broker.crypto.proofs import (
    MAX_PROOF_CHARACTERS,
    Proof,
    digest,
    verify_head,
    verify_proof,
)
from percall_broker.model.errors import InvalidInput, Unauthenticated

NOW = 1_800_000_000
URL = "https://broker.example/v1/calls"
TOKEN = "a.grant.token"
SEED = bytes(range(32))
JWK = {"kty": "OKP", "crv": "Ed25519", "x": base64url.encode(sodium.public_key(SEED))}
HEADER: dict[str, Any] = {"typ": "dpop+jwt", "alg": "Ed25519", "jwk": JWK}
CLAIMS: dict[str, Any] = {
    "jti": base64url.encode(bytes(16)),
    "htm": "POST",
    "htu": URL,
    "iat": NOW,
    "ath": digest(TOKEN.encode()),
    "nonce": "n",
    "content_digest": digest(b"body"),
}
IDENTITY_POINT = bytes([1]) + bytes(31)
SMALL_ORDER = [
    IDENTITY_POINT,
    bytes(32),
    bytes.fromhex("ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f"),
    bytes.fromhex("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05"),
    bytes.fromhex("c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a"),
]


def made(header: dict[str, Any] | bytes = HEADER, claims: dict[str, Any] | bytes = CLAIMS) -> str:
    """A signed proof, whatever it says."""
    parts = [part if isinstance(part, bytes) else json.dumps(part).encode() for part in (header, claims)]
    signed = ".".join(base64url.encode(part) for part in parts)
    return f"{signed}.{base64url.encode(sodium.sign(SEED, signed.encode()))}"


def verified(jws: str, token: str | None = TOKEN, now: float = NOW) -> Proof:
    token_digest = None if token is None else digest(token.encode())
    return verify_proof(jws, method="POST", url=URL, token_digest=token_digest, body_digest=digest(b"body"), now=now)


def refused(jws: str, **how: Any) -> str:
    with pytest.raises(Unauthenticated) as caught:
        verified(jws, **how)
    assert caught.value.challenge == "invalid_dpop_proof"
    return caught.value.code


def test_a_proof_in_the_one_form_is_accepted() -> None:
    assert verified(made()) == Proof(CLAIMS["jti"], jwk.parse(JWK).thumbprint, "n", digest(b"body"))


def test_the_shims_proofs_are_accepted() -> None:
    key = DeviceKey(SEED)
    jti, jws = key.proof("POST", URL, TOKEN, "n", digest(b"body"))
    assert verified(jws, now=time.time()) == Proof(jti, key.thumbprint(), "n", digest(b"body"))
    enrolment = make_enrolment_proof(key, URL, b"body")[1]
    assert verified(enrolment, token=None, now=time.time()).nonce is None


def test_the_oracle_accepts_what_we_accept_and_makes_what_we_verify() -> None:
    key = OKPKey.import_key({**JWK, "d": base64url.encode(SEED)})
    theirs = oracle.serialize_compact(HEADER, json.dumps(CLAIMS), key, algorithms=["Ed25519"])
    assert verified(theirs).thumbprint == key.thumbprint()
    assert json.loads(oracle.deserialize_compact(made(), key, algorithms=["Ed25519"]).payload) == CLAIMS


def test_a_hardware_keys_es256_proof_is_accepted() -> None:
    key = ECKey.generate_key("P-256", private=True)
    public = key.as_dict(private=False, kty="EC")
    jwk = {name: public[name] for name in ("kty", "crv", "x", "y")}
    header = {"typ": "dpop+jwt", "alg": "ES256", "jwk": jwk}
    theirs = oracle.serialize_compact(header, json.dumps(CLAIMS), key, algorithms=["ES256"])
    assert verified(theirs).thumbprint == key.thumbprint()
    signed, _, _ = theirs.rpartition(".")
    assert refused(f"{signed}.{base64url.encode(bytes(64))}") == "proof.signature"


def test_an_es256_signature_is_of_fixed_length() -> None:
    private = ec.generate_private_key(ec.SECP256R1())
    numbers = private.public_key().public_numbers()
    public = jwk.parse(
        {
            "kty": "EC",
            "crv": "P-256",
            "x": base64url.encode(numbers.x.to_bytes(32, "big")),
            "y": base64url.encode(numbers.y.to_bytes(32, "big")),
        }
    )
    der = private.sign(b"m", ec.ECDSA(SHA256()))
    r, s = decode_dss_signature(der)
    raw = r.to_bytes(32, "big") + s.to_bytes(32, "big")
    assert public.holds(b"m", raw)
    assert not public.holds(b"m", der)
    assert not public.holds(b"m", raw + b"\0")
    assert not public.holds(b"m", raw[:32] + b"\0" + raw[32:]), "the same numbers, written otherwise"
    assert not public.holds(b"x", raw)


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"typ": "jwt"}, "proof.header"),
        ({"typ": "DPoP+JWT"}, "proof.header"),
        ({"alg": "none"}, "proof.algorithm"),
        ({"alg": "EdDSA"}, "proof.algorithm"),
        ({"alg": "ES256"}, "proof.algorithm"),
        ({"alg": "HS256"}, "proof.algorithm"),
        ({"crit": ["exp"]}, "proof.header"),
        ({"crit": []}, "proof.header"),
        ({"jku": "https://evil.example/keys"}, "proof.header"),
        ({"x5u": "https://evil.example/cert"}, "proof.header"),
        ({"x5c": []}, "proof.header"),
        ({"kid": "1"}, "proof.header"),
        ({"b64": False}, "proof.header"),
        ({"jwk": JWK | {"d": base64url.encode(SEED)}}, "proof.key"),
        ({"jwk": JWK | {"kty": "oct"}}, "proof.key"),
        ({"jwk": JWK | {"crv": "Ed448"}}, "proof.key"),
        ({"jwk": JWK | {"x": JWK["x"] + "="}}, "proof.key"),
        ({"jwk": JWK | {"x": "AA"}}, "proof.key"),
        ({"jwk": JWK["x"]}, "proof.key"),
        ({"jwk": None}, "proof.key"),
        ({"jwk": {"kty": ["OKP"], "crv": "Ed25519", "x": JWK["x"]}}, "proof.key"),
    ],
)
def test_a_header_of_another_form_is_refused(changes: dict[str, Any], code: str) -> None:
    assert refused(made(HEADER | changes)) == code


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"htm": "GET"}, "proof.request"),
        ({"htm": "post"}, "proof.request"),
        ({"htu": URL + "?a=b"}, "proof.request"),
        ({"htu": URL + "/"}, "proof.request"),
        ({"htu": URL.replace("https", "http")}, "proof.request"),
        ({"htu": [URL]}, "proof.request"),
        ({"content_digest": digest(b"other")}, "proof.digest"),
        ({"content_digest": digest(b"body") + "="}, "proof.digest"),
        ({"ath": digest(b"other")}, "proof.token"),
        ({"ath": None}, "proof.token"),
        ({"iat": NOW - wire.MAX_SKEW_SECONDS - 1}, "proof.time"),
        ({"iat": NOW + wire.MAX_SKEW_SECONDS + 1}, "proof.time"),
        ({"iat": str(NOW)}, "proof.time"),
        ({"iat": float(NOW)}, "proof.time"),
        ({"iat": True}, "proof.time"),
        ({"iat": None}, "proof.time"),
        ({"iat": 10**400}, "proof.time"),
        ({"iat": -(10**400)}, "proof.time"),
        ({"jti": ""}, "proof.id"),
        ({"jti": base64url.encode(bytes(15))}, "proof.id"),
        ({"jti": base64url.encode(bytes(17))}, "proof.id"),
        ({"jti": 7}, "proof.id"),
        ({"jti": "AAAAAAAAAAAAAAAAAAAAAB"}, "proof.form"),
        ({"nonce": None}, "proof.nonce"),
        ({"nonce": 7}, "proof.nonce"),
    ],
)
def test_a_claim_that_is_not_this_requests_is_refused(changes: dict[str, Any], code: str) -> None:
    assert refused(made(claims=CLAIMS | changes)) == code


@pytest.mark.parametrize(
    ("changes", "next_step"),
    [
        ({"htu": "https://localhost:8711/v1/calls"}, "This broker is reached at https://broker.example: log in there."),
        ({"htu": [URL]}, "This broker is reached at https://broker.example: log in there."),
        ({"htu": "https://broker.example/proxied/v1/calls"}, "Does something on the way change requests?"),
        ({"htm": "GET"}, "Does something on the way change requests?"),
    ],
)
def test_whoever_asks_a_broker_by_another_of_its_names_is_told_its_own(changes: dict[str, Any], next_step: str) -> None:
    with pytest.raises(Unauthenticated) as caught:
        verified(made(claims=CLAIMS | changes))
    assert caught.value.next_step.startswith(next_step)


@pytest.mark.parametrize("name", ["htm", "htu", "content_digest", "ath", "iat", "jti"])
def test_a_missing_claim_is_refused(name: str) -> None:
    assert refused(made(claims={n: v for n, v in CLAIMS.items() if n != name})).startswith("proof.")


def test_a_proof_with_a_grant_does_not_serve_where_none_is_asked_for() -> None:
    assert refused(made(), token=None) == "proof.token"
    assert refused(made(claims=CLAIMS | {"ath": None}), token=None) == "proof.token"


def test_a_proof_whose_head_was_looked_at_before_is_still_good_for_nothing_else() -> None:
    jws = made()
    head: dict[str, Any] = {"method": "POST", "url": URL, "token_digest": digest(TOKEN.encode()), "now": NOW}
    assert verify_head(jws, **head).body_digest == digest(b"body")
    assert verified(jws).jti == CLAIMS["jti"]
    changes: list[tuple[dict[str, Any], str]] = [
        ({"method": "GET"}, "proof.request"),
        ({"url": URL + "/other"}, "proof.request"),
        ({"token_digest": digest(b"another")}, "proof.token"),
        ({"now": NOW + 3600}, "proof.time"),
    ]
    for changed, code in changes:
        with pytest.raises(Unauthenticated) as error:
            verify_head(jws, **(head | changed))
        assert error.value.code == code
    with pytest.raises(Unauthenticated) as error:
        verify_proof(jws, body_digest=digest(b"another body"), **head)
    assert error.value.code == "proof.digest"


def test_the_skew_allowed_is_a_minute_either_way() -> None:
    for skew in (-wire.MAX_SKEW_SECONDS, wire.MAX_SKEW_SECONDS):
        assert verified(made(claims=CLAIMS | {"iat": NOW + skew})).jti == CLAIMS["jti"]


def test_duplicate_members_are_refused_in_header_and_claims() -> None:
    claims = json.dumps(CLAIMS)[:-1].encode() + b', "htm": "POST"}'
    header = json.dumps(HEADER)[:-1].encode() + b', "alg": "Ed25519"}'
    nested = json.dumps(HEADER).replace('"kty"', '"kty": "OKP", "kty"').encode()
    assert refused(made(claims=claims)) == "proof.json"
    assert refused(made(header)) == "proof.json"
    assert refused(made(nested)) == "proof.json"


@pytest.mark.parametrize(
    "claims",
    [b"[]", b"null", b'"x"', b"{", b"\xff", b'{"iat": NaN}', b"[" * 5000, b"{} {}", b'{"iat": 1%s}' % (b"0" * 5000)],
)
def test_claims_that_are_no_json_object_are_refused(claims: bytes) -> None:
    assert refused(made(claims=claims)) in {"proof.json", "proof.form"}


@pytest.mark.parametrize("x", SMALL_ORDER)
def test_keys_that_accept_forged_signatures_are_refused(x: bytes) -> None:
    weak = JWK | {"x": base64url.encode(x)}
    assert refused(made(HEADER | {"jwk": weak})) == "proof.key"
    with pytest.raises(InvalidInput):
        jwk.parse(weak)


def test_a_point_off_the_curve_is_refused() -> None:
    one = base64url.encode((1).to_bytes(32, "big"))
    with pytest.raises(InvalidInput) as caught:
        jwk.parse({"kty": "EC", "crv": "P-256", "x": one, "y": one})
    assert caught.value.code == "key.unsound"


def test_text_forms_that_other_readers_would_tolerate_are_refused() -> None:
    jws = made()
    header, claims, signature = jws.split(".")
    variants = [
        jws + "=", f"{header}=.{claims}.{signature}", f"{header}.{claims}", f"{header}..{signature}", f".{claims}.",
        jws + ".", "." + jws, f"{header}.{claims}.{signature}.{signature}", " " + jws, jws + "\n", "", ".", "..",
        f"{header}.{claims}.", jws.replace(".", "\N{MIDDLE DOT}"), f"{header}.{claims}.{signature[:-1]}",
        f"{header}.{claims}.{signature[:4]}\n{signature[4:]}", f"{header}.{claims}.{'A' * 5000}",
    ]  # fmt: skip
    for variant in variants:
        assert refused(variant).startswith("proof."), variant


@pytest.mark.parametrize("jws", ["", ".", "..", "e30..AA", ".e30.AA", "e30.AA", "e30.e30.\u00e9"])
def test_what_has_not_three_parts_of_ascii_is_no_proof(jws: str) -> None:
    assert refused(jws) == "proof.form"


def test_a_proof_has_so_many_characters_and_no_more() -> None:
    longest = next(
        jws for size in range(3000) if len(jws := made(claims=CLAIMS | {"more": "x" * size})) >= MAX_PROOF_CHARACTERS
    )
    assert len(longest) == MAX_PROOF_CHARACTERS
    verified(longest)
    assert refused(made(claims=CLAIMS | {"more": "x" * 3000})) == "proof.form"


def test_a_signatures_unused_bits_must_be_zero() -> None:
    jws = made()
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    for other in alphabet:
        if other != jws[-1]:
            assert refused(jws[:-1] + other) in {"proof.form", "proof.signature"}


@given(st.integers(min_value=0), st.characters())
def test_a_proof_changed_anywhere_is_refused(position: int, character: str) -> None:
    jws = made()
    position %= len(jws)
    if jws[position] != character:
        refused(jws[:position] + character + jws[position + 1 :])


@given(st.text(max_size=200) | st.from_regex(r"[\w-]{0,40}\.[\w-]{0,40}\.[\w-]{0,40}", fullmatch=True))
def test_any_other_text_is_refused_and_breaks_nothing(text: str) -> None:
    refused(text)


@given(st.binary(max_size=100))
def test_base64url_has_one_form_for_any_bytes(data: bytes) -> None:
    text = base64url.encode(data)
    assert base64url.decode(text) == data
    for variant in (text + "=", text + "==", text + "\n", "+" + text, text.replace("-", "+").replace("_", "/") + "/"):
        try:
            assert base64url.encode(base64url.decode(variant)) == variant
        except ValueError:
            continue


def test_an_error_quotes_nothing_of_the_proof() -> None:
    with pytest.raises(Unauthenticated) as caught:
        verified(made(claims=CLAIMS | {"ath": "canary"}))
    assert "canary" not in repr(caught.value)
    assert "canary" not in caught.value.message
