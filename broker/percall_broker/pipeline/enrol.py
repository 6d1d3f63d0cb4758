"""Enrolment: an invite, once, and the proof of a device key, become a grant bound to that key.

1  the proof shows that the key which introduces itself made this very request
2  the invite is there, unused and in time, and for this agent where it names one
3  presence: who has a passphrase shows it, so that nobody else becomes a device of theirs; who has none may set one
4  use the invite up, remember the device and bind the grant to it: one transaction, or nothing
5  issue the grant token, which is worthless without the key
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from percall import wire
from percall_broker.crypto import jwk
from percall_broker.crypto.proofs import verify_proof
from percall_broker.log import changes, events
from percall_broker.model.errors import Conflict, Forbidden, InvalidInput, Unauthenticated, Unavailable
from percall_broker.model.names import check_name
from percall_broker.model.records import Identity
from percall_broker.model.standing import barred
from percall_broker.pipeline.administration.grants import hash_of_code
from percall_broker.pipeline.devices import placing
from percall_broker.stages.presence import setting
from percall_broker.store.protocol import Statement

if TYPE_CHECKING:
    from percall_broker.crypto.tokens import GrantTokens
    from percall_broker.model.records import Grant
    from percall_broker.pipeline.administration.ledger import Ledger
    from percall_broker.pipeline.sessions import Sessions
    from percall_broker.stages.authenticate import SignedRequest
    from percall_broker.stages.lookup import Lookup
    from percall_broker.stages.presence import Presence
    from percall_broker.store.protocol import Row

DEVICE_EVENT = "device.enrolled"


class Enrolment:
    """Enrols devices. `public_url` is the broker's configured URL, without a path."""

    def __init__(
        self,
        ledger: Ledger,
        lookup: Lookup,
        tokens: GrantTokens,
        sessions: Sessions,
        presence: Presence,
        public_url: str,
    ) -> None:
        self._ledger = ledger
        self._lookup = lookup
        self._tokens = tokens
        self._sessions = sessions
        self._presence = presence
        self._url = public_url + wire.PATH_ENROL

    async def invitation(self, code: str, now: float) -> wire.Invitation:
        """What an invite is for; it stays unspent. Raises Unauthenticated, Conflict, Unavailable."""
        _, grant = await self._invited(code, now)
        stretch = None if grant.automation else await self._presence.stretch_of(grant.person)
        may_set = stretch is None and await self._may_set_presence(grant)
        administrator = grant.administrator and not grant.automation
        return wire.Invitation(grant.person, administrator, may_set, stretch, grant.agent)

    async def __call__(self, asked: wire.Enrolment, request: SignedRequest, now: float) -> wire.Enrolled:
        """A grant for a device. Raises Unauthenticated, Forbidden, InvalidInput, Conflict, Unavailable."""
        key = jwk.parse(asked.device_key)
        proof = verify_proof(  # 1
            request.proof, method="POST", url=self._url, token_digest=None, body_digest=request.body_digest, now=now
        )
        if proof.thumbprint != key.thumbprint:
            raise Unauthenticated(
                "proof.device", "The proof is not of the key that introduces itself.", challenge="invalid_dpop_proof"
            )
        _check(asked)

        invite, grant = await self._invited(asked.invite, now)  # 2
        if grant.agent not in {"", asked.agent}:
            raise Forbidden(
                "invite.agent",
                f"The invite is for the agent {grant.agent}, not {asked.agent}.",
                f"Log in with --agent {grant.agent}; the invite is unspent.",
            )
        vouching = await self._vouching(grant, asked, request, proof.jti, key.thumbprint, now)  # 3
        code_hash = invite["code_hash"]
        device, placed = await placing(
            self._ledger, key.thumbprint, grant.person, device=asked.device_id, name=asked.device, now=now
        )
        bound = {"id": invite["grant_id"], "device": key.thumbprint, "agent": asked.agent}
        told = {"grant": grant.id, "agent": asked.agent, "device": device, "thumbprint": key.thumbprint}
        details = {name: told[name] for name in ("grant", "device", "thumbprint")} | {"device_name": asked.device}
        done = await self._ledger.change(  # 4
            Statement("use_invite", {"code_hash": code_hash, "now": int(now)}, required=True),
            *placed,
            Statement("bind_grant", bound, required=True),
            *vouching,
            changes.change(Identity(grant, proof.jti), "grant.enrol", agent=asked.agent, **details),
            *events.event(DEVICE_EVENT, (grant.id, key.thumbprint), now, person=grant.person, **told),
        )
        if done is None:
            if (await self._ledger.fetch("read_invite", code_hash=code_hash))[0]["used_at"]:
                raise Conflict(
                    "invite.used", "The invite was used meanwhile.", "Ask your administrator for a new invite."
                )
            raise Conflict("invite.changing", "The grant, the person or the device changed meanwhile.", "Try again.")

        token = self._tokens.issue(grant.id, key.thumbprint, grant.expires_at, now)  # 5
        session = await self._sessions.of(grant.id, now)
        if session is None:
            raise Unavailable("store.failed", "The grant that was just bound is not there.")
        return wire.Enrolled(token, session)

    async def _invited(self, code: str, now: float) -> tuple[Row, Grant]:
        """An invite that can be used now, and its grant. Raises Unauthenticated, Conflict, Unavailable."""
        code_hash = hash_of_code(code)
        invites = await self._ledger.fetch("read_invite", code_hash=code_hash)
        if not invites:
            raise _refused(None)
        grant = await self._lookup.grant(invites[0]["grant_id"], fresh=True)
        if grant is not None and grant.device:
            invites = await self._ledger.fetch("read_invite", code_hash=code_hash)
            if invites[0]["used_at"]:  # by now: another device may be at it
                raise _refused(invites[0])
            raise Conflict(
                "invite.taken",
                f"Another device of {grant.person}'s has picked up what this invite is for.",
                "Ask your administrator for a new invite.",
            )
        if invites[0]["expires_at"] <= now:
            raise _refused(invites[0])
        refusal = barred(grant, now) if grant is not None else None
        if grant is None or refusal is not None:
            raise Unauthenticated(
                "invite.grant",
                refusal.message if refusal is not None else "The invite's grant is gone.",
                "Ask your administrator for a new invite.",
            )
        return {**invites[0], "code_hash": code_hash}, grant

    async def _may_set_presence(self, grant: Grant) -> bool:
        """An administrator's passphrase is set with an administrator's invite alone, which no automation can make."""
        if grant.automation:
            return False
        return grant.administrator or not await self._ledger.fetch("administrates", person=grant.person)

    async def _vouching(
        self, grant: Grant, asked: wire.Enrolment, request: SignedRequest, jti: str, thumbprint: str, now: float
    ) -> list[Statement]:
        """What the enrolment changes of the person's presence. Raises Forbidden, InvalidInput."""
        vouched = {"thumbprint": thumbprint, "person": grant.person, "created_at": int(now)}
        if not grant.automation and await self._presence.stretch_of(grant.person) is not None:
            if asked.presence is not None:
                raise Forbidden(
                    "presence.exists", f"{grant.person} has a passphrase already.", "Change it: percall passphrase."
                )
            public_key = await self._presence.require(grant.person, request, jti, now)
            held = {"person": grant.person, "public_key": public_key}
            return [Statement("is_presence_key", held, required=True), Statement("vouch_device_key", vouched)]
        if asked.presence is None:
            return []
        if not await self._may_set_presence(grant):
            raise Forbidden(
                "presence.invite",
                "This invite cannot set a passphrase: an automation has none, and an administrator's needs an "
                "administrator's invite.",
            )
        return [setting(grant.person, asked.presence, now), Statement("vouch_device_key", vouched)]


def _check(asked: wire.Enrolment) -> None:
    check_name(asked.agent, "agent")
    if not wire.is_device_name(asked.device):
        most = wire.MAX_DEVICE_CHARACTERS
        raise InvalidInput("device.name", f"A device's name has 1 to {most} printable characters.")


def _refused(invite: dict[str, int] | None) -> Unauthenticated:
    if invite is None:
        return Unauthenticated("invite.unknown", "There is no such invite.", "Was the whole code copied?")
    if invite["used_at"]:
        return Unauthenticated(
            "invite.used", "The invite was used already.", "Ask your administrator for a new invite."
        )
    return Unauthenticated("invite.expired", "The invite has expired.", "Ask your administrator for a new invite.")
