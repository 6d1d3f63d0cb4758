"""The device key's signatures: DPoP proofs (RFC 9449) that cover the whole request, body included.

The only module of the shim's call path that imports `nacl`; it is itself imported after the child has started. It
never prints or represents the key.
"""

from __future__ import annotations

import json
import os
import time
from base64 import urlsafe_b64decode, urlsafe_b64encode
from hashlib import sha256

from nacl.bindings import crypto_sign, crypto_sign_BYTES, crypto_sign_seed_keypair, crypto_sign_SEEDBYTES

from percall.errors import IdentityError

_JTI_BYTES = 16


def base64url(data: bytes) -> str:
    """Base64url without padding, as JOSE writes it."""
    return urlsafe_b64encode(data).rstrip(b"=").decode()


def from_base64url(text: str) -> bytes:
    """The bytes of a base64url text without padding. Raises ValueError."""
    return urlsafe_b64decode(text + "=" * (-len(text) % 4))


def digest(body: bytes) -> str:
    """The digest of a request's whole body, as the proof's `content_digest` claim carries it."""
    return base64url(sha256(body).digest())


class DeviceKey:
    """The private Ed25519 key of one agent on one device, from its 32-byte seed.

    Raises IdentityError when the seed has another length. Safe to use from several threads.
    """

    __slots__ = ("_header", "_public", "_secret", "_token")

    def __init__(self, seed: bytes) -> None:
        if len(seed) != crypto_sign_SEEDBYTES:
            raise IdentityError("identity.key", "The stored device key is damaged.", "Sign in again: percall login.")
        public, self._secret = crypto_sign_seed_keypair(seed)
        self._public = base64url(public)
        header = {"typ": "dpop+jwt", "alg": "Ed25519", "jwk": self.public_jwk()}
        self._header = base64url(json.dumps(header, separators=(",", ":")).encode())
        self._token = ("", "")

    def __repr__(self) -> str:
        return f"DeviceKey({self.thumbprint()})"

    def public_jwk(self) -> dict[str, str]:
        """The public half, as a JWK (RFC 7517)."""
        return {"kty": "OKP", "crv": "Ed25519", "x": self._public}

    def thumbprint(self) -> str:
        """The public half's thumbprint (RFC 7638), to which the grant is bound."""
        return base64url(sha256(f'{{"crv":"Ed25519","kty":"OKP","x":"{self._public}"}}'.encode()).digest())

    def proof(
        self, method: str, url: str, token: str, nonce: str, body_digest: str, again: str = ""
    ) -> tuple[str, str]:
        """The proof's id (`jti`) and the proof, a compact JWS, for one request.

        `url` is without a query. An empty `token` or `nonce` is left out; `body_digest` comes from `digest`. `again` is
        the id of this request's earlier proof, whose answer was lost: a broker that has taken that takes this no more.
        """
        jti = again or base64url(os.urandom(_JTI_BYTES))
        claims: dict[str, str | int | bool] = {
            "jti": jti,
            "htm": method,
            "htu": url,
            "iat": int(time.time()),
            "content_digest": body_digest,
        }
        if again:
            claims["again"] = True
        if token:
            claims["ath"] = self._token_digest(token)
        if nonce:
            claims["nonce"] = nonce
        signed = f"{self._header}.{base64url(json.dumps(claims, separators=(',', ':')).encode())}"
        signature = crypto_sign(signed.encode(), self._secret)[:crypto_sign_BYTES]
        return jti, f"{signed}.{base64url(signature)}"

    def _token_digest(self, token: str) -> str:
        known, token_digest = self._token
        if known != token:
            token_digest = digest(token.encode())
            self._token = (token, token_digest)
        return token_digest


def make_enrolment_proof(key: DeviceKey, url: str, body: bytes) -> tuple[str, str]:
    """The id and the proof that an enrolment comes from the holder of the key that it introduces: no grant yet, no
    nonce yet.
    """
    return key.proof("POST", url, "", "", digest(body))
