"""Signing in: by a one-time link, by a passkey, or at the organisation's provider. Each POST, from a page of ours."""

# No postponed annotations here: FastAPI reads them.
import secrets
import time
from typing import Any
from urllib.parse import urlencode

from fastapi import APIRouter, Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from percall import wire
from percall_broker.console import rendering, security
from percall_broker.console.asking import Pages, credential, message, text, told
from percall_broker.crypto.proofs import digest
from percall_broker.model.errors import InvalidInput
from percall_broker.pipeline.console.presence import Change
from percall_broker.pipeline.console.sessions import LONGEST_SECONDS, Opened

_SIGN_IN = "/console/sign-in"
_BACK = _SIGN_IN + "/back"
_FLOW, _FLOW_SECONDS = "-flow", 600


def context(pages: Pages) -> dict[str, Any]:
    """What the sign-in page needs."""
    origin = pages.broker.console.presence.origin
    return {"may_use_passkeys": bool(origin.relying_party), "has_provider": pages.broker.sign_in.is_configured}


def _welcome(origin: str, opened: Opened) -> Response:
    where = "/console/passkeys" if opened.may_enrol else "/console/"
    answer = told({"next": where}, {"set-cookie": security.cookie(origin, "", 0, _FLOW)})
    answer.headers.append("set-cookie", security.cookie(origin, opened.token, LONGEST_SECONDS))
    return answer


def router(pages: Pages) -> APIRouter:
    """The routes under /sign-in, and /sign-out."""
    routes = APIRouter()
    console, origin = pages.broker.console, pages.origin

    @routes.get("/sign-in")
    async def show() -> Response:
        return HTMLResponse(rendering.page("sign_in.html", error=None, **context(pages)))

    @routes.post("/sign-in/link")
    async def link(request: Request) -> Response:
        found = await message(request)
        return _welcome(origin, await console.sessions.open_by_link(text(found, "code"), time.time()))

    @routes.post("/sign-in/passkey/ask")
    async def ask() -> Response:
        asked = console.presence.new("sign-in", "", "", {}, time.time())
        return told({"id": asked.id, "nonce": asked.nonce, "options": console.presence.asking_anybody(asked)})

    @routes.post("/sign-in/passkey")
    async def passkey(request: Request) -> Response:
        found, now = await message(request), time.time()
        asked = Change("sign-in", "", "", {}, text(found, "id"), text(found, "nonce"))
        person, key = await console.presence.person(asked, credential(found), now)
        return _welcome(origin, await console.sessions.open_of(person, "passkey", now, passkey=key))

    @routes.post("/sign-out")
    async def leave(request: Request) -> Response:
        await console.sessions.close(security.token_of(dict(request.scope), origin))
        forget = {"set-cookie": security.cookie(origin, "", 0)}
        if "application/json" in request.headers.get("accept", ""):
            return told({"next": _SIGN_IN}, forget)
        return RedirectResponse(_SIGN_IN, 303, forget)  # without the script

    routes.include_router(_provider_router(pages))
    return routes


def _provider_router(pages: Pages) -> APIRouter:
    routes = APIRouter()
    console, origin = pages.broker.console, pages.origin

    @routes.post("/sign-in/provider/ask")
    async def to_provider() -> Response:
        """Where the browser goes. What the answer must fit is in a cookie of ten minutes, which no script reads."""
        offer = await pages.broker.sign_in.offer()
        state, nonce, verifier = (secrets.token_urlsafe(32) for _ in range(3))
        query = {
            "response_type": "code",
            "client_id": offer.client_id,
            "redirect_uri": origin + _BACK,
            "scope": offer.scope,
            "state": state,
            "nonce": nonce,
            "code_challenge": digest(verifier.encode()),
            "code_challenge_method": "S256",
        }
        joined = "&" if "?" in offer.authorization_endpoint else "?"
        flow = security.cookie(origin, f"{state}.{nonce}.{verifier}", _FLOW_SECONDS, _FLOW)
        return told({"location": offer.authorization_endpoint + joined + urlencode(query)}, {"set-cookie": flow})

    @routes.get("/sign-in/back")
    async def back() -> Response:
        # The provider's redirect is another site's GET: the page that it loads asks again, from here, with a POST.
        return HTMLResponse(rendering.page("sign_in.html", error=None, **context(pages)))

    @routes.post("/sign-in/provider")
    async def from_provider(request: Request) -> Response:
        found, now = await message(request), time.time()
        flow = security.token_of(dict(request.scope), origin, _FLOW).split(".")
        if len(flow) != 3 or not secrets.compare_digest(flow[0].encode(), text(found, "state").encode()):  # noqa: PLR2004
            raise InvalidInput("sign_in.state", "This answer is not for a sign-in that began here.", "Begin again.")
        _, nonce, verifier = flow
        signed_in = await pages.broker.sign_in(
            wire.SignIn(text(found, "code"), verifier, nonce, origin + _BACK, enrol=False), now
        )
        return _welcome(origin, await console.sessions.open_of(signed_in.person, "provider", now))

    return routes
