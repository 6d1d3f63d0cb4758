"""Events for webhooks: what happened, as statements for the transaction of what happened.

An event's id is made from what happened, so that two replicas that see the same record one event. It holds names, codes
and ids; never a secret, an argument, or what a stranger wrote.
"""

from __future__ import annotations

import secrets
from hashlib import sha256
from typing import Any

from percall_broker.crypto import base64url
from percall_broker.log.canonical import canonical
from percall_broker.model.moments import stamp
from percall_broker.store.protocol import Statement

_ID_BYTES = 18


def event(kind: str, key: tuple[str, ...], now: float, **data: Any) -> tuple[Statement, Statement]:
    """An event of a kind such as `device.enrolled`. `key` says which one: alike for all who see the same happen."""
    identifier = "evt_" + base64url.encode(
        sha256(canonical({"kind": kind, "key": list(key)}).encode()).digest()[:_ID_BYTES]
    )
    token = secrets.token_urlsafe(_ID_BYTES)
    row = {"id": identifier, "type": kind, "time_ms": int(now * 1000), "token": token}
    body = canonical({"type": kind, "timestamp": stamp(now), "data": data})
    return (
        Statement("record_event", {**row, "body": body}),
        Statement("queue_event", {"id": identifier, "token": token}),
    )
