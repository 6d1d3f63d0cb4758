"""What pages share: who asks, how forms are read, and how a page is answered."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

from starlette.responses import HTMLResponse, Response

from percall import wire
from percall.errors import WireError
from percall_broker.console import rendering, security
from percall_broker.model.errors import Forbidden, InvalidInput
from percall_broker.pipeline.approvals.inbox import Filters

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fastapi import Request

    from percall_broker.compose import Broker
    from percall_broker.pipeline.console.sessions import Session

_MOST_FIELDS = 50


@dataclass(frozen=True, slots=True)
class Pages:
    """The broker, as its pages see it."""

    broker: Broker

    @property
    def origin(self) -> str:
        """Where the console is."""
        return self.broker.console.presence.origin.url

    async def session(self, request: Request) -> Session:
        """Which administrator asks. Raises Unauthenticated, Forbidden."""
        session = await self.anybody(request)
        if not session.administers:
            raise Forbidden("console.administrator", "Only an administrator may see this.", "See: /console/approvals")
        return session

    async def anybody(self, request: Request) -> Session:
        """Who asks. A part of a page that looks anew by itself keeps nobody signed in. Raises Unauthenticated."""
        token = security.token_of(dict(request.scope), self.origin)
        by_itself = "live" in request.query_params
        # Before anything of the page is read: what happens from now on, its stream tells.
        request.state.mark = await self.broker.console.figures.mark()
        return await self.broker.console.sessions.of(token, time.time(), touch=not by_itself)

    async def waiting(self, session: Session) -> int:
        """How many questions this person may answer now; a hundred means that or more."""
        return len(await self.broker.approvals.inbox.listed(session.asking(), Filters(state="pending", mine=True)))

    async def page(self, request: Request, session: Session, name: str, /, **context: Any) -> HTMLResponse:
        """A whole page for somebody who is signed in."""
        passkeys = await self.broker.console.presence.listed(session.person)
        freezes = await self.broker.administration.freezes.listed()
        frame = {"session": session, "has_passkey": bool(passkeys), "freezes": freezes}
        frame |= {"waiting": await self.waiting(session), "mark": request.state.mark}
        return HTMLResponse(rendering.page(name, **frame, **context))


def place(query: Mapping[str, str]) -> int:
    """Before which row a page of earlier ones begins; 0: it is the newest. Raises InvalidInput."""
    before = query.get("before") or "0"
    if not (before.isascii() and before.isdecimal() and len(before) < 16):  # noqa: PLR2004
        raise InvalidInput("request.before", f"No page begins with before={before}.", "Begin with the newest.")
    return int(before)


async def form(request: Request) -> dict[str, str]:
    """The fields of a form; each once. Raises InvalidInput."""
    try:
        fields = parse_qsl(
            (await request.body()).decode(),
            keep_blank_values=True,
            strict_parsing=False,
            encoding="utf-8",
            errors="strict",
            max_num_fields=_MOST_FIELDS,
        )
    except (ValueError, UnicodeDecodeError):
        raise InvalidInput("request.form", "The form cannot be read.") from None
    found = dict(fields)
    if len(found) != len(fields):
        raise InvalidInput("request.form", "The form has a field twice.")
    return found


async def message(request: Request) -> dict[str, Any]:
    """A JSON object. Raises InvalidInput."""
    if request.headers.get("content-type", "").startswith("application/x-www-form-urlencoded"):
        raise InvalidInput(
            "console.script",
            "The page's script had not been loaded yet, and without it nothing is changed.",
            "Go back and press again.",
        )
    try:
        found = wire.strict_json(await request.body())
    except WireError as error:
        raise InvalidInput(error.code, error.message) from None
    if not isinstance(found, dict):
        raise InvalidInput("request.form", "Not a JSON object.")
    return found


def text(found: dict[str, Any], name: str) -> str:
    """A member that is a text. Raises InvalidInput."""
    value = found.get(name)
    if not isinstance(value, str):
        raise InvalidInput("request.form", f"The member {name!r} is no text.")
    return value


def texts(found: dict[str, Any], name: str) -> dict[str, str]:
    """A member that is an object of texts. Raises InvalidInput."""
    value = found.get(name)
    if not isinstance(value, dict) or not all(isinstance(one, str) for one in value.values()):
        raise InvalidInput("request.form", f"The member {name!r} holds more than texts.")
    return value


def credential(found: dict[str, Any]) -> dict[str, Any]:
    """What a passkey answered. Raises InvalidInput."""
    value = found.get("credential")
    if not isinstance(value, dict):
        raise InvalidInput("request.form", "There is no answer of a passkey.")
    return value


def told(value: Any, headers: dict[str, str] | None = None) -> Response:
    """A JSON answer."""
    return Response(wire.dump(value), media_type="application/json", headers=headers)


def is_ended(grant: dict[str, Any]) -> bool:
    """Whether nothing brings a grant back. To sign in again brings back what has expired by that alone."""
    if grant["state"] == "expired":
        return 0 < int(grant["expires_at"]) <= time.time()
    return bool(grant["state"] == "revoked")
