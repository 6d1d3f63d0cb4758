"""Passkeys (WebAuthn level 3): what a browser is asked for, and whether what it answers holds.

A passkey says that the person was there and verified (a PIN, a finger), at this origin, and signed this challenge. No
attestation is asked for: which maker's key it is decides nothing here.
"""

from __future__ import annotations

import importlib
import json
from dataclasses import dataclass
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from percall_broker.crypto import base64url
from percall_broker.model.errors import Forbidden

if TYPE_CHECKING:
    from collections.abc import Sequence

# The library takes 0.2 s to load, which a broker without a console open should not wait for.
# ruff: noqa: PLC0415

_TIMEOUT_MS = 120_000
_ED25519, _ES256, _RS256 = -8, -7, -257


@dataclass(frozen=True, slots=True)
class Origin:
    """Where the console is, `https://broker.example` or `http://localhost:8765`: what passkeys are bound to."""

    url: str

    @property
    def relying_party(self) -> str:
        """The host that passkeys are for; empty where it is a bare address, which no passkey can be for."""
        host = urlsplit(self.url).hostname or ""
        try:
            ip_address(host)
        except ValueError:
            return host
        return ""


@dataclass(frozen=True, slots=True)
class NewPasskey:
    """A passkey that was made. `id` and `public_key` (COSE) are base64url."""

    id: str
    public_key: str


def load() -> None:
    """Loads the library, in a thread of its own, before the first passkey: calls must not wait for that."""
    importlib.import_module("webauthn")


def creation_options(origin: Origin, person: str, challenge: bytes, known: Sequence[str]) -> dict[str, Any]:
    """What `navigator.credentials.create` is given (as JSON): a passkey that names its person itself."""
    from webauthn import generate_registration_options, options_to_json
    from webauthn.helpers.cose import COSEAlgorithmIdentifier
    from webauthn.helpers.structs import (
        AuthenticatorSelectionCriteria,
        PublicKeyCredentialDescriptor,
        ResidentKeyRequirement,
        UserVerificationRequirement,
    )

    made = generate_registration_options(
        rp_id=origin.relying_party,
        rp_name="Percall",
        user_name=person,
        user_id=person.encode(),
        challenge=challenge,
        timeout=_TIMEOUT_MS,
        authenticator_selection=AuthenticatorSelectionCriteria(
            resident_key=ResidentKeyRequirement.REQUIRED, user_verification=UserVerificationRequirement.REQUIRED
        ),
        exclude_credentials=[PublicKeyCredentialDescriptor(id=base64url.decode(one)) for one in known],
        supported_pub_key_algs=[COSEAlgorithmIdentifier(one) for one in (_ED25519, _ES256, _RS256)],
    )
    return dict(json.loads(options_to_json(made)))


def request_options(origin: Origin, challenge: bytes, allowed: Sequence[str]) -> dict[str, Any]:
    """What `navigator.credentials.get` is given (as JSON); nothing in `allowed`: any passkey of this origin."""
    from webauthn import generate_authentication_options, options_to_json
    from webauthn.helpers.structs import PublicKeyCredentialDescriptor, UserVerificationRequirement

    made = generate_authentication_options(
        rp_id=origin.relying_party,
        challenge=challenge,
        timeout=_TIMEOUT_MS,
        allow_credentials=[PublicKeyCredentialDescriptor(id=base64url.decode(one)) for one in allowed],
        user_verification=UserVerificationRequirement.REQUIRED,
    )
    return dict(json.loads(options_to_json(made)))


def made(origin: Origin, credential: dict[str, Any], challenge: bytes) -> NewPasskey:
    """The passkey that was made for this challenge. Raises Forbidden."""
    from webauthn import verify_registration_response
    from webauthn.helpers.exceptions import WebAuthnException

    try:
        found = verify_registration_response(
            credential=credential,
            expected_challenge=challenge,
            expected_rp_id=origin.relying_party,
            expected_origin=origin.url,
            require_user_verification=True,
        )
    except (WebAuthnException, ValueError, TypeError, KeyError, AttributeError):
        raise _wrong() from None
    return NewPasskey(base64url.encode(found.credential_id), base64url.encode(found.credential_public_key))


def credential_id(credential: dict[str, Any]) -> str:
    """Which passkey an assertion says it is of."""
    named = credential.get("id")
    return named if isinstance(named, str) else ""


def asserted(origin: Origin, credential: dict[str, Any], challenge: bytes, *, public_key: str, sign_count: int) -> int:
    """The passkey's new counter, where it has signed this challenge for this origin, its person verified.

    Raises Forbidden.
    """
    from webauthn import verify_authentication_response
    from webauthn.helpers.exceptions import WebAuthnException

    try:
        found = verify_authentication_response(
            credential=credential,
            expected_challenge=challenge,
            expected_rp_id=origin.relying_party,
            expected_origin=origin.url,
            credential_public_key=base64url.decode(public_key),
            credential_current_sign_count=sign_count,
            require_user_verification=True,
        )
    except (WebAuthnException, ValueError, TypeError, KeyError, AttributeError):
        raise _wrong() from None
    return found.new_sign_count


def _wrong() -> Forbidden:
    return Forbidden(
        "passkey.wrong", "The passkey's answer does not hold for this.", "Load the page anew, and try again."
    )
