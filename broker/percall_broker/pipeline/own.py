"""What a person changes of their own, being there: their passphrase.

1  the person is there: `Signed.present`, whose steps refuse everyone else
2  the change, on condition that the key which signed it is still theirs; one transaction
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from percall_broker.log import changes
from percall_broker.model.errors import Conflict
from percall_broker.stages import presence

if TYPE_CHECKING:
    from percall import wire
    from percall_broker.pipeline.administration.ledger import Ledger
    from percall_broker.pipeline.signed import Signed
    from percall_broker.stages.authenticate import SignedRequest


class Own:
    """Each method raises Unauthenticated, Forbidden, InvalidInput, Conflict, Unavailable."""

    def __init__(self, ledger: Ledger, signed: Signed) -> None:
        self._ledger = ledger
        self._signed = signed

    async def change_passphrase(self, request: SignedRequest, new: wire.PresenceKey, now: float) -> None:
        """Puts a new presence key in the place of the one that signs for it."""
        identity, old = await self._signed.present(request, now)  # 1
        done = await self._ledger.change(  # 2
            presence.changing(identity.grant.person, new, old, now), changes.change(identity, "presence.change")
        )
        if done is None:
            raise Conflict("presence.changed", "Your passphrase was changed meanwhile.", "Try again, with the new one.")
