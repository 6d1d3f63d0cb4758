"""People: who may be here, and the end of everything that is one person's, at once."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from percall_broker.log import changes
from percall_broker.model.errors import BrokerError, Conflict
from percall_broker.pipeline.administration import unknown
from percall_broker.pipeline.administration.automations import not_its_stop, refuse_automation, stopped_itself
from percall_broker.pipeline.administration.grants import grant_row
from percall_broker.pipeline.administration.keys import personal_key_row
from percall_broker.pipeline.administration.ledger import keeping_an_administrator, last_administrator
from percall_broker.pipeline.administration.rows import device_row, frozen_row
from percall_broker.store.protocol import Row, Statement

if TYPE_CHECKING:
    from percall_broker.model.records import Identity
    from percall_broker.pipeline.administration.grants import Grants, Invite
    from percall_broker.pipeline.administration.ledger import Ledger

LINK_SECONDS = 7 * 86400
"""How long an account is expected."""


class People:
    """The people. Every method raises Unavailable when the store cannot."""

    def __init__(self, ledger: Ledger, grants: Grants) -> None:
        self._ledger = ledger
        self._grants = grants

    async def listed(self) -> list[Row]:
        """Everybody, also those who are removed, by name."""
        return [_person_row(row) for row in await self._ledger.fetch("list_persons", now=int(time.time()))]

    async def show(self, name: str) -> Row:
        """One person with their devices, grants, groups and keys of their own. Raises NotFound."""
        found = await self._find(name)
        devices = await self._ledger.fetch("list_devices", person=name)
        grants = [grant_row(row) for row in await self._ledger.fetch("list_grants") if row["person"] == name]
        groups = await self._ledger.fetch("groups_of", person=name)
        keys = await self._ledger.fetch("list_personal_keys", person=name, server="")
        return {
            **found,
            "groups": [row["name"] for row in groups],
            "devices": [device_row(row) for row in devices],
            "grants": grants,
            "keys": [personal_key_row(row) for row in keys],
        }

    async def invite(self, by: Identity | None, name: str, *, signed_in: bool = False) -> tuple[Invite, list[Row]]:
        """A grant of no servers, whose invite enrols a further device (or the first) of a person who may be new; unless
        they have `signed_in`, which lets nobody in again.

        With what waits for that device. Raises InvalidInput; Conflict when the person is suspended.
        """
        known = await self._ledger.fetch("known_person", name=name)
        if known and known[0]["state"] != "active":
            raise Conflict("person.state", f"{name} is suspended.", f"First: percall-broker person resume {name}")
        made = await self._grants.for_device(by, name, signed_in=signed_in)
        waiting = [row for row in await self._grants.listed() if row["person"] == name and row["state"] == "waiting"]
        return made, waiting

    async def suspend(self, by: Identity, name: str) -> Row:
        """Refuses everything that a person asks, until resumed. Raises NotFound, Conflict."""
        statements = (
            keeping_an_administrator(person=name),
            Statement("set_person_state", {"name": name, "state": "suspended", "from_state": "active"}, required=True),
            Statement("touch_grants", {"person": name, "device": ""}),
            changes.change(by, "person.suspend", person=name),
        )
        if await self._ledger.change(*statements) is None:
            raise await self._why_not(name, "suspended")
        return await self.show(name)

    async def resume(self, by: Identity, name: str) -> Row:
        """Lets a suspended person work again. Raises NotFound, Conflict; Forbidden to an automation, where it gives
        an administrator's grants back, or somebody else has suspended them.
        """
        await refuse_automation(self._ledger, by, name)
        statements = (
            *stopped_itself(by, "person.suspend", person=name),
            Statement("set_person_state", {"name": name, "state": "active", "from_state": "suspended"}, required=True),
            Statement("touch_grants", {"person": name, "device": ""}),
            changes.change(by, "person.resume", person=name),
        )
        if await self._ledger.change(*statements) is None:
            if (await self._find(name))["state"] == "suspended":
                raise not_its_stop(by)
            raise await self._why_not(name, "active")
        return await self.show(name)

    async def link(self, by: Identity, name: str) -> Row:
        """Lets the account of the organisation's provider that signs in next under a person's name be theirs, in the
        place of one that was, for `LINK_SECONDS`. Raises NotFound, Conflict; Forbidden to an automation, where the
        person administers.
        """
        await refuse_automation(self._ledger, by, name)
        until = int(time.time()) + LINK_SECONDS
        done = await self._ledger.change(
            Statement("expect_account", {"person": name, "until": until}, required=True),
            Statement("forget_accounts", {"person": name}),
            changes.change(by, "person.expect_account", person=name, until=until),
        )
        found = await self._find(name)
        if done is None:
            raise Conflict("person.state", f"{name} is {found['state']}.")
        return {**found, "account_expected_until": until}

    async def remove(self, by: Identity, name: str) -> Row:
        """Ends every grant, device, invite, key, membership and question of a person, and nobody else's.

        Open streams are cut when those who hold them hear of the change. Raises NotFound, Conflict.
        """
        done = await self._ledger.change(
            keeping_an_administrator(person=name),
            Statement("remove_person", {"name": name}, required=True),
            Statement("revoke_grants", {"person": name, "device": "", "thumbprint": ""}),
            Statement("remove_devices", {"person": name}),
            Statement("end_invites", {"person": name, "now": int(time.time())}),
            Statement("remove_member", {"group_name": "", "person": name}),
            Statement("remove_personal_keys", {"person": name, "server": ""}),
            Statement("end_lasting_answers", {"person": name}),
            Statement("remove_presence_key", {"person": name}),
            Statement("remove_passkeys", {"person": name}),
            Statement("forget_vouched_device_keys", {"person": name}),
            Statement("forget_personal_secrets", {"person": name, "server": ""}),
            Statement("remove_freeze", {"kind": "person", "name": name}),
            Statement("remove_device_freezes", {"person": name}),
            Statement("end_accounts", {"person": name}),
            changes.change(by, "person.remove", person=name),
        )
        if done is None:
            raise await self._why_not(name, "removed")
        ended = {
            "grants": "revoke_grants",
            "devices": "remove_devices",
            "invites": "end_invites",
            "groups": "remove_member",
            "keys": "remove_personal_keys",
            "approvals": "end_approvals",
        }
        return {
            "person": name,
            "state": "removed",
            "ended": {what: len(done[statement]) for what, statement in ended.items()},
        }

    async def _find(self, name: str) -> Row:
        for row in await self.listed():
            if row["person"] == name:
                return row
        raise unknown.person(name)

    async def _why_not(self, name: str, wanted: str) -> BrokerError:
        found = await self._find(name)
        if found["state"] in {wanted, "removed"}:
            advice = f"To let them in again: percall-broker person invite {name}" if found["state"] == "removed" else ""
            return Conflict("person.state", f"{name} is {found['state']} already.", advice)
        return last_administrator(name)


def _person_row(row: Row) -> Row:
    return {
        "person": row["name"],
        "state": row["state"],
        "administrator": bool(row["administrator"]),
        "devices": row["devices"],
        "grants": row["grants"],
        "frozen": frozen_row(row),
        "sign_in_ends_at": row["sign_in_until"],
        "created_at": row["created_at"],
    }
