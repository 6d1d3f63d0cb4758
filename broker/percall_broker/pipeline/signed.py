"""Who signed a request, and whether its proof is new: what every signed request begins with.

What changes people, grants, servers or keys goes through `changing` or `present`, and nothing else may:

    1  whose grant token, which device key, a nonce of ours
    2  the proof is new: from now on, the same request is refused
    3  the grant stands, and is an administrator's
    4  the person is there: a signature of their presence key over this request. An automation has none to show;
       its grant names the areas that it may change

A request that leaves a row of its own in the log has its replay caught by that row's unique id (`identify`); any
other is remembered by its proof's id (`identify_once`).
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from percall import wire
from percall_broker.model.errors import BrokerError, Forbidden, Unauthenticated
from percall_broker.model.standing import barred, require
from percall_broker.store.protocol import Statement

if TYPE_CHECKING:
    from percall_broker.crypto.tokens import GrantToken
    from percall_broker.model.records import Grant, Identity
    from percall_broker.stages.authenticate import Authenticator, SignedRequest
    from percall_broker.stages.lookup import Lookup
    from percall_broker.stages.presence import Presence
    from percall_broker.store.protocol import Store


class Signed:
    """Identifies those who sign. Every method raises Unauthenticated, and Unavailable when the store cannot answer."""

    def __init__(self, store: Store, lookup: Lookup, authenticator: Authenticator, presence: Presence) -> None:
        self._store = store
        self._lookup = lookup
        self._authenticator = authenticator
        self._presence = presence

    def admit(self, request: SignedRequest) -> str:
        """The grant that a request shows; refuses whoever shows no token of ours. Raises Unauthenticated.

        No more than a first look, before anything of a body is read.
        """
        return self._authenticator.token(request).grant

    def shown(self, request: SignedRequest) -> str:
        """The grant that a request shows, of whatever version it is. Raises Unauthenticated."""
        return self._authenticator.shown(request).grant

    async def vouch(self, request: SignedRequest, now: float) -> None:
        """Refuse whoever has not signed the head of this request; its body, which the proof covers, is still to come.

        The whole request is looked at again, by `identify` or `identify_once`, when it is there.
        """
        token = self._authenticator.token(request)
        self._authenticator.vouch(request, token, await self._lookup.grant(token.grant), now)

    async def identify(self, request: SignedRequest, now: float) -> Identity:
        """Who signed, in whatever state their grant is. The caller records the id, and so refuses a replay."""
        token = self._authenticator.token(request)
        grant = await self._lookup.grant(token.grant)
        return self._identity(request, token, grant, now)

    async def identify_once(self, request: SignedRequest, now: float) -> Identity:
        """Who signed, by a fresh reading of the grant; the same request is refused from now on."""
        token = self._authenticator.token(request)
        grant = await self._lookup.grant(token.grant, fresh=True)
        identity = self._identity(request, token, grant, now)
        expires_at = int(now) + 2 * wire.MAX_SKEW_SECONDS
        remember = Statement("remember_proof", {"jti": identity.jti, "expires_at": expires_at})
        if not (await self._store.append(remember))[0]:
            with naming(identity):
                raise replayed(identity)
        return identity

    async def administrator(self, request: SignedRequest, now: float) -> Identity:
        """Who signed, if it is an administrator's active grant: enough to read. Raises Forbidden too."""
        identity = await self.standing(request, now)  # 1 to 3
        if not identity.grant.administrator:  # 3
            with naming(identity):
                raise Forbidden(
                    "grant.administrator",
                    "Only an administrator may do this.",
                    "Sign in with an administrator's invite.",
                )
        return identity

    async def changing(self, request: SignedRequest, area: str, now: float) -> Identity:
        """An administrator who is there, or an automation that may change this area. Raises Forbidden too.

        `area` is one of `model.records.AREAS`, or empty for what no automation may change.
        """
        identity = await self.administrator(request, now)  # 1 to 3
        with naming(identity):
            if not identity.grant.automation:
                await self._present(identity, request, now)  # 4
                return replace(identity, presence="passphrase")
            if area not in identity.grant.may:  # 4
                raise Forbidden(
                    "automation.area",
                    f"The automation {identity.grant.person} may not change {area or 'this'}.",
                    "An administrator can do it, or make an automation grant that may.",
                )
        return replace(identity, presence="automation")

    async def present(self, request: SignedRequest, now: float) -> tuple[Identity, str]:
        """A person who is there, and the public key that says so: for what is their own. Raises Forbidden too."""
        identity = await self.standing(request, now)  # 1 to 3
        with naming(identity):
            if identity.grant.automation:
                raise Forbidden("automation.presence", "An automation has no presence and no keys of its own.")
            key = await self._present(identity, request, now)  # 4
            return replace(identity, presence="passphrase"), key

    async def standing(self, request: SignedRequest, now: float) -> Identity:
        """Who signed, if their grant stands: enough to read what is their own. Raises Forbidden too."""
        identity = await self.identify_once(request, now)
        require(barred(identity.grant, now))
        return identity

    def _identity(self, request: SignedRequest, token: GrantToken, grant: Grant | None, now: float) -> Identity:
        try:
            return self._authenticator.identity(request, token, grant, now)
        except Unauthenticated as error:
            error.grant = token.grant
            raise

    async def _present(self, identity: Identity, request: SignedRequest, now: float) -> str:
        grant = identity.grant
        return await self._presence.require(grant.person, request, identity.jti, now, guesser=grant.device)


class naming:  # noqa: N801 - read in a `with`
    """Errors of the block say whose request it was. A class, since contextlib's way costs more than some steps."""

    __slots__ = ("_grant",)

    def __init__(self, identity: Identity) -> None:
        self._grant = identity.grant.id

    def __enter__(self) -> None:
        """Nothing to do."""

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        """Says it."""
        if isinstance(error, BrokerError):
            error.grant = self._grant


def renewed(identity: Identity, grant: Grant) -> Identity:
    """The same signer with a newer reading of the grant. Raises Unauthenticated when it is another device's by now."""
    if grant is identity.grant:
        return identity
    if grant.device != identity.grant.device:
        raise Unauthenticated("proof.device", "The grant is another device's by now.", challenge="invalid_dpop_proof")
    return replace(identity, grant=grant)


def replayed(identity: Identity) -> Unauthenticated:
    """The refusal of a request that was here before. A device that has said so itself attacks nobody."""
    if identity.again:
        return Unauthenticated(
            "request.repeated",
            "This request was here before, and its answer was lost on the way.",
            challenge="invalid_dpop_proof",
            tried=False,
        )
    return Unauthenticated(
        "proof.replayed", "A request with this proof was here before.", challenge="invalid_dpop_proof"
    )
