"""Proofs, judged by joserfc: what we sign, others verify."""

from __future__ import annotations

import hashlib
import json
from base64 import urlsafe_b64decode

import pytest
from joserfc import jws
from joserfc.jwk import OKPKey

from percall.errors import IdentityError
from percall.proof import DeviceKey, digest, make_enrolment_proof

KEY = DeviceKey(bytes(range(32)))


def decoded(proof: str) -> tuple[dict[str, object], dict[str, object]]:
    header, claims, _ = proof.split(".")
    return json.loads(urlsafe_b64decode(header + "==")), json.loads(urlsafe_b64decode(claims + "=="))


def test_a_proof_covers_method_url_token_nonce_and_body() -> None:
    jti, proof = KEY.proof("POST", "https://b/v1/calls", "token", "nonce", digest(b"body"))
    header, claims = decoded(proof)
    assert header == {"typ": "dpop+jwt", "alg": "Ed25519", "jwk": KEY.public_jwk()}
    assert len(jti) == 22
    assert {name: claims[name] for name in ("jti", "htm", "htu", "nonce", "ath", "content_digest")} == {
        "jti": jti,
        "htm": "POST",
        "htu": "https://b/v1/calls",
        "nonce": "nonce",
        "ath": digest(b"token"),
        "content_digest": digest(b"body"),
    }
    # Raises unless the signature holds.
    jws.deserialize_compact(proof, OKPKey.import_key(dict(KEY.public_jwk())), algorithms=["Ed25519"])


def test_each_proof_has_an_id_of_its_own() -> None:
    assert len({KEY.proof("GET", "https://b", "t", "n", digest(b""))[0] for _ in range(100)}) == 100


def test_an_enrolment_is_proven_without_grant_or_nonce() -> None:
    _, claims = decoded(make_enrolment_proof(KEY, "https://b/v1/enrol", b"{}")[1])
    assert "ath" not in claims
    assert "nonce" not in claims
    assert claims["content_digest"] == digest(b"{}")


def test_the_thumbprint_is_rfc_7638s() -> None:
    assert KEY.thumbprint() == OKPKey.import_key(dict(KEY.public_jwk())).thumbprint()


def test_a_key_shows_nothing_of_itself() -> None:
    seed = hashlib.sha256(b"seed").digest()
    assert seed.hex() not in repr(DeviceKey(seed))
    assert repr(DeviceKey(seed)).startswith("DeviceKey(")


def test_a_damaged_key_is_refused() -> None:
    with pytest.raises(IdentityError):
        DeviceKey(b"short")
