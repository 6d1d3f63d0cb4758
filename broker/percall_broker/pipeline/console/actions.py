"""What can be changed in the console, each by the same function of `administration` that the commands use.

An action has a subject and the state in which a page showed it. `check` compares that with what is so now: a change
that was decided on something else is refused, when it is asked for and again when it is made.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from percall_broker.model.errors import Conflict, Forbidden, InvalidInput, NotFound

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from percall_broker.model.records import Grant, Identity
    from percall_broker.pipeline.administration import Administration
    from percall_broker.pipeline.console.presence import Change, PasskeyPresence
    from percall_broker.store.protocol import Row

    Acting = Callable[[Identity, str, Mapping[str, str]], Awaitable[str]]
    Showing = Callable[[str], Awaitable[str]]


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


def shown_brake(freezes: list[Row]) -> str:
    """The same of the brake for everything."""
    return "frozen" if any(row["kind"] == "all" for row in freezes) else "open"


class Actions:
    """The actions, by name. Methods raise what the administration's do."""

    def __init__(self, administration: Administration, presence: PasskeyPresence) -> None:
        self._administration = administration
        self._presence = presence
        self._subjects: dict[str, Showing] = {
            "grant": self._grant,
            "person": self._person,
            "device": self._device,
            "server": self._server,
            "brake": self._brake,
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
            "brake.freeze": self._freeze,
            "brake.lift": self._lift,
            "passkey.remove": self._remove_passkey,
        }

    async def check(self, change: Change, grant: Grant) -> None:
        """Whether it can be done, by the person of this grant.

        Raises InvalidInput for what is no action, NotFound, Forbidden; Conflict where the subject is not as it was
        shown.
        """
        if not grant.administrator:
            raise Forbidden("grant.administrator", "Only an administrator may do this.")
        subject = self._subjects.get(change.action.partition(".")[0])
        if subject is None or change.action not in self._acts:
            raise InvalidInput("console.action", f"There is no action {change.action!r}.")
        if await subject(change.subject) != change.shown:
            raise Conflict("console.changed", "This changed since the page was loaded.", "Look at it, then decide.")

    async def perform(self, by: Identity, change: Change) -> str:
        """Makes the change; a sentence that says so."""
        await self.check(change, by.grant)
        return await self._acts[change.action](by, change.subject, change.values)

    # --- subjects ---

    async def _grant(self, subject: str) -> str:
        return shown_grant(await self._administration.grants.show(subject))

    async def _person(self, subject: str) -> str:
        return shown_person(await self._administration.people.show(subject))

    async def _device(self, subject: str) -> str:
        for row in await self._administration.devices.listed():
            if row["device"] == subject:
                return shown_device(row)
        raise NotFound("device.unknown", f"There is no device {subject!r}.")

    async def _server(self, subject: str) -> str:
        return shown_server(await self._administration.servers.show(subject))

    async def _brake(self, _subject: str) -> str:
        return shown_brake(await self._administration.freezes.listed())

    async def _passkey(self, subject: str) -> str:
        for row in await self._presence.listed():
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
        return f"{subject} is removed. Ended: {ended['grants']} grants, {ended['devices']} devices."

    async def _revoke_device(self, by: Identity, subject: str, _values: Mapping[str, str]) -> str:
        done = await self._administration.devices.revoke(by, subject)
        return f"{done['person']}'s device {done['name']} is revoked, and {done['ended']['grants']} grants with it."

    async def _rotate(self, by: Identity, subject: str, values: Mapping[str, str]) -> str:
        try:
            key = values.get("secret", "").encode("ascii")
        except UnicodeEncodeError:
            raise InvalidInput("secret.characters", "A key is one line of visible ASCII characters.") from None
        row = await self._administration.servers.rotate_key(by, subject, key)
        return f"{subject} has a new key, version {row['secret_version']}: the next request uses it."

    async def _freeze(self, by: Identity, _subject: str, values: Mapping[str, str]) -> str:
        await self._administration.freezes.freeze(by, "all", "", values.get("reason", ""))
        return "Everything is frozen: every call is refused until the brake is lifted."

    async def _lift(self, by: Identity, _subject: str, _values: Mapping[str, str]) -> str:
        await self._administration.freezes.lift(by, "all", "")
        return "The brake is lifted."

    async def _remove_passkey(self, by: Identity, subject: str, _values: Mapping[str, str]) -> str:
        row = await self._presence.remove(by, subject)
        return f"The passkey {row['name']} of {row['person']} is forgotten."
