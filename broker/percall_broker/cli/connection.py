"""The administrator's own grant, and the signed client that it opens."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import quote

from percall import home, wire
from percall.errors import UsageError

if TYPE_CHECKING:
    from percall.identity.client import SignedClient


def administrator(agent: str | None = None) -> SignedClient:
    """The client of the newest administrator's login on this machine. Raises UsageError when there is none."""
    from percall.identity.client import SignedClient  # noqa: PLC0415 - `serve` does without the HTTP client

    logins = home.logins(agent)
    for login in logins:
        session = home.session(login.grant)
        if session is not None and session.administrator:
            return SignedClient.of(login)
    if logins:
        # Let the broker say no to somebody who is not an administrator: it knows best.
        return SignedClient.of(logins[0])
    raise UsageError(
        "admin.no_login",
        f"Nobody has logged in on this machine (looked in {home.folder()}).",
        "Log in with an administrator's invite: `percall login URL --invite CODE`.",
    )


def under(*parts: str) -> str:
    """The path of something behind the administrator's door; names come from people, so they are percent-encoded.

    Raises UsageError for what cannot be a name and would change the path.
    """
    for part in parts:
        if not part or "/" in part or part in {".", ".."}:
            raise UsageError("cli.name", f"{part!r} cannot be a name.", "Names have no slash.")
    return wire.PATH_ADMIN + "/".join(quote(part, safe="") for part in parts)
