"""One's own passkeys, and making one with a link that the passphrase made."""

# No postponed annotations here: FastAPI reads them.
import time

from fastapi import APIRouter, Request
from starlette.responses import Response

from percall_broker.console.asking import Pages, credential, message, text, texts, told
from percall_broker.pipeline.console.presence import Change

_ENROL = "passkey.enrol"


def router(pages: Pages) -> APIRouter:
    """The routes under /passkeys."""
    routes = APIRouter()
    presence = pages.broker.console.presence

    @routes.get("/passkeys")
    async def show(request: Request) -> Response:
        session = await pages.anybody(request)
        rows = await presence.listed(session.person)
        usable = bool(presence.origin.relying_party)
        return await pages.page(request, session, "passkeys.html", passkeys=rows, usable=usable)

    @routes.post("/passkeys/ask")
    async def ask(request: Request) -> Response:
        session, found = await pages.anybody(request), await message(request)
        asked = presence.new(_ENROL, session.person, "", texts(found, "values"), time.time())
        options = await presence.asking_new(asked, session)
        return told({"id": asked.id, "nonce": asked.nonce, "options": options})

    @routes.post("/passkeys")
    async def enrol(request: Request) -> Response:
        session, found = await pages.anybody(request), await message(request)
        values = texts(found, "values")
        asked = Change(_ENROL, session.person, "", values, text(found, "id"), text(found, "nonce"))
        await presence.enrol(asked, session, credential(found), time.time())
        return told({"notice": f"The passkey {values['name']} is yours. It can change things from now on."})

    return routes
