"""The route of the broker's status."""

from typing import Any

from fastapi import APIRouter

from percall_broker.pipeline.administration.status import Status


def router(status: Status) -> APIRouter:
    """The route /status."""
    routes = APIRouter()

    @routes.get("/status")
    async def show() -> dict[str, Any]:
        return await status.show()

    return routes
