"""Routes of the record: calls, changes, and one call's story."""

# No postponed annotations here: FastAPI reads them, and `By` below is local.
import time
from collections.abc import AsyncIterator
from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Depends, Query
from starlette.responses import Response

from percall import wire
from percall_broker.api.admin.forms import Administrator
from percall_broker.model.records import Identity
from percall_broker.pipeline.administration.record import Filters, Record

MAX_VERSION = 2**31
_encode = msgspec.json.Encoder().encode


def router(record: Record, reader: Administrator) -> APIRouter:
    """The routes of the log. Opening arguments is for a reader, though it is no GET: it records that it happened."""
    routes = APIRouter()
    By = Annotated[Identity, Depends(reader)]

    @routes.get("/calls")
    async def calls(
        *,
        person: str = "",
        grant: str = "",
        agent: str = "",
        server: str = "",
        tool: str = "",
        decision: str = "",
        since_ms: int = 0,
        until_ms: int = 0,
        limit: Annotated[int, Query(ge=1, le=wire.MAX_ROWS)] = 1000,
        secret_owner: str = "",
        secret_version: Annotated[int, Query(ge=0, le=MAX_VERSION)] = 0,
    ) -> Response:
        found = Filters(
            person, grant, agent, server, tool, decision, since_ms, until_ms, limit, secret_owner, secret_version
        )
        return await _listing(record.calls(found))

    @routes.get("/changes")
    async def changes(
        *,
        since_ms: int = 0,
        until_ms: int = 0,
        limit: Annotated[int, Query(ge=1, le=wire.MAX_ROWS)] = 1000,
    ) -> Response:
        return await _listing(record.changes(since_ms, until_ms, limit))

    @routes.get("/tail")
    async def tail(after: int = -1) -> dict[str, Any]:
        if after < 0:
            return {"seq": await record.last_seq(), "calls": []}
        seq, rows = await record.calls_after(after, time.time())
        return {"seq": seq, "calls": rows}

    @routes.get("/calls/{call}")
    async def story(call: str) -> dict[str, Any]:
        return {"call": call, "entries": await record.story(call)}

    @routes.post("/calls/{call}/arguments")
    async def arguments(by: By, call: str) -> dict[str, Any]:
        return {"call": call, "arguments": await record.read_arguments(by, call)}

    return routes


async def _listing(rows: AsyncIterator[dict[str, Any]]) -> Response:
    """Made row by row, as they come: FastAPI would stop everything else until it had made all of it."""
    made = [_encode(row) async for row in rows]
    return Response(b"[" + b",".join(made) + b"]", media_type="application/json")
