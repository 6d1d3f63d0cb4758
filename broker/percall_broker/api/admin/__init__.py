"""The administrator's door: signed like every request, and open to administrators' grants alone.

FastAPI reads the forms; each route hands one thing to `pipeline.administration`. A module for each subject.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastapi import APIRouter

from percall_broker.api.admin import grants, record, servers

if TYPE_CHECKING:
    from percall_broker.api.admin.forms import Administrator
    from percall_broker.pipeline.administration import Administration


def router(administration: Administration, administrator: Administrator) -> APIRouter:
    """The routes under /v1/admin. `administrator` says who signed a request, or raises."""
    routes = APIRouter(prefix="/v1/admin")
    routes.include_router(grants.router(administration.grants, administrator))
    routes.include_router(servers.router(administration.servers, administrator))
    routes.include_router(record.router(administration.record, administrator))
    return routes
