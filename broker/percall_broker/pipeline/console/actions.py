"""What can be changed in the console, each by the same function that the commands use.

An action has a subject and the state in which a page showed it. `check` compares that with what is so now: a change
that was decided on something else is refused, when it is asked for and again when it is made.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from percall_broker.model.counting import counted
from percall_broker.model.errors import Conflict, Forbidden, InvalidInput, NotFound
from percall_broker.pipeline.approvals.answers import Answer

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from percall_broker.model.records import Identity
    from percall_broker.pipeline.administration import Administration
    from percall_broker.pipeline.approvals import Approvals
    from percall_broker.pipeline.console.presence import Change, PasskeyPresence
    from percall_broker.store.protocol import Row

    Acting = Callable[[Identity, str, Mapping[str, str]], Awaitable[str]]
    Showing = Callable[[Identity, str], Awaitable[str]]

_EVERYBODYS = frozenset({"approval", "passkey"})
"""Subjects of which anybody may change what is their own, or asked of them; which, their own functions say."""
VARYING = "varying:"
"""Before the name of an argument that may differ, in an answer's form."""


def shown_grant(row: Row) -> str:
    """The state of a grant, as a page that shows its row says it."""
    return f"{row['own_state']} {row['version']} {row['state']}"


def shown_person(row: Row) -> str:
    """The same of a person; one who was removed and comes back is another."""
    return f"{row['state']} {row['created_at']} {'frozen' if row['frozen'] else ''}".strip()


def shown_device(row: Row) -> str:
    """The same of a device."""
    return f"{row['state']} {row['agents']} {row['grants']} {'frozen' if row['frozen'] else ''}".strip()


def shown_server(row: Row) -> str:
    """The same of a server."""
    return f"{row['state']} {row['version']} {row['secret_version']} {'frozen' if row['frozen'] else ''}".strip()


def shown_pin(row: Row) -> str:
    """The same of what a server says a tool is, and of what it differs from; its digest is in its subject."""
    return f"{row['state']} {row['pinned_at']} {row['base']}".strip()


def shown_brake(freezes: list[Row]) -> str:
    """The same of the brake for everything."""
    return "frozen" if any(row["kind"] == "all" for row in freezes) else "open"


def shown_approval(row: Row) -> str:
    """The same of an approval: by its digest, which covers the call's arguments and all that else was asked."""
    return f"{row['state']} {row['digest']} {row['lasting']}".strip()


class Actions:
    """The actions, by name. Methods raise what the administration's and the approvals' do."""

    def __init__(self, administration: Administration, approvals: Approvals, presence: PasskeyPresence) -> None:
        self._administration = administration
        self._approvals = approvals
        self._presence = presence
        self._subjects: dict[str, Showing] = {
            "grant": self._grant,
            "person": self._person,
            "device": self._device,
            "server": self._server,
            "pin": self._pin,
            "brake": self._brake,
            "approval": self._approval,
            "passkey": self._passkey,
        }
        self._acts: dict[str, Acting] = {
            "grant.revoke": self._grant_state("revoked", "is revoked for good. Nobody else is affected."),
            "grant.suspend": self._grant_state("suspended", "is suspended: its next call is refused."),
            "grant.resume": self._grant_state("active", "may be used again."),
            "person.suspend": self._suspend_person,
            "person.resume": self._resume_person,
            "person.remove": self._remove_person,
            "device.revoke": self._revoke_device,
            "server.suspend": self._server_state("suspended", "is suspended: its next call is refused."),
            "server.resume": self._server_state("active", "may be used again."),
            "server.rotate": self._rotate,
            "pin.accept": self._accept_pin,
            "brake.freeze": self._freeze,
            "brake.lift": self._lift,
            "approval.allow": self._answer("allow", "allowed"),
            "approval.deny": self._answer("deny", "denied"),
            "approval.never": self._answer("never", "refused for good"),
            "approval.lift": self._lift_answer,
            "passkey.remove": self._remove_passkey,
        }

    async def check(self, change: Change, by: Identity) -> None:
        """Whether it can be done, by this person.

        Raises InvalidInput for what is no action, NotFound, Forbidden; Conflict where the subject is not as it was
        shown.
        """
        kind = change.action.partition(".")[0]
        if kind not in self._subjects or change.action not in self._acts:
            raise InvalidInput("console.action", f"There is no action {change.action!r}.")
        if kind not in _EVERYBODYS and not by.grant.administrator:
            raise Forbidden("grant.administrator", "Only an administrator may do this.")
        if await self._subjects[kind](by, change.subject) != change.shown:
            raise Conflict("console.changed", "This changed since the page was loaded.", "Look at it, then decide.")

    async def perform(self, by: Identity, change: Change) -> str:
        """Makes the change; a sentence that says so."""
        await self.check(change, by)
        return await self._acts[change.action](by, change.subject, change.values)

    # --- subjects ---

    async def _grant(self, _by: Identity, subject: str) -> str:
        return shown_grant(await self._administration.grants.show(subject))

    async def _person(self, _by: Identity, subject: str) -> str:
        return shown_person(await self._administration.people.show(subject))

    async def _device(self, _by: Identity, subject: str) -> str:
        for row in await self._administration.devices.listed():
            if row["device"] == subject:
                return shown_device(row)
        raise NotFound("device.unknown", f"There is no device {subject!r}.")

    async def _server(self, _by: Identity, subject: str) -> str:
        return shown_server(await self._administration.servers.show(subject))

    async def _pin(self, _by: Identity, subject: str) -> str:
        return shown_pin(await self._definition(subject))

    async def _brake(self, _by: Identity, _subject: str) -> str:
        return shown_brake(await self._administration.freezes.listed())

    async def _approval(self, by: Identity, subject: str) -> str:
        return shown_approval(await self._approvals.inbox.show(by, subject))

    async def _passkey(self, by: Identity, subject: str) -> str:
        for row in await self._presence.listed("" if by.grant.administrator else by.grant.person):
            if row["passkey"] == subject:
                return str(row["created_at"])
        raise NotFound("passkey.unknown", "There is no such passkey.")

    # --- acts ---

    def _grant_state(self, state: str, told: str) -> Acting:
        async def act(by: Identity, subject: str, _values: Mapping[str, str]) -> str:
            row = await self._administration.grants.set_state(by, subject, state)
            return f"The grant of {row['person']} ({row['agent'] or 'any agent'}) {told}"

        return act

    def _server_state(self, state: str, told: str) -> Acting:
        async def act(by: Identity, subject: str, _values: Mapping[str, str]) -> str:
            await self._administration.servers.set_state(by, subject, state)
            return f"The server {subject} {told}"

        return act

    async def _suspend_person(self, by: Identity, subject: str, _values: Mapping[str, str]) -> str:
        await self._administration.people.suspend(by, subject)
        return f"{subject} is suspended: the next call is refused."

    async def _resume_person(self, by: Identity, subject: str, _values: Mapping[str, str]) -> str:
        await self._administration.people.resume(by, subject)
        return f"{subject} may work again."

    async def _remove_person(self, by: Identity, subject: str, _values: Mapping[str, str]) -> str:
        ended = (await self._administration.people.remove(by, subject))["ended"]
        return (
            f"{subject} is removed. Ended: {counted(ended['grants'], 'grant')}, {counted(ended['devices'], 'device')}."
        )

    async def _revoke_device(self, by: Identity, subject: str, _values: Mapping[str, str]) -> str:
        done = await self._administration.devices.revoke(by, subject)
        ended = counted(done["ended"]["grants"], "grant")
        remain = f" Passkeys that remain: {done['passkeys']}. Was one on it? Forget it." if done["passkeys"] else ""
        return f"{done['person']}'s device {done['name']} is revoked, and {ended} with it.{remain}"

    async def _rotate(self, by: Identity, subject: str, values: Mapping[str, str]) -> str:
        try:
            key = values.get("secret", "").encode("ascii")
        except UnicodeEncodeError:
            raise InvalidInput("secret.characters", "A key is one line of visible ASCII characters.") from None
        row = await self._administration.servers.rotate_key(by, subject, key)
        return f"{subject} has a new key, version {row['secret_version']}: the next request uses it."

    async def _accept_pin(self, by: Identity, subject: str, _values: Mapping[str, str]) -> str:
        server, row = subject.partition(" ")[0], await self._definition(subject)
        await self._administration.pins.accept(by, server, {row["tool"]: row["digest"]}, replace=False)
        return f"What {server} says of {row['tool']} is accepted, for everybody."

    async def _definition(self, subject: str) -> Row:
        """By its server and its digest, for a tool's own name may hold anything. Raises NotFound."""
        server, _, digest = subject.partition(" ")
        for row in await self._administration.pins.listed(server):
            if row["digest"] == digest:
                return row
        raise NotFound("pin.unknown", "Nobody sees this definition any more.", "See: percall-broker server pins.")

    async def _freeze(self, by: Identity, _subject: str, values: Mapping[str, str]) -> str:
        await self._administration.freezes.freeze(by, "all", "", values.get("reason", ""))
        return "Everything is frozen: every call is refused until the brake is lifted."

    async def _lift(self, by: Identity, _subject: str, _values: Mapping[str, str]) -> str:
        await self._administration.freezes.lift(by, "all", "")
        return "The brake is lifted."

    def _answer(self, answer: str, told: str) -> Acting:
        async def act(by: Identity, subject: str, values: Mapping[str, str]) -> str:
            seen = (await self._approvals.inbox.show(by, subject))["digest"]
            row = await self._approvals.answers.answer(by, subject, _given(answer, seen, values))
            waits = ", once the others have answered too" if row["state"] == "pending" else ""
            return f"{row['tool']} of {row['person']} ({row['agent']}) is {told}{waits}."

        return act

    async def _lift_answer(self, by: Identity, subject: str, _values: Mapping[str, str]) -> str:
        row = await self._approvals.answers.lift(by, subject)
        return f"The answer about {row['tool']} of {row['person']} is taken back."

    async def _remove_passkey(self, by: Identity, subject: str, _values: Mapping[str, str]) -> str:
        row = await self._presence.remove(by, subject)
        return f"The passkey {row['name']} of {row['person']} is forgotten."


def _given(answer: str, digest: str, values: Mapping[str, str]) -> Answer:
    """What the form says. Raises InvalidInput."""
    minutes = values.get("minutes", "0")
    if not (minutes.isascii() and minutes.isdecimal() and len(minutes) < 5):  # noqa: PLR2004 - a week
        raise InvalidInput("approval.seconds", "The number of minutes is no number.")
    scope = values.get("scope", "once")
    seconds = int(minutes) * 60 if scope == "shape" else 0
    varying = (
        tuple(name.removeprefix(VARYING) for name in values if name.startswith(VARYING)) if scope != "once" else ()
    )
    return Answer(answer, digest, scope, seconds, varying)
