"""Verifies the proof that a device key signs each request with: DPoP (RFC 9449), with a digest of the whole body.

Strict by intent: one form is accepted, everything else is refused, and no header names a key or a check of its own.
It decides nothing about the grant, and whether a `jti` is new is for the store to say.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from functools import lru_cache
from hashlib import sha256
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from percall import wire
from percall.errors import WireError
from percall_broker.crypto import base64url, jwk
from percall_broker.model.errors import InvalidInput, Unauthenticated
from percall_broker.model.moments import to_the_minute

if TYPE_CHECKING:
    from collections.abc import Mapping

MAX_PROOF_CHARACTERS = 4096
_JTI_BYTES = 16
_REMEMBERED_HEADERS = 4096
_REMEMBERED_PROOFS = 64
_LAST_SECOND = 253402300800  # of the year 9999


@dataclass(frozen=True, slots=True)
class Proof:
    """A proof that holds: its id, the thumbprint of the key that made it, and the nonce that it names, if any.

    `body_digest` is of the body that it was made for, as it claims. `again`: its request was sent before under this id,
    and the answer was lost, says whoever signed.
    """

    jti: str
    thumbprint: str
    nonce: str | None
    body_digest: object
    again: bool = False


def digest(data: bytes) -> str:
    """SHA-256 in base64url: of a body for `content_digest`, of a token for `ath`."""
    return base64url.encode(sha256(data).digest())


def verify_proof(jws: str, *, method: str, url: str, token_digest: str | None, body_digest: str, now: float) -> Proof:
    """The proof of a compact JWS, for exactly this request at this time: as `verify_head`, and for this very body."""
    proof = verify_head(jws, method=method, url=url, token_digest=token_digest, now=now)
    if proof.body_digest != body_digest:
        raise _refused("digest", "The proof was made for another body.")
    return proof


def verify_head(jws: str, *, method: str, url: str, token_digest: str | None, now: float) -> Proof:
    """The proof of a compact JWS, for a request of which only the head is here: its body is still to be compared.

    `url` is the configured public URL with the request's path; `token_digest` is `digest` of the grant token, None
    for a request that has no grant yet. Raises Unauthenticated, whose code says which step failed.
    """
    # 1 to 4. What is signed, and by whom: whatever the request.
    if len(jws) > MAX_PROOF_CHARACTERS or not jws.isascii():
        raise _refused("form", "The proof is not a compact JWS.")
    key, claims = _signed(jws)

    # 5. This request: method, URL, grant.
    if claims.get("htm") != method or claims.get("htu") != url:
        raise _other_request(claims.get("htu"), url)
    if claims.get("ath") != token_digest or ("ath" in claims) != (token_digest is not None):
        raise _refused("token", "The proof was made for another grant token.")

    # 6. This time.
    issued_at = claims.get("iat")
    if type(issued_at) is not int or not now - wire.MAX_SKEW_SECONDS <= issued_at <= now + wire.MAX_SKEW_SECONDS:
        raise _other_time(issued_at, now)

    # 7. An id that names the request, and a nonce for the caller to check.
    jti, nonce = claims.get("jti"), claims.get("nonce")
    if type(jti) is not str or len(_part(jti)) != _JTI_BYTES:
        raise _refused("id", "The proof's id is not 16 bytes of base64url.")
    if "nonce" in claims and type(nonce) is not str:
        raise _refused("nonce", "The proof's nonce is not a string.")
    return Proof(jti, key.thumbprint, nonce, claims.get("content_digest"), claims.get("again") is True)


@lru_cache(maxsize=_REMEMBERED_PROOFS)
def _signed(jws: str) -> tuple[jwk.PublicKey, Mapping[str, Any]]:
    """Whose signature a JWS bears, and the claims. A large request's proof is looked at twice: before its body comes,
    and when it is there.
    """
    # 1. Three parts, each canonical base64url.
    signed, _, signature_text = jws.rpartition(".")
    header_text, _, claims_text = signed.partition(".")
    if not header_text or not claims_text:
        raise _refused("form", "The proof is not a compact JWS.")

    # 2. The header: dpop+jwt, one of two algorithms, a sound key of that algorithm, and nothing else.
    key = _key_of_header(header_text)

    # 3. The signature, before anything that it covers is believed.
    if not key.holds(signed.encode(), _part(signature_text)):
        raise _refused("signature", "The proof's signature does not hold.")

    # 4. The claims: one strict JSON object.
    return key, MappingProxyType(_object(claims_text))


@lru_cache(maxsize=_REMEMBERED_HEADERS)
def _key_of_header(text: str) -> jwk.PublicKey:
    """A device's header never changes, so it is parsed, and its key checked, once."""
    header = _object(text)
    # An exact set of members refuses jku, x5u, crit, kid and whatever else would add meaning.
    if set(header) != {"typ", "alg", "jwk"} or header["typ"] != "dpop+jwt":
        raise _refused("header", "The proof's header is not exactly typ, alg and jwk.")
    try:
        key = jwk.parse(header["jwk"])
    except InvalidInput as error:
        raise _refused("key", error.message, error.next_step) from None
    if header["alg"] != key.algorithm:
        raise _refused("algorithm", "The proof's algorithm is not its key's.")
    return key


def _part(text: str) -> bytes:
    try:
        return base64url.decode(text)
    except ValueError:
        raise _refused("form", "A part of the proof is not canonical base64url.") from None


def _object(text: str) -> dict[str, Any]:
    try:
        value = wire.strict_json(_part(text))
    except WireError as error:
        raise _refused("json", error.message) from None
    if not isinstance(value, dict):
        raise _refused("json", "A part of the proof is not a JSON object.")
    return value


def _other_request(said: object, url: str) -> Unauthenticated:
    """Names the broker's public URL to whoever has asked it by another of its names."""
    ours = _origin(url)
    return _refused(
        "request",
        "The proof was made for another request.",
        "Does something on the way change requests?"
        if isinstance(said, str) and _origin(said) == ours
        else f"This broker is reached at {ours}: log in there. If that is wrong, mend its --public-url.",
    )


def _origin(url: str) -> str:
    return "/".join(url.split("/", 3)[:3])


def _other_time(issued_at: object, now: float) -> Unauthenticated:
    """Names both clocks: which of them is wrong only a person can tell."""
    if type(issued_at) is not int or not 0 <= issued_at < _LAST_SECOND:
        return _refused("time", "The proof does not say when it was made.")
    theirs, ours = to_the_minute(issued_at), to_the_minute(now)
    apart = timedelta(minutes=round(abs(now - issued_at) / 60))
    side = "ahead of" if issued_at > now else "behind"
    return _refused(
        "time",
        f"This machine's clock ({theirs} UTC) is {_in_words(apart)} {side} the broker's ({ours} UTC).",
        "Set the one that is wrong right; they may differ by a minute.",
    )


def _in_words(span: timedelta) -> str:
    hours, minutes = divmod(span.seconds // 60, 60)
    parts = ((span.days, "d"), (hours, "h"), (minutes, "min"))
    return " ".join(f"{number} {unit}" for number, unit in parts if number)


def _refused(step: str, message: str, next_step: str = "") -> Unauthenticated:
    return Unauthenticated(f"proof.{step}", message, next_step, challenge="invalid_dpop_proof")
