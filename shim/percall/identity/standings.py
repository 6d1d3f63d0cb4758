"""How the logins of this device stand now, by the broker's word; asking refreshes what `percall run` starts from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from percall import home
from percall.errors import PercallError, word
from percall.identity import claims, keyrings
from percall.identity.client import SignedClient

if TYPE_CHECKING:
    from collections.abc import Sequence

    from percall import wire
    from percall.home import Login
    from percall.identity.enrolment import Enrolment

_OVER = frozenset({"grant.revoked", "grant.expired"})
Granted = tuple["Login", "wire.Session"]
"""A login, and what its broker has just said of it."""


@dataclass(frozen=True, slots=True)
class Standing:
    """One login as it is now; `session` is the broker's word, or the cached one where there is an `error`."""

    login: Login
    session: wire.Session | None
    error: PercallError | None


def is_missed(login: Login, session: wire.Session, granted: Sequence[Granted]) -> bool:
    """Whether the broker refuses this grant, or a server of it, and no other of its agent goes on in its place.

    A key that is still to be given refuses nothing of that: as with a command to accept, it is the person's own to do.
    """
    if session.refusal is not None:
        return not is_replaced(login, session, granted)
    working = {
        server.entry.name for other in _standing(login, granted) for server in other.servers if server.refusal is None
    }
    return not working >= _names(session)


def is_replaced(login: Login, session: wire.Session, granted: Sequence[Granted]) -> bool:
    """Whether this grant is stopped, and others of its agent cover all that it did."""
    others = _standing(login, granted)
    if session.refusal is None or not others:
        return False
    if session.administrator and not any(other.administrator for other in others):
        return False
    return set().union(*map(_names, others)) >= _names(session)


def is_past(login: Login, session: wire.Session, granted: Sequence[Granted]) -> bool:
    """Whether this grant is refused for good, and its agent has another that stands: by what is left of the agent's key
    a new grant is picked up.
    """
    return session.refusal is not None and session.refusal.code in _OVER and bool(_standing(login, granted))


def next_step(login: Login, session: wire.Session, granted: Sequence[Granted]) -> str:
    """What to do about a grant that is refused; empty for one that is not."""
    said = session.refusal.next_step if session.refusal is not None else ""
    forget = f"To forget it here: percall agent remove {word(login.agent)} --ended"
    return f"{said} {forget}".strip() if is_past(login, session, granted) else said


def is_outlasted(login: Login, session: wire.Session, granted: Sequence[Granted], server: str) -> bool:
    """Whether another grant of the same agent covers the server for longer."""
    ends = [other.expires_at for other in _standing(login, granted) if server in _names(other)]
    return any(not end or end > session.expires_at for end in ends)


def _standing(login: Login, granted: Sequence[Granted]) -> list[wire.Session]:
    """Those of a login's agent that stand; its own, too, if it does."""
    holder = (login.broker, login.person, login.agent)
    return [
        session
        for other, session in granted
        if (other.broker, other.person, other.agent) == holder and session.refusal is None
    ]


def _names(session: wire.Session) -> set[str]:
    return {server.entry.name for server in session.servers}


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


def granted(standings: Sequence[Standing]) -> list[Granted]:
    """Of these, those whose broker answered."""
    return [(one.login, one.session) for one in standings if one.session and not one.error]


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
