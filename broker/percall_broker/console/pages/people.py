"""People, their devices and agents, with last use; and the buttons that stop them."""

# No postponed annotations here: FastAPI reads them.
import time
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import Response

from percall_broker.console.asking import Pages, is_ended
from percall_broker.pipeline.console.actions import shown_device, shown_grant, shown_person


def router(pages: Pages) -> APIRouter:
    """The routes under /people."""
    routes = APIRouter()
    console, administration = pages.broker.console, pages.broker.administration

    @routes.get("/people")
    async def show(request: Request) -> Response:
        session = await pages.session(request)
        last = _latest(await administration.grants.listed(), await console.figures.last_uses(time.time()), "person")
        rows = [
            {**row, "last": last.get(row["person"], 0), "shown": shown_person(row)}
            for row in await administration.people.listed()
        ]
        present = [row for row in rows if row["state"] != "removed"]
        gone = [row for row in rows if row["state"] == "removed"]
        return await pages.page(request, session, "people.html", people=present, gone=gone)

    @routes.get("/people/{name}")
    async def one(request: Request, name: str) -> Response:
        session = await pages.session(request)
        person = await administration.people.show(name)
        uses = await console.figures.last_uses(time.time())
        by_device = _latest(person["grants"], uses, "device_id")
        return await pages.page(
            request,
            session,
            "person.html",
            person={**person, "shown": shown_person(person)},
            devices=[
                {**row, "last": by_device.get(row["device"], 0), "shown": shown_device(row)}
                for row in person["devices"]
            ],
            grants=[
                {
                    **row,
                    "last": uses[row["grant"]]["last_ms"] / 1000 if row["grant"] in uses else 0,
                    "calls": uses[row["grant"]]["calls"] if row["grant"] in uses else 0,
                    "shown": shown_grant(row),
                    "ended": is_ended(row),
                }
                for row in sorted(person["grants"], key=lambda row: (is_ended(row), row["agent"]))
            ],
            passkeys=await console.presence.listed(name),
        )

    return routes


def _latest(grants: list[dict[str, Any]], uses: dict[str, Any], by: str) -> dict[str, float]:
    """When something was last used, in seconds: the newest use of its grants."""
    found: dict[str, float] = {}
    for grant in grants:
        if grant["grant"] in uses:
            found[grant[by]] = max(found.get(grant[by], 0), uses[grant["grant"]]["last_ms"] / 1000)
    return found
