"""Names in a question: an empty answer reassures, also where it is empty because of a slip of the pen."""

from __future__ import annotations

from typing import TYPE_CHECKING

from percall_broker.cli import output
from percall_broker.cli.connection import under

if TYPE_CHECKING:
    from percall.identity.client import SignedClient

_LISTED = {"person": "people", "server": "servers", "grant": "grants"}


def tell_unknown(client: SignedClient, **named: str) -> None:
    """Says which of these names (`person`, `server`, `grant`) the broker does not know. Who was removed, it does."""
    for kind, name in named.items():
        if name and all(row[kind] != name for row in client.json("GET", under(_LISTED[kind]))):
            output.aside(f"The broker knows no {kind} {name!r}. See: percall-broker {kind} list")
