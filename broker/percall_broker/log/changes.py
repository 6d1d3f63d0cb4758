"""Entries for what administrators do: changes, and readings of arguments. They go into the change's own transaction.

An entry never holds a secret, an invite or a token: `details` is shown to every administrator. Its `presence` says how
the person showed that they were there: passphrase, passkey; `automation`, or `machine` for the broker's own.
"""

from __future__ import annotations

import secrets
import time
from typing import TYPE_CHECKING, Any

from percall_broker.log.canonical import canonical
from percall_broker.store.protocol import Statement

if TYPE_CHECKING:
    from percall_broker.model.records import Identity

_ID_BYTES = 16


def change(by: Identity | None, action: str, *, server: str = "", call: str = "", **details: Any) -> Statement:
    """A change: `action` is a stable code such as `grant.revoke`; `by` is None for one made on the broker's machine.

    `call` is the one that it is about, whose story it becomes part of.
    """
    return _entry("change", by, action, server=server, details=details, call=call)


def reading(by: Identity, action: str, *, call: str = "", server: str = "", **details: Any) -> Statement:
    """A reading of what is sealed, such as `arguments.read`. Append it before anything is opened."""
    return _entry("reading", by, action, details=details, call=call, server=server)


def observation(by: Identity, action: str, *, server: str, **details: Any) -> Statement:
    """What was seen of a server while a grant used it, such as `tool.seen`."""
    return _entry("observed", by, action, server=server, details=details)


def _entry(
    kind: str, by: Identity | None, action: str, *, details: dict[str, Any], server: str = "", call: str = ""
) -> Statement:
    # An administrator's request is signed, so its proof's id names the change, and a replay finds it taken.
    identifier = by.jti if by is not None else secrets.token_urlsafe(_ID_BYTES)
    who = {
        "grant_id": by.grant.id if by else "",
        "person": by.grant.person if by else "",
        "agent": by.grant.agent if by else "",
        "device": by.grant.device if by else "",
    }
    presence = by.presence if by is not None else "machine"
    time_ms = int(time.time() * 1000)
    row = {"kind": kind, "id": identifier, "call": call, "time_ms": time_ms, **who, "server": server}
    entry = canonical({**row, "action": action, "presence": presence, "details": details})
    return Statement("record_change", {**row, "reason": action, "entry": entry}, required=True)
