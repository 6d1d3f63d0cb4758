"""Who signed: the token, the proof and the grant must all name one device key, and the proof a nonce of ours."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest

from percall import wire
from percall.proof import DeviceKey
from percall_broker.crypto.proofs import digest
from percall_broker.crypto.tokens import GrantTokens, Nonces
from percall_broker.model.errors import InvalidInput, Unauthenticated
from percall_broker.model.records import Grant
from percall_broker.stages.authenticate import Authenticator, SignedRequest, check_version

URL = "https://broker.example"
KEY, ANOTHER = DeviceKey(bytes(32)), DeviceKey(b"k" * 32)
NONCES = Nonces(b"n" * 32)
TOKENS = GrantTokens(b"s" * 32, URL)
AUTHENTICATOR = Authenticator(TOKENS, NONCES, URL)
GRANT = Grant(
    "g", "alice", "default", KEY.thumbprint(), "laptop", administrator=False, servers={}, state="active", version=1,
    expires_at=0, created_at=0, created_by="root",
)  # fmt: skip


def signed(
    key: DeviceKey = KEY, *, of: DeviceKey = KEY, nonce: str | None = None, path: str = "/v1/x"
) -> SignedRequest:
    """A request with the token of one device key, signed by another."""
    token = TOKENS.issue("g", of.thumbprint(), 0, now=0)
    nonce = NONCES.current(time.time()) if nonce is None else nonce
    _, proof = key.proof("POST", f"{URL}{path}", token, nonce, digest(b"body"))
    return SignedRequest("POST", "/v1/x", digest(b"body"), str(wire.VERSION), f"DPoP {token}", proof)


def refused(request: SignedRequest, grant: Grant | None = GRANT) -> str:
    """The code of it, whether the body is there or still to come."""
    token = AUTHENTICATOR.token(request)
    with pytest.raises(Unauthenticated) as whole:
        AUTHENTICATOR.identity(request, token, grant, time.time())
    with pytest.raises(Unauthenticated) as head:
        AUTHENTICATOR.vouch(request, token, grant, time.time())
    assert head.value.code == whole.value.code
    return whole.value.code


def test_whoever_signs_with_the_key_of_their_grant_is_its_holder() -> None:
    request = signed()
    token = AUTHENTICATOR.token(request)
    identity = AUTHENTICATOR.identity(request, token, GRANT, time.time())
    assert identity.grant is GRANT
    AUTHENTICATOR.vouch(request, token, GRANT, time.time())


def test_what_does_not_hold_is_said() -> None:
    assert refused(signed(), None) == "grant.unknown"
    assert refused(signed(ANOTHER)) == "proof.device", "a stolen token"
    assert refused(signed(ANOTHER, of=ANOTHER)) == "proof.device", "the store knows another key for this grant"
    assert refused(signed(), replace(GRANT, device=ANOTHER.thumbprint())) == "proof.device"
    assert refused(signed(), replace(GRANT, device="")) == "proof.device"
    assert refused(signed(nonce="")) == "proof.nonce"
    assert refused(signed(nonce=Nonces(bytes(32)).current(time.time()))) == "proof.nonce"
    assert refused(signed(path="/v1/y")) == "proof.request"
    assert refused(replace(signed(), method="GET")) == "proof.request"


def test_another_body_is_another_request_once_it_is_there() -> None:
    request = replace(signed(), body_digest=digest(b"another"))
    token = AUTHENTICATOR.token(request)
    AUTHENTICATOR.vouch(request, token, GRANT, time.time())
    with pytest.raises(Unauthenticated) as caught:
        AUTHENTICATOR.identity(request, token, GRANT, time.time())
    assert caught.value.code == "proof.digest"


@pytest.mark.parametrize(
    ("authorization", "code"),
    [("", "grant.missing"), ("Bearer x", "grant.missing"), ("DPoP", "grant.missing"), ("DPoP x", "grant.token")],
)
def test_a_request_without_a_token_of_ours_is_refused(authorization: str, code: str) -> None:
    with pytest.raises(Unauthenticated) as caught:
        AUTHENTICATOR.token(replace(signed(), authorization=authorization))
    assert caught.value.code == code


# --- versions of the wire: what is served, and what either side is told to update -------------------------------------


def test_our_own_version_and_the_previous_one_are_served() -> None:
    assert wire.VERSION in wire.SERVED
    for version in wire.SERVED:
        check_version(str(version))


@pytest.mark.parametrize(
    ("version", "advice"),
    [
        (str(wire.VERSION + 1), "Update the broker."),
        ("99999999", "Update the broker."),
        ("0", "Update percall on this machine."),
        ("", "Is it percall that asks?"),
        ("one", "Is it percall that asks?"),
        ("-1", "Is it percall that asks?"),
        ("9" * 5000, "Is it percall that asks?"),
        ("\N{ARABIC-INDIC DIGIT ONE}", "Is it percall that asks?"),
    ],
)
def test_a_version_that_is_not_served_says_which_side_to_update(version: str, advice: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        check_version(version)
    assert (caught.value.code, caught.value.next_step) == ("wire.version", advice)
    assert len(caught.value.message) < 200
