"""A passkey without a browser: makes and signs as an authenticator does (WebAuthn level 3), also wrongly."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

import cbor2
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from percall.proof import base64url

PRESENT, VERIFIED, ATTESTED = 0x01, 0x04, 0x40


@dataclass
class Passkey:
    """One passkey. What its fields say is what it does: a test may have it lie."""

    origin: str
    relying_party: str = "localhost"
    flags: int = PRESENT | VERIFIED
    count: int = 0
    has_counter: bool = True
    id: bytes = field(default_factory=lambda: os.urandom(16))
    key: ec.EllipticCurvePrivateKey = field(default_factory=lambda: ec.generate_private_key(ec.SECP256R1()))

    def _client_data(self, kind: str, challenge: str) -> bytes:
        return json.dumps({"type": kind, "challenge": challenge, "origin": self.origin}).encode()

    def _head(self, more: int = 0) -> bytes:
        counter = self.count.to_bytes(4, "big")
        return sha256(self.relying_party.encode()).digest() + bytes([self.flags | more]) + counter

    def _credential(self, response: dict[str, str]) -> dict[str, Any]:
        name = base64url(self.id)
        return {"id": name, "rawId": name, "type": "public-key", "clientExtensionResults": {}, "response": response}

    def create(self, challenge: str) -> dict[str, Any]:
        """What `navigator.credentials.create` answers, as JSON."""
        numbers = self.key.public_key().public_numbers()
        cose = cbor2.dumps({1: 2, 3: -7, -1: 1, -2: numbers.x.to_bytes(32, "big"), -3: numbers.y.to_bytes(32, "big")})
        data = self._head(ATTESTED) + bytes(16) + len(self.id).to_bytes(2, "big") + self.id + cose
        attestation = cbor2.dumps({"fmt": "none", "attStmt": {}, "authData": data})
        client = self._client_data("webauthn.create", challenge)
        return self._credential({"clientDataJSON": base64url(client), "attestationObject": base64url(attestation)})

    def get(self, challenge: str) -> dict[str, Any]:
        """What `navigator.credentials.get` answers, as JSON."""
        self.count += self.has_counter
        client, data = self._client_data("webauthn.get", challenge), self._head()
        signature = self.key.sign(data + sha256(client).digest(), ec.ECDSA(hashes.SHA256()))
        return self._credential(
            {
                "clientDataJSON": base64url(client),
                "authenticatorData": base64url(data),
                "signature": base64url(signature),
            }
        )
