"""The administrator's door: signed like every request, and open to administrators' grants alone.

FastAPI reads the forms; each route hands one thing to `pipeline.administration`. A module for each subject.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastapi import APIRouter

from percall_broker.api.admin import grants, record, servers, webhooks

if TYPE_CHECKING:
    from percall_broker.api.admin.forms import Administrator
    from percall_broker.pipeline.administration import Administration
    from percall_broker.pipeline.webhooks import Webhooks


def router(administration: Administration, sending: Webhooks, administrator: Administrator) -> APIRouter:
    """The routes under /v1/admin. `administrator` says who signed a request, or raises."""
    routes = APIRouter(prefix="/v1/admin")
    routes.include_router(grants.router(administration.grants, administrator))
    routes.include_router(servers.router(administration.servers, administrator))
    routes.include_router(record.router(administration.record, administrator))
    routes.include_router(webhooks.router(administration.webhooks, sending, administrator))
    return routes
