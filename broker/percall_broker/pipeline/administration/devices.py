"""Devices: the machines that people have enrolled."""

from __future__ import annotations

from typing import TYPE_CHECKING

from percall_broker.log import changes
from percall_broker.model.errors import Conflict, NotFound
from percall_broker.pipeline.administration.ledger import keeping_an_administrator, last_administrator
from percall_broker.pipeline.administration.rows import device_row
from percall_broker.store.protocol import Row, Statement

if TYPE_CHECKING:
    from percall_broker.model.records import Identity
    from percall_broker.pipeline.administration.ledger import Ledger


class Devices:
    """The devices. Every method raises Unavailable when the store cannot."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    async def listed(self, person: str = "") -> list[Row]:
        """Everybody's, or one person's, also those that are revoked."""
        return [device_row(row) for row in await self._ledger.fetch("list_devices", person=person)]

    async def revoke(self, by: Identity, named: str) -> Row:
        """Ends every grant of every agent on a device, named by its id or its name, for good. Says how many passkeys
        its person has: which of them was on it, nobody knows here.

        Raises NotFound; Conflict when several have that name, it is revoked already, or with it went the last
        administrator.
        """
        device = await find_device(self._ledger, named)
        identifier, whose = str(device["id"]), f"The device {device['name']!r} of {device['person']}"
        done = await self._ledger.change(
            keeping_an_administrator(device=identifier),
            Statement("revoke_device", {"id": identifier}, required=True),
            Statement("revoke_grants", {"person": "", "device": identifier, "thumbprint": ""}),
            Statement("remove_freeze", {"kind": "device", "name": identifier}),
            changes.change(by, "device.revoke", device=identifier, person=device["person"], name=device["name"]),
        )
        if done is None:
            if (await find_device(self._ledger, identifier))["state"] == "revoked":
                raise Conflict("device.state", f"{whose} is revoked already.")
            raise last_administrator(whose)
        return {
            "device": identifier,
            "name": device["name"],
            "person": device["person"],
            "state": "revoked",
            "ended": {"grants": len(done["revoke_grants"])},
            "passkeys": len(await self._ledger.fetch("list_passkeys", person=device["person"])),
        }


async def find_device(ledger: Ledger, named: str) -> Row:
    """The device of an id, or else of a name; of several of a name, the one that is not revoked.

    Raises NotFound, Conflict.
    """
    rows = await ledger.fetch("devices_named", name=named)
    if not rows:
        raise NotFound("device.unknown", f"There is no device {named!r}.", "See: percall-broker device list.")
    for row in rows:
        if row["id"] == named:  # whatever people call theirs
            return row
    active = [row for row in rows if row["state"] == "active"]
    if len(active) > 1:
        ids = ", ".join(f"{row['id']} ({row['person']})" for row in active)
        raise Conflict("device.ambiguous", f"Several devices are called {named!r}: {ids}.", "Name it by its id.")
    return (active or rows)[0]
