"""What the administrator's doors share: who asks, and how strictly a form is read."""

from collections.abc import Awaitable, Callable, Mapping

from fastapi import Request
from pydantic import BaseModel, ConfigDict, Field

from percall_broker.model.records import Identity

Administrator = Callable[[Request], Awaitable[Identity]]
"""Says who signed a request, if they may read, or change, what it asks for; or raises."""


class Form(BaseModel):
    """What a request's body may hold: these members, of exactly these types."""

    model_config = ConfigDict(extra="forbid", strict=True)


class ScopeForm(Form):
    """Patterns for what a grant may use of one server."""

    tools: list[str] = Field(default_factory=list)
    prompts: list[str] = Field(default_factory=list)
    resources: list[str] = Field(default_factory=list)


def scopes(servers: Mapping[str, ScopeForm]) -> dict[str, dict[str, list[str]]]:
    """The scopes of a form, as a grant has them."""
    return {name: scope.model_dump() for name, scope in servers.items()}
