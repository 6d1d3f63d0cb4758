"""Routes of keys, across servers and people."""

from typing import Any

from fastapi import APIRouter

from percall_broker.pipeline.administration.keys import Keys


def router(keys: Keys) -> APIRouter:
    """The routes under /keys."""
    routes = APIRouter(prefix="/keys")

    @routes.get("/copies")
    async def copies() -> list[dict[str, Any]]:
        return await keys.copies()

    return routes
