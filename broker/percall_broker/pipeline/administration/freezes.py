"""The brake: stops one person, device or server, or every call, at the next call, and keeps everything as it is."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from percall_broker.log import changes
from percall_broker.model.errors import Conflict, Forbidden, InvalidInput
from percall_broker.pipeline.administration import unknown
from percall_broker.pipeline.administration.automations import not_its_stop, refuse_automation, stopped_itself
from percall_broker.pipeline.administration.devices import find_device
from percall_broker.pipeline.administration.ledger import keeping_an_administrator, last_administrator
from percall_broker.store.protocol import Row, Statement

if TYPE_CHECKING:
    from percall_broker.model.records import Identity
    from percall_broker.pipeline.administration.ledger import Ledger

KINDS = ("all", "person", "device", "server")
_MOST_REASON_CHARACTERS = 200


class Freezes:
    """What is frozen. Every method raises Unavailable when the store cannot."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    async def listed(self) -> list[Row]:
        """What is frozen, by whom, since when and why."""
        return [_row(row) for row in await self._ledger.fetch("list_freezes")]

    async def freeze(self, by: Identity, kind: str, named: str, reason: str) -> Row:
        """Refuses everything of what is named from the next call on, until it is lifted. Raises InvalidInput,
        NotFound; Conflict when it is frozen already, or with it stopped the last administrator.
        """
        if len(reason) > _MOST_REASON_CHARACTERS or not reason.isprintable():
            raise InvalidInput(
                "freeze.reason", f"A reason is one line of at most {_MOST_REASON_CHARACTERS} printable characters."
            )
        name, shown = await self._named(kind, named)
        row = {"kind": kind, "name": name, "reason": reason, "created_at": int(time.time())}
        done = await self._ledger.change(
            keeping_an_administrator(**({kind: name} if kind in {"person", "device"} else {})),
            Statement("add_freeze", {**row, "created_by": by.grant.person}, required=True),
            _touch(kind, name),
            changes.change(by, "freeze", kind=kind, name=name, reason=reason),
        )
        if done is None:
            for frozen in await self.listed():
                if (frozen["kind"], frozen["name"]) == (kind, name):
                    raise Conflict("freeze.state", f"{shown} is frozen already, by {frozen['by']}.")
            raise last_administrator(shown)
        return {**_row({**row, "created_by": by.grant.person}), "frozen": True}

    async def lift(self, by: Identity, kind: str, named: str) -> Row:
        """Lifts a freeze. Raises InvalidInput, NotFound; Conflict when it is not frozen; Forbidden to an automation,
        where it may give an administrator's grants back, somebody else has frozen it, and of everything: whoever pulls
        that brake may mean them.
        """
        name, shown = await self._named(kind, named)
        if kind == "all" and by.grant.automation:
            raise Forbidden(
                "automation.brake", "A freeze of everything is lifted by a person.", "An administrator can do it."
            )
        if kind in {"person", "device"}:
            person = named if kind == "person" else (await find_device(self._ledger, name))["person"]
            await refuse_automation(self._ledger, by, person)
        done = await self._ledger.change(
            *stopped_itself(by, "freeze", kind=kind, name=name),
            Statement("remove_freeze", {"kind": kind, "name": name}, required=True),
            _touch(kind, name),
            changes.change(by, "unfreeze", kind=kind, name=name),
        )
        if done is None:
            if any((row["kind"], row["name"]) == (kind, name) for row in await self.listed()):
                raise not_its_stop(by)
            missing = f"{shown} is not frozen." if named else "There is no freeze of everything."
            raise Conflict("freeze.state", missing, "See: percall-broker freeze.")
        return {"kind": kind, "name": name, "frozen": False}

    async def _named(self, kind: str, named: str) -> tuple[str, str]:
        """The name that is stored, and the one for people. Raises InvalidInput, NotFound."""
        if kind not in KINDS or bool(named) is (kind == "all"):
            raise InvalidInput("freeze.kind", "A freeze names a person, a device or a server; or it is for all.")
        if kind == "device":
            device = await find_device(self._ledger, named)
            if device["state"] != "active":
                raise Conflict("device.state", f"The device {named!r} is revoked already, which is more.")
            return str(device["id"]), f"The device {device['name']!r} of {device['person']}"
        if kind == "person" and not await self._ledger.fetch("known_person", name=named):
            raise unknown.person(named)
        if kind == "server" and not await self._ledger.fetch("known_server", name=named):
            raise unknown.server(named)
        return named, {"all": "Everything", "person": named, "server": f"The server {named!r}"}[kind]


def _touch(kind: str, name: str) -> Statement:
    if kind in {"person", "device"}:
        return Statement("touch_grants", {"person": "", "device": "", kind: name})
    return Statement("touch_servers", {"name": name})


def _row(row: Row) -> Row:
    return {
        "kind": row["kind"],
        "name": row["name"],
        "by": row["created_by"],
        "reason": row["reason"],
        "created_at": row["created_at"],
    }
