"""What the broker itself issues: grant tokens, call credentials, nonces and the console's tokens.

Each is checked without the store, so each says only what never changes; state, permissions and single use are the
store's. No error or repr here quotes a token.
"""

from __future__ import annotations

import json
from collections import OrderedDict
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from percall import wire
from percall.errors import WireError
from percall_broker.crypto import base64url, sodium
from percall_broker.model.errors import Unauthenticated

NEVER = 253402300799
"""The last second of the year 9999: the `exp` of a grant that does not expire."""
MAX_TOKEN_CHARACTERS = 2048
NONCE_MINUTES = 3
"""How many minutes a nonce outlives its own."""
_REMEMBERED_TOKENS = 10_000
_NONCE_MAC_BYTES = 16
_CONSOLE_BYTES = sodium.KEY_BYTES
_CREDENTIAL_PREFIX = "pcc1"
_SECONDS = 60


@dataclass(frozen=True, slots=True)
class GrantToken:
    """What a grant token says: the grant, the thumbprint of the device key it is bound to, and when it ends.

    `digest` is what a proof's `ath` must be.
    """

    grant: str
    thumbprint: str
    expires_at: int
    digest: str


class GrantTokens:
    """Issues and verifies grant tokens: `at+jwt`, Ed25519, claims iss aud sub cnf iat exp and no other.

    A token that holds is remembered by its hash, so its signature is checked once; its end is checked each time.
    """

    def __init__(self, seed: bytes, issuer: str) -> None:
        self._seed = seed
        self._public = sodium.public_key(seed)
        self._issuer = issuer
        self._header = base64url.encode(b'{"alg":"Ed25519","typ":"at+jwt"}')
        self._known: OrderedDict[bytes, GrantToken] = OrderedDict()

    def issue(self, grant: str, thumbprint: str, expires_at: int, now: float) -> str:
        """A token for a grant and the device key it is bound to. `expires_at` 0: it never expires."""
        claims = {
            "aud": self._issuer,
            "cnf": {"jkt": thumbprint},
            "exp": expires_at or NEVER,
            "iat": int(now),
            "iss": self._issuer,
            "sub": grant,
        }
        signed = f"{self._header}.{base64url.encode(wire.dump(claims))}"
        return f"{signed}.{base64url.encode(sodium.sign(self._seed, signed.encode()))}"

    def verify(self, token: str, now: float) -> GrantToken:
        """What the token says, if it is ours and has not ended. Raises Unauthenticated."""
        if len(token) > MAX_TOKEN_CHARACTERS or not token.isascii():
            raise Unauthenticated("grant.token", "The grant token is not one of this broker's.")
        key = sha256(token.encode()).digest()
        known = self._known.get(key)
        if known is None:
            known = self._verified(token, base64url.encode(key))
            self._known[key] = known
            if len(self._known) > _REMEMBERED_TOKENS:
                self._known.popitem(last=False)
        if known.expires_at <= now:
            raise Unauthenticated("grant.expired", "The grant has expired.", "Ask your administrator for a new invite.")
        return known

    def _verified(self, token: str, digest: str) -> GrantToken:
        signed, _, signature = token.rpartition(".")
        header, _, claims_text = signed.partition(".")
        try:
            # Only our own header is accepted, byte for byte: the token cannot choose how it is verified.
            if header != self._header or not sodium.signature_holds(
                self._public, signed.encode(), base64url.decode(signature)
            ):
                raise ValueError  # noqa: TRY301 - one refusal for all of these
            claims: dict[str, Any] = wire.strict_json(base64url.decode(claims_text))
            if claims["iss"] != self._issuer or claims["aud"] != self._issuer:
                raise ValueError  # noqa: TRY301
            return GrantToken(claims["sub"], claims["cnf"]["jkt"], claims["exp"], digest)
        except (ValueError, WireError, KeyError, TypeError):
            raise Unauthenticated(
                "grant.token", "The grant token is not one of this broker's.", "Sign in again: percall login."
            ) from None


@dataclass(frozen=True, slots=True)
class CallCredential:
    """What a call credential is bound to. `arguments` is the digest of the call's exact argument bytes."""

    call: str
    grant: str
    thumbprint: str
    server: str
    tool: str
    arguments: str
    expires_at: int


class CallCredentials:
    """Issues and verifies call credentials: the binding, and an HMAC over it. That each works once is the store's."""

    def __init__(self, key: bytes) -> None:
        self._key = key

    def issue(self, credential: CallCredential) -> str:
        """The credential as it travels."""
        c = credential
        values = (c.call, c.grant, c.thumbprint, c.server, c.tool, c.arguments, c.expires_at)
        body = f"{_CREDENTIAL_PREFIX}.{base64url.encode(wire.dump(values))}"
        return f"{body}.{base64url.encode(sodium.mac(self._key, body.encode()))}"

    def verify(self, text: str, now: float) -> CallCredential:
        """What the credential is bound to, if it is ours and its time is not over. Raises Unauthenticated."""
        body, _, mac = text.rpartition(".")
        try:
            if not sodium.same(base64url.decode(mac), sodium.mac(self._key, body.encode())):
                raise ValueError  # noqa: TRY301
            prefix, _, values = body.partition(".")
            if prefix != _CREDENTIAL_PREFIX:
                raise ValueError  # noqa: TRY301
            credential = CallCredential(*json.loads(base64url.decode(values)))
        except (ValueError, TypeError):
            raise Unauthenticated("credential.invalid", "The call credential is not one of this broker's.") from None
        if credential.expires_at <= now:
            raise Unauthenticated(
                "credential.expired", "The call credential was not used in time.", "Call the tool again."
            )
        return credential


class Nonces:
    """A nonce names its minute under an HMAC, so that every replica can check it and none need remember it."""

    def __init__(self, key: bytes) -> None:
        self._key = key
        self._valid: tuple[int, tuple[bytes, ...], str] = (0, (), "")

    def current(self, now: float) -> str:
        """The nonce of this minute."""
        return self._at(now)[2]

    def holds(self, nonce: str | None, now: float) -> bool:
        """Whether this is the nonce of one of the last minutes (or of the next, for a replica whose clock is ahead)."""
        if nonce is None or not nonce.isascii():
            return False
        given = nonce.encode()
        return any([sodium.same(given, valid) for valid in self._at(now)[1]])  # noqa: C419 - no early end

    def _at(self, now: float) -> tuple[int, tuple[bytes, ...], str]:
        minute = int(now) // _SECONDS
        if self._valid[0] != minute:
            nonces = {m: self._make(m) for m in range(minute - NONCE_MINUTES, minute + 2)}
            self._valid = (minute, tuple(text.encode() for text in nonces.values()), nonces[minute])
        return self._valid

    def _make(self, minute: int) -> str:
        name = minute.to_bytes(8, "big")
        return base64url.encode(name[3:] + sodium.mac(self._key, b"nonce" + name)[:_NONCE_MAC_BYTES])


class ConsoleTokens:
    """What a console's cookie holds: a random value under an HMAC, so that one of ours is told from a guess without the
    store.
    """

    def __init__(self, key: bytes) -> None:
        self._key = key

    def new(self) -> str:
        """A further one."""
        value = sodium.new_key()
        return base64url.encode(value + self._mac(value))

    def is_ours(self, token: str) -> bool:
        """Whether this broker made it; whether it still signs anybody in, the store says."""
        try:
            decoded = base64url.decode(token)
        except ValueError:
            return False
        value, mac = decoded[:_CONSOLE_BYTES], decoded[_CONSOLE_BYTES:]
        return sodium.same(mac, self._mac(value))

    def _mac(self, value: bytes) -> bytes:
        return sodium.mac(self._key, b"console" + value)
