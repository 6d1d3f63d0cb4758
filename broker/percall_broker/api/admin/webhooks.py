"""Routes of the endpoints for events."""

# No postponed annotations here: FastAPI reads them, and `By` below is local.
from typing import Annotated, Any

from fastapi import APIRouter, Depends
from pydantic import Field, SecretStr

from percall_broker.api.admin.forms import Administrator, Form
from percall_broker.model.records import Identity
from percall_broker.pipeline.administration.webhooks import WebhookEndpoints
from percall_broker.pipeline.webhooks import Webhooks


class WebhookForm(Form):
    """A new endpoint. Its URL may hold a secret."""

    url: SecretStr = Field(max_length=2048)
    format: str = "json"


def router(endpoints: WebhookEndpoints, webhooks: Webhooks, administrator: Administrator) -> APIRouter:
    """The routes under /webhooks."""
    routes = APIRouter(prefix="/webhooks")
    By = Annotated[Identity, Depends(administrator)]

    @routes.get("")
    async def listed() -> list[dict[str, Any]]:
        return await endpoints.listed()

    @routes.post("")
    async def add(by: By, form: WebhookForm) -> dict[str, Any]:
        return await endpoints.add(by, form.url.get_secret_value(), form.format)

    @routes.delete("/{webhook}")
    async def remove(by: By, webhook: str) -> dict[str, Any]:
        await endpoints.remove(by, webhook)
        return {"webhook": webhook, "state": "removed"}

    @routes.post("/{webhook}/test")
    async def test(webhook: str) -> dict[str, Any]:
        return await webhooks.test(webhook)

    return routes
