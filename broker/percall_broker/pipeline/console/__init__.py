"""What the console's pages do: sessions, passkeys, changes that a passkey signs, and the figures that they show."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self
from urllib.parse import urlsplit

from percall_broker.crypto.passkeys import Origin
from percall_broker.model.rules import is_loopback_name
from percall_broker.pipeline.console.actions import Actions
from percall_broker.pipeline.console.figures import Figures
from percall_broker.pipeline.console.presence import PasskeyPresence
from percall_broker.pipeline.console.sessions import ConsoleSessions

if TYPE_CHECKING:
    from percall_broker.crypto.tokens import ConsoleTokens, Nonces
    from percall_broker.pipeline.administration import Administration
    from percall_broker.pipeline.administration.ledger import Ledger
    from percall_broker.pipeline.approvals import Approvals
    from percall_broker.stages.lookup import Lookup
    from percall_broker.store.protocol import Store


@dataclass(frozen=True, slots=True)
class Console:
    """The parts, over one store."""

    sessions: ConsoleSessions
    presence: PasskeyPresence
    actions: Actions
    figures: Figures

    @classmethod
    def over(
        cls,
        store: Store,
        ledger: Ledger,
        lookup: Lookup,
        nonces: Nonces,
        tokens: ConsoleTokens,
        administration: Administration,
        approvals: Approvals,
        public_url: str,
    ) -> Self:
        """All of them. `public_url` is the broker's configured URL, without a path."""
        presence = PasskeyPresence(store, ledger, nonces, Origin(origin_of(public_url)))
        return cls(
            ConsoleSessions(store, lookup, tokens),
            presence,
            Actions(administration, approvals, presence),
            Figures(store),
        )


def origin_of(public_url: str) -> str:
    """Where a browser finds the console: at the public URL; for a loopback address, under the name localhost, since
    passkeys are for names.
    """
    parts = urlsplit(public_url)
    is_local = is_loopback_name(parts.hostname or "")
    return f"{parts.scheme}://localhost:{parts.port}" if is_local and parts.port else public_url
