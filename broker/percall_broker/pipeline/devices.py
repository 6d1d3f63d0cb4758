"""Where a device key belongs: on a machine that is known, or on a new one."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

from percall import wire
from percall_broker.model.errors import Conflict
from percall_broker.store.protocol import Statement

if TYPE_CHECKING:
    from percall_broker.pipeline.administration.ledger import Ledger

_DEVICE_BYTES = 12
_ANOTHER = "Make another key: percall login does so by itself."


async def placing(
    ledger: Ledger, thumbprint: str, person: str, *, device: str, name: str, now: float
) -> tuple[str, tuple[Statement, ...]]:
    """The device that a key of a person's goes on, and the statements that put it there, for the caller's transaction.

    A key that is known stays on its device. Another goes on `device` (an id) if that is one of the person's, else on
    a new one: a machine says by itself which it is, and deceives nobody but its person.

    Raises Conflict when the key is another person's, or its device was revoked; Unavailable.
    """
    known = await ledger.fetch("read_device_key", thumbprint=thumbprint)
    if known and known[0]["person"] != person:
        raise Conflict(wire.CODE_DEVICE_OTHER, "This device key is another person's.", _ANOTHER)
    if known and known[0]["device_state"] != "active":
        raise Conflict(wire.CODE_DEVICE_REVOKED, f"The device {known[0]['device_name']!r} was revoked.", _ANOTHER)
    key = {"thumbprint": thumbprint, "person": person, "created_at": int(now)}
    active = {row["id"] for row in await ledger.fetch("list_devices", person=person) if row["state"] == "active"}
    place = known[0]["device"] if known else device
    if place in active:
        on = Statement("rename_device", {"id": place, "person": person, "name": name}, required=True)
    else:
        place = "d_" + secrets.token_urlsafe(_DEVICE_BYTES)
        on = Statement("add_device", {"id": place, "person": person, "name": name, "created_at": int(now)})
    return place, (on, Statement("add_device_key", {**key, "device": place}, required=True))
