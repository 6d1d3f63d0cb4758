"""Step 1 of every signed request: whose grant token it is, and whether the proof shows the key it is bound to.

Says who asks, never whether they may: a revoked grant is identified too, so that its refusals can be recorded.
Whether the proof's id is new is for the store to say, in the statement that records what was asked.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from percall import __version__, wire
from percall_broker.crypto.proofs import verify_head, verify_proof
from percall_broker.model.errors import InvalidInput, Unauthenticated
from percall_broker.model.records import Identity

if TYPE_CHECKING:
    from percall_broker.crypto.proofs import Proof
    from percall_broker.crypto.tokens import GrantToken, GrantTokens, Nonces
    from percall_broker.model.records import Grant

_SCHEME = "DPoP "
_SERVED = frozenset(map(str, wire.SERVED))
_VERSION_DIGITS = 8


@dataclass(frozen=True, slots=True)
class SignedRequest:
    """What a request says of itself: `path` as it was parsed, `body_digest` from `crypto.proofs.digest`.

    `presence` is the signature of a person's presence key, empty where the request carries none.
    """

    method: str
    path: str
    body_digest: str
    version: str
    authorization: str = field(repr=False)  # SECRET, never log
    proof: str = field(repr=False)
    presence: str = field(default="", repr=False)


def check_version(version: str) -> None:
    """Whether we serve who speaks this version of the wire. Raises InvalidInput, which says which side is too old."""
    if version in _SERVED:
        return
    if not (version.isascii() and version.isdecimal() and len(version) <= _VERSION_DIGITS):
        raise InvalidInput(
            "wire.version", "The request does not say which version of the wire it speaks.", "Is it percall that asks?"
        )
    spoken = f"percall there speaks version {version} of the wire, this broker ({__version__}) version {wire.VERSION}"
    if int(version) > wire.VERSION:
        raise InvalidInput("wire.version", f"The broker is too old: {spoken}.", "Update the broker.")
    raise InvalidInput("wire.version", f"Percall is too old here: {spoken}.", "Update percall on this machine.")


class Authenticator:
    """Checks tokens, proofs and nonces. `public_url` is the broker's configured URL, without a path."""

    def __init__(self, tokens: GrantTokens, nonces: Nonces, public_url: str) -> None:
        self._tokens = tokens
        self._nonces = nonces
        self._public_url = public_url

    def token(self, request: SignedRequest) -> GrantToken:
        """The grant token, if it is one of ours. Raises Unauthenticated, InvalidInput.

        Its end is not checked here: a grant's end is the store's to know, so that refusals for it are recorded.
        """
        check_version(request.version)
        return self.shown(request)

    def shown(self, request: SignedRequest) -> GrantToken:
        """The same of a request of whatever version. Raises Unauthenticated."""
        if not request.authorization.startswith(_SCHEME):
            raise Unauthenticated(
                "grant.missing", "The request carries no grant.", "Sign in: percall login.", challenge="invalid_request"
            )
        return self._tokens.verify(request.authorization[len(_SCHEME) :], now=0)

    def identity(self, request: SignedRequest, token: GrantToken, grant: Grant | None, now: float) -> Identity:
        """Who signed. Raises Unauthenticated, whose code says what does not hold."""
        proof = verify_proof(
            request.proof,
            method=request.method,
            url=self._public_url + request.path,
            token_digest=token.digest,
            body_digest=request.body_digest,
            now=now,
        )
        return self._holder(proof, token, grant, now)

    def vouch(self, request: SignedRequest, token: GrantToken, grant: Grant | None, now: float) -> None:
        """As `identity`, for a request whose body is still to come. Raises Unauthenticated."""
        url = self._public_url + request.path
        proof = verify_head(request.proof, method=request.method, url=url, token_digest=token.digest, now=now)
        self._holder(proof, token, grant, now)

    def _holder(self, proof: Proof, token: GrantToken, grant: Grant | None, now: float) -> Identity:
        if grant is None:
            raise Unauthenticated(
                wire.CODE_GRANT_UNKNOWN, "The grant is not known here.", "Sign in again: percall login."
            )
        # Both: what the token was issued for, and what the store holds now.
        if proof.thumbprint != token.thumbprint or proof.thumbprint != grant.device:
            raise Unauthenticated(
                "proof.device", "The proof is not of the grant's device key.", challenge="invalid_dpop_proof"
            )
        if not self._nonces.holds(proof.nonce, now):
            raise Unauthenticated("proof.nonce", "The proof needs this broker's nonce.", challenge=wire.NONCE_CHALLENGE)
        return Identity(grant, proof.jti, again=proof.again)
