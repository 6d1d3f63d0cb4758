"""Step 6 of a call: the credential for exactly this call; and its check, when egress redeems it.

What it is bound to is all under its HMAC. That it works once is the store's to say.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from percall import wire
from percall_broker.crypto.tokens import CallCredential
from percall_broker.model.errors import Forbidden, Unauthenticated, forbidden

if TYPE_CHECKING:
    from percall_broker.crypto.tokens import CallCredentials
    from percall_broker.model.records import Identity, Server
    from percall_broker.stages.frame import Frame


def issue(credentials: CallCredentials, identity: Identity, server: Server, frame: Frame, now: float) -> str | None:
    """The call's credential; None where the delivery has no key to hand out."""
    if server.entry.delivery == "none":
        return None
    grant = identity.grant
    return credentials.issue(
        CallCredential(
            call=identity.jti,
            grant=grant.id,
            thumbprint=grant.device,
            server=server.name,
            tool=frame.label,
            arguments=frame.digest,
            expires_at=int(now) + wire.CREDENTIAL_LIFETIME_SECONDS,
        )
    )


def check(
    credentials: CallCredentials, text: str, *, identity: Identity, call: str, server: str, tool: str, now: float
) -> None:
    """Refuse a credential that is not this call's, this grant's and this device's, or whose time is over.

    Raises Forbidden.
    """
    try:
        held = credentials.verify(text, now)
    except Unauthenticated as error:  # The signer is known; it is the call that is not shown.
        raise forbidden(error) from None
    given = (held.call, held.grant, held.thumbprint, held.server, held.tool)
    if given != (call, identity.grant.id, identity.grant.device, server, tool):
        raise Forbidden("credential.binding", "The call credential was issued for another call.")
