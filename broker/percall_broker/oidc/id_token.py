"""An ID token, verified (OpenID Connect Core 1.0, section 3.1.3.7): who signed in, for whom, when, for which login."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from joserfc import jws, jwt
from joserfc.errors import JoseError

from percall_broker.model.errors import Unauthenticated

if TYPE_CHECKING:
    from joserfc.jwk import KeySet

ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "Ed25519", "EdDSA")
"""Signatures by a provider's public key. Neither `none` nor a MAC: a client secret signs nothing here."""
LEEWAY_SECONDS = 120
_MOST_GROUPS = 1000
_MOST_CHARACTERS = 255


@dataclass(frozen=True, slots=True)
class Account:
    """An account at the provider. `subject` never changes hands (Core, section 2); `name` and `groups` may change."""

    issuer: str
    subject: str
    name: str
    groups: frozenset[str]


@dataclass(frozen=True, slots=True)
class Expected:
    """What a token must be of: this issuer, for this client, for the login that made this nonce."""

    issuer: str
    client_id: str
    nonce: str
    name_claim: str
    groups_claim: str


def is_signed_by_unknown_key(token: str, keys: KeySet) -> bool:
    """Whether the token names a key that the set does not have: then the provider may have a newer set."""
    try:
        named = jws.extract_compact(token.encode()).headers().get("kid")
    except (JoseError, ValueError):
        return False
    return named is not None and all(key.kid != named for key in keys.keys)


def verify(token: str, keys: KeySet, expected: Expected, now: float) -> Account:
    """The account that a token speaks of. Raises Unauthenticated."""
    try:
        claims: dict[str, Any] = jwt.decode(token, keys, algorithms=list(ALGORITHMS)).claims
    except (JoseError, ValueError):
        raise _refused("signature", "The provider's ID token does not carry a signature of its own.") from None
    _check_binding(claims, expected)
    _check_time(claims, now)
    return _account(claims, expected)


def _check_binding(claims: dict[str, Any], expected: Expected) -> None:
    if claims.get("iss") != expected.issuer:
        raise _refused("issuer", "The ID token is another issuer's.")
    audience = claims.get("aud")
    audiences = audience if isinstance(audience, list) else [audience]
    if expected.client_id not in audiences:
        raise _refused("audience", "The ID token is for another client.")
    if (len(audiences) > 1 or "azp" in claims) and claims.get("azp") != expected.client_id:
        raise _refused("audience", "The ID token was asked for by another client.")
    if not expected.nonce or claims.get("nonce") != expected.nonce:
        raise _refused("nonce", "The ID token is of another sign-in.")


def _check_time(claims: dict[str, Any], now: float) -> None:
    expires, issued = claims.get("exp"), claims.get("iat")
    if not isinstance(expires, (int, float)) or not isinstance(issued, (int, float)):
        raise _refused("time", "The ID token does not say from when to when it holds.")
    if expires + LEEWAY_SECONDS < now:
        raise _refused("expired", "The ID token has expired.")
    not_before = claims.get("nbf", issued)
    if issued - LEEWAY_SECONDS > now or not isinstance(not_before, (int, float)) or not_before - LEEWAY_SECONDS > now:
        raise _refused("clock", "The ID token is from the future: the clocks are apart.")


def _account(claims: dict[str, Any], expected: Expected) -> Account:
    subject, name = claims.get("sub"), claims.get(expected.name_claim)
    if not isinstance(subject, str) or not 0 < len(subject) <= _MOST_CHARACTERS:
        raise _refused("subject", "The ID token names nobody.")
    if not isinstance(name, str) or not name:
        raise _refused("name", f"The ID token has no {expected.name_claim!r}, which names the person here.")
    if expected.name_claim == "email" and claims.get("email_verified") is not True:
        raise _refused("email", "The provider has not verified the account's e-mail address.")
    groups = claims.get(expected.groups_claim, [])
    if not isinstance(groups, list) or len(groups) > _MOST_GROUPS or not all(isinstance(one, str) for one in groups):
        raise _refused("groups", f"The ID token's {expected.groups_claim!r} is not a list of groups.")
    return Account(expected.issuer, subject, name, frozenset(groups))


def _refused(code: str, message: str) -> Unauthenticated:
    return Unauthenticated(f"sign_in.{code}", message, "Sign in again; if it stays so, ask your administrator.")
