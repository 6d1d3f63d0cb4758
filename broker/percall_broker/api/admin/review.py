"""Routes of the review that a restored store needs."""

# No postponed annotations here: FastAPI reads them, and `By` below is local.
from typing import Annotated, Any

from fastapi import APIRouter, Depends

from percall_broker.api.admin.forms import Administrator, Form
from percall_broker.model.records import Identity
from percall_broker.pipeline.administration.review import Review


class ResumeForm(Form):
    """The grants that work again."""

    grants: list[str]


def router(review: Review, administrator: Administrator) -> APIRouter:
    """The routes under /review."""
    routes = APIRouter(prefix="/review")
    By = Annotated[Identity, Depends(administrator)]

    @routes.get("")
    async def show() -> dict[str, Any]:
        return await review.show()

    @routes.post("/resume")
    async def resume(by: By, form: ResumeForm) -> dict[str, Any]:
        return await review.resume(by, form.grants)

    return routes
