"""Claims: a device that is known picks up the grants that wait for its person, without an invite.

1  the request is signed by a device key that is known; whatever became of the grant it shows, the device must stand
2  the key that is to hold the grants shows itself: the same one, or a new one for another agent on this device
3  put the key on the device and bind to it what waits for this agent: one transaction, or nothing
4  issue the tokens, also those that were issued before: an answer may have been lost

An administrator's grant is never claimed: an agent with a shell on the device can sign as well as its person.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from percall import wire
from percall_broker.crypto import jwk
from percall_broker.crypto.proofs import verify_proof
from percall_broker.log import changes
from percall_broker.model.errors import Conflict, Forbidden, Unauthenticated
from percall_broker.model.names import check_name
from percall_broker.model.standing import key_barred, require
from percall_broker.pipeline.administration.ledger import keeping_an_administrator, last_administrator
from percall_broker.pipeline.devices import placing
from percall_broker.store.protocol import Statement

if TYPE_CHECKING:
    from percall_broker.crypto.tokens import GrantTokens
    from percall_broker.model.records import Grant, Identity
    from percall_broker.pipeline.administration.ledger import Ledger
    from percall_broker.pipeline.sessions import Sessions
    from percall_broker.store.protocol import Row


class Claims:
    """What waits for people's devices. `public_url` is the broker's configured URL, without a path."""

    def __init__(self, ledger: Ledger, tokens: GrantTokens, sessions: Sessions, public_url: str) -> None:
        self._ledger = ledger
        self._tokens = tokens
        self._sessions = sessions
        self._url = public_url + wire.PATH_CLAIMS

    async def waiting(self, identity: Identity, now: float) -> wire.Waiting:
        """What the signer's person may pick up, and what the signer's device has. Raises Forbidden."""
        await self._check_signer(identity.grant, now)
        waiting = await self._waiting(identity.grant.person, now)
        taken = await self._ledger.fetch("taken_grants", device=identity.grant.device_id, now=int(now))
        return wire.Waiting(_told(waiting), _told(taken))

    async def claim(
        self, identity: Identity, asked: wire.Claim, introduction: str, body_digest: str, now: float
    ) -> wire.Claimed:
        """Binds what waits for one agent. Raises BrokerError."""
        signer = identity.grant
        await self._check_signer(signer, now)  # 1
        check_name(asked.agent, "agent")
        key = jwk.parse(asked.device_key)
        if key.thumbprint != signer.device:  # 2
            proof = verify_proof(
                introduction, method="POST", url=self._url, token_digest=None, body_digest=body_digest, now=now
            )
            if proof.thumbprint != key.thumbprint:
                raise Unauthenticated(
                    "proof.device", "The new key has not signed this.", challenge="invalid_dpop_proof"
                )
        elif asked.agent != signer.agent:
            raise Conflict(
                "device.agent", f"This key is the agent {signer.agent}'s.", "Each agent has a key of its own."
            )
        mine = {"thumbprint": key.thumbprint, "now": int(now)}
        wanted = {row["agent"] for row in await self._waiting(signer.person, now)} & {"", asked.agent}
        if wanted:
            _, placed = await placing(
                self._ledger, key.thumbprint, signer.person, device=signer.device_id, name=signer.device_name, now=now
            )
            done = await self._ledger.change(  # 3
                Statement("known_device_key", {"thumbprint": signer.device}, required=True),
                *placed,
                Statement("claim_grants", {**mine, "person": signer.person, "agent": asked.agent}, required=True),
                changes.change(identity, "grant.claim", agent=asked.agent, thumbprint=key.thumbprint),
            )
            if done is None:
                raise Conflict("claim.changing", "What waited was picked up or ended meanwhile.", "Try again.")
        enrolled = []
        for row in await self._ledger.fetch("claimed_grants", **mine):  # 4
            session = await self._sessions.of(row["id"], now)
            if session is not None:
                token = self._tokens.issue(row["id"], key.thumbprint, row["expires_at"], now)
                enrolled.append(wire.Enrolled(token, session))
        return wire.Claimed(tuple(enrolled))

    async def leave(self, identity: Identity) -> wire.Departed:
        """Ends every grant of the signer's key, and the key: its agent leaves this device. Needs no more than the
        key's own signature. Raises Conflict where with it went the last administrator.
        """
        grant = identity.grant
        done = await self._ledger.change(
            keeping_an_administrator(thumbprint=grant.device),
            Statement("revoke_grants", {"person": "", "device": "", "thumbprint": grant.device}),
            Statement("remove_device_key", {"thumbprint": grant.device}),
            changes.change(identity, "agent.leave", agent=grant.agent, thumbprint=grant.device),
        )
        if done is None:
            raise last_administrator(f"The agent {grant.agent} of {grant.person}")
        return wire.Departed(tuple(row["id"] for row in done["revoke_grants"]))

    async def _check_signer(self, signer: Grant, now: float) -> None:
        require(key_barred(signer, now))
        if not await self._ledger.fetch("known_device_key", thumbprint=signer.device):
            raise Forbidden(
                "agent.removed",
                f"The agent {signer.agent!r} was removed from this device.",
                "Ask your administrator for an invite, then: percall login.",
            )

    async def _waiting(self, person: str, now: float) -> list[Row]:
        return await self._ledger.fetch("waiting_grants", person=person, now=int(now))


def _told(rows: list[Row]) -> tuple[wire.WaitingGrant, ...]:
    return tuple(
        wire.WaitingGrant(row["id"], row["agent"], tuple(msgspec.json.decode(row["scope"])["servers"])) for row in rows
    )
