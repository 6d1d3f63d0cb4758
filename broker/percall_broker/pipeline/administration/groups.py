"""Groups: each member gets a grant of their own of what a group is granted; leaving ends those grants."""

from __future__ import annotations

import secrets
import time
from typing import TYPE_CHECKING

import msgspec

from percall_broker.log import changes
from percall_broker.log.canonical import canonical
from percall_broker.model.errors import Conflict, Forbidden, InvalidInput, NotFound
from percall_broker.model.names import check_name
from percall_broker.pipeline.administration import unknown
from percall_broker.pipeline.administration.grants import check_scopes, unknown_server
from percall_broker.store.protocol import Row, Statement

if TYPE_CHECKING:
    from collections.abc import Sequence

    from percall_broker.model.records import Identity
    from percall_broker.pipeline.administration.ledger import Ledger
    from percall_broker.pipeline.administration.policies import PolicyBook

PREFIX = "gg_"
"""What the id of a group's grant begins with."""
_ID_BYTES = 6
_MOST_SECONDS = 100 * 366 * 86400

Scopes = dict[str, dict[str, list[str]]]


class Groups:
    """The groups. `by` is None where a sign-in maps them. Every method raises Unavailable when the store cannot."""

    def __init__(self, ledger: Ledger, policies: PolicyBook) -> None:
        self._ledger = ledger
        self._policies = policies

    async def listed(self) -> list[Row]:
        """Every group, with how many members and grants it has."""
        return [_group_row(row) for row in await self._ledger.fetch("list_groups")]

    async def show(self, name: str) -> Row:
        """A group, its members and what they are granted. Raises NotFound."""
        for found in await self.listed():
            if found["group"] == name:
                break
        else:
            raise unknown.group(name)
        members = await self._ledger.fetch("list_members", group_name=name)
        grants = await self._ledger.fetch("list_group_grants", group_name=name)
        return {
            "group": name,
            "created_at": found["created_at"],
            "members": [_member_row(row) for row in members],
            "grants": [_grant_row(row) for row in grants],
        }

    async def join(self, by: Identity | None, name: str, people: Sequence[str]) -> Row:
        """Makes people members of a group, which may be new. Raises InvalidInput; NotFound for somebody unknown;
        Conflict when nobody has joined; Forbidden to an automation that would give grants or make approvers by it.
        """
        check_name(name, "group")
        if by is not None and by.grant.automation:
            await self._refuse_automation(by, name)
        if not people and await self._ledger.fetch("known_group", name=name):
            raise Conflict("group.exists", f"There is a group {name!r} already.", "Name people who join it.")
        members = await self._members(name)
        new = [person for person in dict.fromkeys(people) if person not in members]
        if people and not new:
            raise Conflict("group.member", f"Already in {name}: {', '.join(people)}.")
        now = int(time.time())
        joining = [
            statement
            for person in new
            for statement in (
                Statement("known_person", {"name": person}, required=True),
                Statement("add_member", {"group_name": name, "person": person, "id": _new_id(), "created_at": now}),
                Statement(
                    "add_grants_of_members", {"group_name": name, "person": person, "group_grant": "", "now": now}
                ),
                Statement("touch_grants", {"person": person, "device": ""}),
            )
        ]
        done = await self._ledger.change(
            Statement("add_group", {"name": name, "created_at": now}),
            *joining,
            changes.change(by, "group.add", group=name, people=new),
        )
        if done is None:
            raise await self._stranger(new)
        joined = [row["person"] for row in done.get("add_member", [])]
        new_grants = len(done.get("add_grants_of_members", []))
        return {**await self.show(name), "joined": joined, "new_grants": new_grants}

    async def leave(self, by: Identity | None, name: str, people: Sequence[str]) -> Row:
        """Takes people out of a group, and ends the grants that came from it. Raises NotFound; Conflict when none of
        them was in it.
        """
        await self.show(name)
        members = await self._members(name)
        going = [person for person in dict.fromkeys(people) if person in members]
        if not going:
            raise Conflict(
                "group.member", f"Not in {name}: {', '.join(people)}.", f"See: percall-broker group show {name}"
            )
        leaving = [
            statement
            for person in going
            for statement in (
                Statement("remove_member", {"group_name": name, "person": person}),
                Statement("end_grants_of_members", {"group_name": name, "person": person, "group_grant": ""}),
                Statement("touch_grants", {"person": person, "device": ""}),
            )
        ]
        recorded = changes.change(by, "group.remove", group=name, people=going)
        done = await self._ledger.change(*leaving, recorded) or {}
        left = [row["person"] for row in done.get("remove_member", [])]
        return {**await self.show(name), "left": left, "ended_grants": len(done.get("end_grants_of_members", []))}

    async def remove(self, by: Identity, name: str) -> Row:
        """Ends a group, and every grant that came from it. Raises NotFound."""
        done = await self._ledger.change(
            Statement("end_grants_of_members", {"group_name": name, "person": "", "group_grant": ""}),
            Statement("end_group_grants", {"group_name": name, "id": ""}),
            Statement("touch_grants_of_members", {"group_name": name}),
            Statement("remove_members", {"group_name": name}),
            Statement("remove_group", {"name": name}, required=True),
            changes.change(by, "group.end", group=name),
        )
        if done is None:
            raise unknown.group(name)
        return {"group": name, "state": "removed", "ended_grants": len(done["end_grants_of_members"])}

    async def grant(self, by: Identity, name: str, servers: Scopes, agent: str, expires_seconds: int) -> Row:
        """Grants something to each member, now and whenever somebody joins; each grant waits for its person's device.

        `expires_seconds` counts from then; 0: never. Raises InvalidInput, NotFound.
        """
        if agent:
            check_name(agent, "agent")
        if not 0 <= expires_seconds <= _MOST_SECONDS:
            raise InvalidInput("grant.expiry", "The grant would end at no time that there is.")
        check_scopes(servers)
        identifier, now = PREFIX + _new_id(), int(time.time())
        row = {"id": identifier, "group_name": name, "scope": canonical({"servers": servers}), "agent": agent}
        created = {"created_at": now, "created_by": by.grant.person}
        done = await self._ledger.change(
            Statement("known_group", {"name": name}, required=True),
            *(Statement("known_server", {"name": server}, required=True) for server in sorted(servers)),
            Statement("add_group_grant", {**row, "expires_seconds": expires_seconds, **created}),
            Statement(
                "add_grants_of_members", {"group_name": name, "person": "", "group_grant": identifier, "now": now}
            ),
            changes.change(by, "group.grant", group=name, grant=identifier, scope=servers, for_agent=agent),
        )
        if done is None:
            await self.show(name)
            raise await unknown_server(self._ledger, servers)
        members = (await self.show(name))["members"]
        return {
            "group_grant": identifier,
            "group": name,
            "grants": [{"grant": row["id"], "person": row["person"]} for row in done["add_grants_of_members"]],
            "without_device": [member["person"] for member in members if not member["has_device"]],
        }

    async def end_grant(self, by: Identity, identifier: str) -> Row:
        """Ends what a group is granted, and every grant that came from it. Raises NotFound."""
        done = await self._ledger.change(
            Statement("end_group_grants", {"group_name": "", "id": identifier}, required=True),
            Statement("end_grants_of_members", {"group_name": "", "person": "", "group_grant": identifier}),
            changes.change(by, "group.grant_end", grant=identifier),
        )
        if done is None:
            raise NotFound(
                "grant.unknown", f"There is no grant {identifier!r} of a group, or it is ended.", "See: group show."
            )
        return {"group_grant": identifier, "state": "revoked", "ended_grants": len(done["end_grants_of_members"])}

    async def _members(self, name: str) -> set[str]:
        return {row["person"] for row in await self._ledger.fetch("list_members", group_name=name)}

    async def _refuse_automation(self, by: Identity, name: str) -> None:
        """Who may add people decides with it what they may do. Raises Forbidden."""
        if "grants" not in by.grant.may and await self._ledger.fetch("list_group_grants", group_name=name):
            raise Forbidden(
                "automation.area",
                f"The automation {by.grant.person} may change no grants, and the group {name!r} has some.",
                "An administrator can do it, or make an automation grant that may.",
            )
        if name in await self._policies.asked():
            raise Forbidden(
                "automation.approvers",
                f"The group {name!r} answers for calls, and an automation makes nobody one of them.",
                "An administrator does that, at a terminal.",
            )

    async def _stranger(self, people: Sequence[str]) -> NotFound:
        known = {row["name"] for row in await self._ledger.fetch("list_persons", now=0) if row["state"] != "removed"}
        missing = ", ".join(sorted(set(people) - known)) or "?"
        return NotFound("person.unknown", f"There is no person {missing}.", "First: percall-broker person invite NAME")


def _new_id() -> str:
    return secrets.token_urlsafe(_ID_BYTES)


def _group_row(row: Row) -> Row:
    return {
        "group": row["name"],
        "members": row["members"],
        "grants": row["grants"],
        "created_at": row["created_at"],
    }


def _member_row(row: Row) -> Row:
    return {
        "person": row["person"],
        "state": row["state"],
        "has_device": bool(row["device_keys"]),
        "joined_at": row["created_at"],
    }


def _grant_row(row: Row) -> Row:
    return {
        "group_grant": row["id"],
        "servers": msgspec.json.decode(row["scope"])["servers"],
        "agent": row["agent"],
        "expires_seconds": row["expires_seconds"],
        "created_at": row["created_at"],
        "created_by": row["created_by"],
    }
