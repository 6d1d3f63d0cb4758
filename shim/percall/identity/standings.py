"""How the logins of this device stand now, by the broker's word; asking refreshes what `percall run` starts from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from percall import home
from percall.errors import PercallError
from percall.identity import claims, keyrings
from percall.identity.client import SignedClient

if TYPE_CHECKING:
    from percall import wire
    from percall.home import Login
    from percall.identity.enrolment import Enrolment


@dataclass(frozen=True, slots=True)
class Standing:
    """One login as it is now; `session` is the broker's word, or the cached one where there is an `error`."""

    login: Login
    session: wire.Session | None
    error: PercallError | None


def picked_up(agent: str | None = None) -> list[Enrolment]:
    """What waited for this device, and is a login from now on; for `agent`, if one is named, also what names none. A
    broker that cannot be asked is passed over.

    Raises UsageError where there is no login (of this agent, if one is named).
    """
    logins = home.logins(agent)
    if not logins:
        raise home.no_login("status.no_login", agent)
    keyrings.ask(logins)
    return claims.pick_up_everywhere(logins, agent)


def of_all(agent: str | None = None) -> list[Standing]:
    """Each login (of this agent, if one is named), newest first. Raises UsageError."""
    logins = home.logins(agent)
    keyrings.ask(logins)
    return [of(login) for login in logins]


def of(login: Login) -> Standing:
    """One login."""
    try:
        with SignedClient.of(login) as broker:
            session = broker.session()
        home.save_session(session)
    except PercallError as error:
        return Standing(login, home.session(login.grant), error)
    return Standing(login, session, None)
