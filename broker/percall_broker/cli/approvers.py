"""Whoever of this machine may answer an approval: administrator, lead and user may share one."""

from __future__ import annotations

import time
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from percall import home, wire
from percall.errors import PercallError, UsageError
from percall_broker.cli.connection import logins_here

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from percall.home import Login
    from percall.identity.client import SignedClient

    T = TypeVar("T")
    Row = dict[str, Any]


class Approver(NamedTuple):
    """A person of this machine, and the client of their best login at one broker."""

    person: str
    client: SignedClient


@contextmanager
def people_here(agent: str | None) -> Iterator[list[Approver]]:
    """Every person who has logged in here, once a broker, and who administers first.

    Of a person's logins, one that stands comes first, then one with which they administer, since requests for grants
    wait for administrators, then the newest. Only those of `agent`, where it is given. Raises UsageError when there is
    none; PercallError, the first one's problem, when no login's secrets can be had.
    """
    from percall.identity.client import SignedClient  # noqa: PLC0415 - as for an administrator's

    best: dict[tuple[str, str], Login] = {}
    for login in sorted(_of_people(agent), key=_standing, reverse=True):
        best.setdefault((login.broker, login.person), login)
    if not best:
        raise UsageError(
            "approval.no_login",
            f"No person has logged in on this machine (looked in {home.folder()}).",
            "An automation answers nothing. Log in: percall login URL --invite CODE",
        )
    with ExitStack() as clients:
        yield [
            Approver(login.person, client)
            for login, client in _each(best.values(), lambda login: clients.enter_context(SignedClient.of(login)))
        ]


def waiting(people: Sequence[Approver], query: Mapping[str, str]) -> list[Row]:
    """What any of them is shown, newest first. Raises PercallError, the first one's problem, when nobody is."""
    found = {}
    for _, rows in _each(people, lambda one: one.client.json("GET", wire.PATH_INBOX, query=query)):
        found.update({row["approval"]: row for row in rows})
    return sorted(found.values(), key=lambda row: (row["asked_at"], row["seq"]), reverse=True)


def whose(people: Sequence[Approver], path: str) -> Approver:
    """Who may answer the approval at a path; else who has; else who sees it. Raises PercallError when nobody does."""
    if len(people) == 1:
        return people[0]

    def fit(seen: tuple[Approver, Row]) -> tuple[bool, bool]:
        one, row = seen
        return row["answerable"], one.person in {group["person"] for group in row["groups"]}

    return max(_each(people, lambda one: one.client.json("GET", path)), key=fit)[0]


def _of_people(agent: str | None) -> list[Login]:
    """The logins here that are no automation's, newest first."""
    found = []
    for login in logins_here(agent):
        session = home.session(login.grant)
        if session is None or not session.automation:
            found.append(login)
    return found


def _standing(login: Login) -> tuple[bool, bool]:
    """Whether a login stands, as far as is known here, and whether one administers with it."""
    session = home.session(login.grant)
    if session is None:
        return True, False
    stands = session.state == "active" and not 0 < session.expires_at <= time.time()
    return stands, session.administrator


def _each(things: Iterable[T], of: Callable[[T], Any]) -> list[tuple[T, Any]]:
    """What comes of each for which it can be had. Raises PercallError, the first one's, where it can for none."""
    failure: PercallError | None = None
    found = []
    for thing in things:
        try:
            found.append((thing, of(thing)))
        except PercallError as error:
            failure = failure or error
    if failure is not None and not found:
        raise failure
    return found
