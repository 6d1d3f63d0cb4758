"""Public device keys: strict parsing of a JWK (RFC 7517), its thumbprint (RFC 7638), and signatures under it.

Two kinds: Ed25519, and P-256 for keys that live in a TPM or a Secure Enclave. Keys that would accept signatures
nobody made (small order, off the curve) are refused here, so no other module ever holds one.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256

from percall_broker.crypto import base64url, sodium
from percall_broker.model.errors import InvalidInput

if TYPE_CHECKING:
    from collections.abc import Callable

_COORDINATE_BYTES = 32
_REMEMBERED_KEYS = 4096


@dataclass(frozen=True, slots=True)
class PublicKey:
    """A sound public key. `algorithm` is Ed25519 or ES256; `thumbprint` names the key."""

    algorithm: str
    thumbprint: str
    holds: Callable[[bytes, bytes], bool] = field(repr=False, compare=False)
    """(message, signature): whether the signature is this key's."""


def parse(jwk: Any) -> PublicKey:
    """The key of a JSON object: exactly the members of a public key, and a sound key. Raises InvalidInput."""
    if not isinstance(jwk, dict) or not all(type(value) is str for value in jwk.values()):
        raise InvalidInput("key.form", "The device key is not a public JWK.")
    return _parse(frozenset(jwk.items()))


@lru_cache(maxsize=_REMEMBERED_KEYS)
def _parse(members: frozenset[tuple[str, str]]) -> PublicKey:
    jwk = dict(members)
    kind = (jwk.get("kty"), jwk.get("crv"), frozenset(jwk))
    if kind == ("OKP", "Ed25519", frozenset({"kty", "crv", "x"})):
        return _ed25519(jwk["x"])
    if kind == ("EC", "P-256", frozenset({"kty", "crv", "x", "y"})):
        return _p256(jwk["x"], jwk["y"])
    raise InvalidInput("key.kind", "The device key is neither an Ed25519 nor a P-256 public JWK, with no other member.")


def _ed25519(x: str) -> PublicKey:
    public = _coordinate(x)
    if not sodium.is_sound_public_key(public):
        raise InvalidInput(
            "key.unsound", "The device key is not a sound Ed25519 key.", "Make a new key: percall login."
        )

    def holds(message: bytes, signature: bytes) -> bool:
        return sodium.signature_holds(public, message, signature)

    return PublicKey("Ed25519", _thumbprint(f'{{"crv":"Ed25519","kty":"OKP","x":"{x}"}}'), holds)


def _p256(x: str, y: str) -> PublicKey:
    numbers = ec.EllipticCurvePublicNumbers(
        int.from_bytes(_coordinate(x), "big"), int.from_bytes(_coordinate(y), "big"), ec.SECP256R1()
    )
    try:
        public = numbers.public_key()
    except ValueError:
        raise InvalidInput("key.unsound", "The device key is not a point of P-256.") from None

    def holds(message: bytes, signature: bytes) -> bool:
        if len(signature) != 2 * _COORDINATE_BYTES:
            return False
        r = int.from_bytes(signature[:_COORDINATE_BYTES], "big")
        s = int.from_bytes(signature[_COORDINATE_BYTES:], "big")
        try:
            public.verify(encode_dss_signature(r, s), message, ec.ECDSA(SHA256()))
        except InvalidSignature:
            return False
        return True

    return PublicKey("ES256", _thumbprint(f'{{"crv":"P-256","kty":"EC","x":"{x}","y":"{y}"}}'), holds)


def _coordinate(text: str) -> bytes:
    try:
        data = base64url.decode(text)
    except ValueError:
        data = b""
    if len(data) != _COORDINATE_BYTES:
        raise InvalidInput("key.form", "A coordinate of the device key is not 32 bytes of base64url.")
    return data


def _thumbprint(canonical: str) -> str:
    return base64url.encode(sha256(canonical.encode()).digest())
