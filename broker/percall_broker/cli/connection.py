"""The administrator's own grant, and the signed client that it opens."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING
from urllib.parse import quote

from percall import home, wire
from percall.errors import UsageError
from percall_broker.cli import output

if TYPE_CHECKING:
    from percall.home import Login
    from percall.identity.client import SignedClient

_VARIABLE = "PERCALL_BROKER"


def administrator(agent: str | None = None) -> SignedClient:
    """The client of the newest administrator's login on this machine, at the broker that `PERCALL_BROKER` names if it
    does. Raises UsageError when there is none.
    """
    from percall.identity.client import SignedClient  # noqa: PLC0415 - `serve` does without the HTTP client

    logins = logins_here(agent)
    sessions = [(login, home.session(login.grant)) for login in logins]
    administering = [login for login, session in sessions if session is not None and session.administrator]
    if logins:
        # Let the broker say no to somebody who is not an administrator: it knows best.
        return SignedClient.of(_first(administering or logins))
    raise UsageError(
        "admin.no_login",
        f"Nobody has logged in on this machine (looked in {home.folder()}).",
        "Log in with an administrator's invite: `percall login URL --invite CODE`.",
    )


def logins_here(agent: str | None) -> list[Login]:
    """The logins on this machine, newest first; where `PERCALL_BROKER` names a broker, those at it. Raises UsageError
    when there is none at that one.
    """
    logins, wanted = home.logins(agent), os.environ.get(_VARIABLE, "").rstrip("/")
    found = [login for login in logins if wanted in {"", login.broker.rstrip("/")}]
    if logins and not found:
        there = ", ".join(dict.fromkeys(login.broker for login in logins))
        raise UsageError(
            "admin.no_login",
            f"{_VARIABLE} says {wanted}, and nobody has logged in there on this machine.",
            f"There are logins at {there}.",
        )
    return found


def _first(logins: list[Login]) -> Login:
    """The first of these; where they are at several brokers, says at which one it is."""
    others = dict.fromkeys(login.broker for login in logins if login.broker != logins[0].broker)
    if others:
        chosen = logins[0].broker
        output.aside(f"Asking {chosen}. You also have a login at {', '.join(others)}: {_VARIABLE}=URL chooses.")
    return logins[0]


def under(*parts: str) -> str:
    """The path of something behind the administrator's door; names come from people, so they are percent-encoded.

    Raises UsageError for what cannot be a name and would change the path.
    """
    for part in parts:
        if not part or "/" in part or part in {".", ".."}:
            raise UsageError("cli.name", f"{part!r} cannot be a name.", "Names have no slash.")
    return wire.PATH_ADMIN + "/".join(quote(part, safe="") for part in parts)
