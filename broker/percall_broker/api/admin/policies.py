"""Routes of the policies: to apply them, to read them, and to ask what they would do."""

# No postponed annotations here: FastAPI reads them, and `By` below is local.
import time
from typing import Annotated, Any

from fastapi import APIRouter, Depends
from pydantic import Field

from percall_broker.api.admin.forms import Administrator, Form
from percall_broker.model.records import Identity
from percall_broker.pipeline.administration.policies import PolicyBook, Question
from percall_broker.policy.language import MAX_FILES

Files = Annotated[dict[str, str], Field(max_length=MAX_FILES)]


class PoliciesForm(Form):
    """Policies to put into force: the text of each file, and the version that they replace (-1: any)."""

    files: Files
    message: str = Field(default="", max_length=500)
    expected: int = -1


class QuestionForm(Form):
    """A call that somebody might make, and policies to ask instead of those in force."""

    person: str
    server: str
    tool: str
    agent: str = "default"
    arguments: str = Field(default="{}", max_length=512 * 1024)
    draft: Files = Field(default_factory=dict)


class ReplayForm(Form):
    """A draft, and how far back to try it."""

    files: Files
    days: int = 7


def router(policies: PolicyBook, administrator: Administrator) -> APIRouter:
    """The routes under /policies that show them and put them into force."""
    routes = APIRouter(prefix="/policies")
    By = Annotated[Identity, Depends(administrator)]

    @routes.get("")
    async def listed() -> list[dict[str, Any]]:
        return await policies.listed()

    @routes.get("/{version}")
    async def show(version: int) -> dict[str, Any]:
        return await policies.show(version)

    @routes.post("")
    async def apply(by: By, form: PoliciesForm) -> dict[str, Any]:
        return await policies.apply(by, form.files, form.message, form.expected)

    return routes


def trials_router(policies: PolicyBook, reader: Administrator) -> APIRouter:
    """The routes that say what policies would do: to explain and to replay changes nothing, so reading is enough."""
    routes = APIRouter(prefix="/policies")
    By = Annotated[Identity, Depends(reader)]

    @routes.post("/explain")
    async def explain(form: QuestionForm) -> dict[str, Any]:
        question = Question(form.person, form.agent, form.server, form.tool, form.arguments, form.draft)
        return await policies.explain(question, time.time())

    @routes.post("/replay")
    async def replay(by: By, form: ReplayForm) -> dict[str, Any]:
        return await policies.replay(by, form.files, form.days, time.time())

    return routes
