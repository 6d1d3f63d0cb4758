"""Grants: what one agent of one person may do. An invite is handed out once, and only its hash is kept."""

from __future__ import annotations

import secrets
import time
from dataclasses import dataclass, field
from hashlib import sha256
from typing import TYPE_CHECKING, Any

import msgspec

from percall_broker.log import changes
from percall_broker.log.canonical import canonical
from percall_broker.model.errors import Conflict, Forbidden, InvalidInput, NotFound
from percall_broker.model.names import check_name
from percall_broker.model.records import AREAS
from percall_broker.model.standing import is_waiting, state_of
from percall_broker.pipeline.administration.automations import (
    not_its_stop,
    refuse_automation,
    refuse_invite,
    stopped_itself,
)
from percall_broker.pipeline.administration.ledger import keeping_an_administrator, last_administrator
from percall_broker.stages.lookup import grant_of_row
from percall_broker.store.protocol import Row, Statement

if TYPE_CHECKING:
    from collections.abc import Collection

    from percall_broker.model.records import Identity
    from percall_broker.pipeline.administration.ledger import Ledger
    from percall_broker.pipeline.administration.policies import PolicyBook

INVITE_SECONDS = 15 * 60
_INVITE_BYTES = 20
_GRANT_BYTES = 12


@dataclass(frozen=True, slots=True)
class NewGrant:
    """A grant to be made. `servers` by name, each with the patterns of its scope; `expires_at` in seconds, 0: never.

    An `automation` administers, without presence, the areas that it `may` change.
    """

    person: str
    servers: dict[str, dict[str, list[str]]]
    agent: str = ""
    expires_at: int = 0
    administrator: bool = False
    automation: bool = False
    may: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Invite:
    """A grant that was made, and the code that enrols one device for it, once, until `expires_at`.

    No code (and 0) where it waits: a device that the person has already picks it up.
    """

    grant: str
    person: str
    expires_at: int
    code: str = field(repr=False)  # SECRET, never log

    @property
    def waits(self) -> bool:
        """Whether a device of the person's picks it up."""
        return not self.code


def new_id() -> str:
    """A new grant's id."""
    return "g_" + secrets.token_urlsafe(_GRANT_BYTES)


def hash_of_code(code: str) -> str:
    """What is kept of an invite's code."""
    return sha256(code.strip().encode()).hexdigest()


class Grants:
    """The grants. Every method raises Unavailable when the store cannot."""

    def __init__(self, ledger: Ledger, policies: PolicyBook) -> None:
        self._ledger = ledger
        self._policies = policies

    async def create(self, by: Identity | None, new: NewGrant) -> Invite:
        """A grant; with an invite, unless a device of the person's can pick it up. Never so one that administers:
        an agent with a shell on that device could. Raises InvalidInput, Forbidden, NotFound when a server is not there.
        """
        administers = new.administrator or new.automation
        if not new.servers and not administers:
            raise InvalidInput("grant.empty", "A grant names at least one server.", "Add --server NAME.")
        check_scopes(new.servers)
        _check_automation(new)
        devices = await self._ledger.fetch("has_device", person=new.person)
        return await self._make(by, new, waits=bool(devices) and not administers)

    async def for_device(self, by: Identity | None, person: str, *, signed_in: bool = False) -> Invite:
        """A grant of no servers, whose invite enrols a further device, or the first. `signed_in`: only while they are
        here; who was removed meanwhile is not let in again. What was granted with an invite that has lapsed waits for
        that device, too. Raises InvalidInput, Forbidden, Conflict.
        """
        return await self._make(by, NewGrant(person, {}), waits=False, signed_in=signed_in)

    async def _make(self, by: Identity | None, new: NewGrant, *, waits: bool, signed_in: bool = False) -> Invite:
        check_name(new.person, "person")
        if new.agent:
            check_name(new.agent, "agent")
        now = int(time.time())
        if new.expires_at and new.expires_at <= now:
            raise InvalidInput("grant.expiry", "The grant would have expired already.")
        administers = new.administrator or new.automation
        await refuse_automation(self._ledger, by, new.person, administers=administers)
        if not waits:
            await refuse_invite(self._ledger, self._policies, by, new.person)
        grant, code = new_id(), "" if waits else secrets.token_urlsafe(_INVITE_BYTES)
        scope_text = canonical({"servers": new.servers})
        created = {"created_at": now, "created_by": by.grant.person if by else "init"}
        details: dict[str, Any] = {"grant": grant, "for": new.person, "for_agent": new.agent, "scope": new.servers}
        invite = {"code_hash": hash_of_code(code), "grant_id": grant, "expires_at": now + INVITE_SECONDS}
        if new.automation:
            details |= {"automation": True, "may": list(new.may)}
        lapsed = [] if new.servers or administers else await self._lapsed(by, new.person, now)
        if lapsed:
            details |= {"waits": lapsed}
        row = {"id": grant, "person": new.person, "agent": new.agent, "administrator": int(administers)}
        row |= {"automation": int(new.automation), "may": ",".join(new.may)}
        row |= {"claimable": int(waits)}
        staying = (Statement("active_person", {"name": new.person}, required=True),)
        arriving = (
            Statement("remove_former_passkeys", {"person": new.person}),
            Statement("add_person", {"name": new.person, "created_at": now}),
        )
        done = await self._ledger.change(
            changes.change(by, "grant.create", **details, expires_at=new.expires_at, administrator=administers),
            *(Statement("known_server", {"name": name}, required=True) for name in sorted(new.servers)),
            *(staying if signed_in else arriving),
            Statement(
                "add_grant", {**row, "scope": scope_text, "expires_at": new.expires_at, **created}, required=True
            ),
            *([] if waits else [Statement("add_invite", invite)]),
            *(Statement("let_wait", {"id": one}, required=True) for one in lapsed),
        )
        if done is None and signed_in:
            raise Forbidden("person.removed", f"{new.person} is not here any more.")
        if done is None and lapsed:
            raise Conflict("grant.changing", f"What was granted to {new.person} changed meanwhile.", "Try again.")
        if done is None:
            raise await unknown_server(self._ledger, new.servers)
        return Invite(grant, new.person, 0 if waits else now + INVITE_SECONDS, code)

    async def _lapsed(self, by: Identity | None, person: str, now: int) -> list[str]:
        """The grants that an invite sets free. It is a grant to whoever uses it: not for who may not grant."""
        if by is not None and by.grant.automation and "grants" not in by.grant.may:
            return []
        return [row["id"] for row in await self._ledger.fetch("lapsed_grants", person=person, now=now)]

    async def listed(self) -> list[Row]:
        """Every grant, oldest first."""
        rows = await self._ledger.fetch("list_grants")
        return [grant_row(row) for row in rows]

    async def show(self, identifier: str) -> Row:
        """One grant. Raises NotFound."""
        rows = await self._ledger.fetch("read_grant", id=identifier)
        if not rows:
            raise NotFound("grant.unknown", f"There is no grant {identifier!r}.", "See: percall-broker grant list.")
        return grant_row(rows[0])

    async def set_state(self, by: Identity, identifier: str, state: str) -> Row:
        """Suspends, resumes or revokes. Raises NotFound; Conflict when it is so already, is revoked for good, or is the
        last administrator's; Forbidden where an automation would give an administrator's grant back, or one that
        somebody else has suspended.
        """
        resumes = state == "active"
        if resumes:
            before = await self.show(identifier)
            await refuse_automation(self._ledger, by, before["person"], administers=before["administrator"])
        done = await self._ledger.change(
            *(
                stopped_itself(by, "grant.suspended", grant=identifier)
                if resumes
                else [keeping_an_administrator(grant_id=identifier)]
            ),
            Statement("set_grant_state", {"id": identifier, "state": state}, required=True),
            changes.change(by, f"grant.{state}", grant=identifier),
        )
        found = await self.show(identifier)
        if done is None and found["own_state"] not in {state, "revoked"}:
            if resumes:
                raise not_its_stop(by)
            raise last_administrator(f"Grant {identifier} of {found['person']}")
        if done is None:
            advice = "A revoked grant stays revoked; create another." if found["own_state"] == "revoked" else ""
            raise Conflict("grant.state", f"The grant is {found['own_state']} already.", advice)
        return found


def _check_automation(new: NewGrant) -> None:
    unknown = sorted(set(new.may) - set(AREAS))
    if unknown:
        raise InvalidInput("grant.areas", f"There is no area {unknown[0]!r}.", f"There are: {', '.join(AREAS)}.")
    if new.may and not new.automation:
        raise InvalidInput("grant.areas", "Areas are for an automation; a person's presence is for all of them.")
    if new.automation and (new.administrator or new.servers):
        raise InvalidInput("grant.automation", "An automation's grant is for nothing else: no servers, no person.")


async def unknown_server(ledger: Ledger, named: Collection[str]) -> NotFound:
    """What is said where a grant names servers of which one was not there."""
    known = {row["name"] for row in await ledger.fetch("list_servers")}
    missing = ", ".join(sorted(set(named) - known)) or "?"
    return NotFound("server.unknown", f"There is no server {missing}.", "See: percall-broker server list.")


def check_scopes(servers: dict[str, dict[str, list[str]]]) -> None:
    """Raises InvalidInput for a server of which nothing is named."""
    for name, scope in servers.items():
        if not any(scope.values()):
            raise InvalidInput(
                "grant.empty", f"The grant names no tool, prompt or resource of {name!r}.", "Add --tools 'get_*'."
            )


def grant_row(row: Row) -> Row:
    """A grant as people and scripts see it. `state` is what its holder meets, `own_state` the grant's alone."""
    grant = grant_of_row(row)
    scope = msgspec.json.decode(row["scope"])["servers"]
    return {
        "grant": row["id"],
        "person": row["person"],
        "agent": row["agent"],
        "device": row["device_name"],
        "device_id": row["device_id"],
        "state": "waiting" if is_waiting(grant, time.time()) else state_of(grant, time.time()),
        "own_state": row["state"],
        "version": row["version"],
        "enrolled": bool(row["device"]),
        "administrator": grant.administrator,
        "automation": grant.automation,
        "may": list(grant.may),
        "servers": scope,
        "group_grant": row["group_grant"],
        "expires_at": row["expires_at"],
        "created_at": row["created_at"],
        "created_by": row["created_by"],
    }
