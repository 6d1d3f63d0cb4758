"""Signing in at the organisation's provider, instead of an administrator's invite.

1  the provider says whose account it is, for this very sign-in
2  the account is a person here: the one that it was the first time, or a new one under its name
3  the groups that the provider's are mapped to become theirs, and those that are no longer, not
4  until the next sign-in is due, the person's grants hold
5  an invite for the device, as an administrator's would be, where it has no key here yet
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from percall import wire
from percall_broker.log import changes
from percall_broker.model.errors import BrokerError, Conflict, Forbidden, InvalidInput, NotFound
from percall_broker.model.names import check_name
from percall_broker.store.protocol import Statement

if TYPE_CHECKING:
    from collections.abc import Mapping

    from percall_broker.oidc import Account, Client, Provider
    from percall_broker.pipeline.administration.groups import Groups
    from percall_broker.pipeline.administration.ledger import Ledger
    from percall_broker.pipeline.administration.people import People

_DAY_SECONDS = 86400
_MOST_CHARACTERS = 4096
_LINK = "An administrator who knows that the account is theirs says: percall-broker person link "


class SignIn:
    """Sign-ins. `groups_here` maps the provider's groups to groups here; `days` is how long a sign-in holds."""

    def __init__(
        self,
        ledger: Ledger,
        people: People,
        groups: Groups,
        provider: Provider | None,
        client: Client | None,
        groups_here: Mapping[str, str],
        days: int,
    ) -> None:
        self._ledger = ledger
        self._people = people
        self._groups = groups
        self._provider = provider
        self._client = client
        self._groups_here = dict(groups_here)
        self._days = days

    @property
    def is_configured(self) -> bool:
        """Whether there is a provider."""
        return self._provider is not None

    async def offer(self) -> wire.SignInOffer:
        """Where a browser signs in. Raises NotFound where no provider is configured, UpstreamFailed."""
        provider, client = self._configured()
        endpoint = await provider.authorization_endpoint()
        return wire.SignInOffer(client.issuer, endpoint, client.client_id, client.scope)

    async def __call__(self, asked: wire.SignIn, now: float) -> wire.SignedIn:
        """An invite for whoever signed in. Raises BrokerError."""
        provider, client = self._configured()
        if max(map(len, (asked.code, asked.verifier, asked.nonce, asked.redirect_uri))) > _MOST_CHARACTERS:
            raise InvalidInput("sign_in.form", "The sign-in's members are too long.")
        account = await provider.account(asked.code, asked.verifier, asked.nonce, asked.redirect_uri, now)  # 1
        person = await self._person(account, now)  # 2
        await self._take_groups(person, account)  # 3
        until = int(now) + self._days * _DAY_SECONDS
        done = await self._ledger.change(  # 4
            Statement("active_person", {"name": person}, required=True),
            Statement("signed_in", {"person": person, "until": until}),
            Statement("touch_grants", {"person": person, "device": ""}),
            changes.change(None, "person.sign_in", person=person, issuer=client.issuer, until=until),
        )
        if done is None:
            raise await self._gone(person)
        if not asked.enrol:
            return wire.SignedIn(person, until)
        invite, _ = await self._people.invite(None, person, signed_in=True)  # 5
        return wire.SignedIn(person, until, invite.code)

    def _configured(self) -> tuple[Provider, Client]:
        if self._provider is None or self._client is None:
            raise NotFound(
                wire.CODE_NO_SIGN_IN,
                "No sign-in is configured at this broker.",
                "Ask your administrator for an invite, then: percall login URL --invite CODE.",
            )
        return self._provider, self._client

    async def _person(self, account: Account, now: float) -> str:
        key = {"issuer": account.issuer, "subject": account.subject}
        rows = await self._ledger.fetch("read_account", **key)
        if not rows:
            return await self._link(account, now)
        person = str(rows[0]["person"])
        _require_active(person, rows[0]["state"])
        if rows[0]["account_state"] != "active":
            raise Forbidden("sign_in.ended", f"This account was removed here with a former {person}.", _LINK + person)
        return person

    async def _link(self, account: Account, now: float) -> str:
        """Makes the account a person here. Who is in no mapped group, and unknown, stays a stranger; who has been here
        without signing in is tied to no account by its name alone.
        """
        name = account.name
        check_name(name, "person")
        known = await self._ledger.fetch("person_of_name", name=name)
        if known:
            _require_active(name, known[0]["state"])
        elif not self._mapped(account):
            raise Forbidden(
                "sign_in.no_group",
                f"{name} is in no group that may use this broker.",
                "Ask your administrator to add you to one, at the provider.",
            )
        done = await self._ledger.change(
            Statement("active_person", {"name": name}, required=True)
            if known
            else Statement("add_person", {"name": name, "created_at": int(now)}),
            Statement(
                "link_account",
                {"issuer": account.issuer, "subject": account.subject, "person": name, "linked_at": int(now)},
                required=True,
            ),
            changes.change(None, "person.link", person=name, issuer=account.issuer),
        )
        if done is None:
            raise await self._why_not_linked(name)
        return name

    async def _gone(self, person: str) -> BrokerError:
        """What is said where the person was stopped while they signed in."""
        (found,) = await self._ledger.fetch("person_of_name", name=person)
        return Forbidden(f"person.{found['state']}", f"{person} was stopped at this broker meanwhile.")

    async def _why_not_linked(self, name: str) -> BrokerError:
        advice = _LINK + name
        if await self._ledger.fetch("accounts_of", person=name):
            return Conflict("sign_in.other", f"Another account signed in as {name} before.", advice)
        return Conflict("sign_in.unlinked", f"There is a {name} here already, who has not signed in so far.", advice)

    def _mapped(self, account: Account) -> set[str]:
        return {here for theirs, here in self._groups_here.items() if theirs in account.groups}

    async def _take_groups(self, person: str, account: Account) -> None:
        """Joins and leaves the groups that the provider rules; others are the administrators'. Another sign-in of the
        same person may do so at the same time.
        """
        wanted = self._mapped(account)
        member = {row["name"] for row in await self._ledger.fetch("groups_of", person=person)}
        for group in sorted(wanted - member):
            with contextlib.suppress(Conflict):  # joined meanwhile
                await self._groups.join(None, group, [person])
        for group in sorted((set(self._groups_here.values()) - wanted) & member):
            with contextlib.suppress(Conflict):  # left meanwhile
                await self._groups.leave(None, group, [person])


def _require_active(person: str, state: str) -> None:
    if state != "active":
        raise Forbidden(f"person.{state}", f"{person} is {state} at this broker.")
