"""What the administrator's doors share: who asks, and how strictly a form is read."""

import re
from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import Annotated, Any

from fastapi import Request
from pydantic import BaseModel, ConfigDict, Field, model_validator

from percall_broker.model.errors import InvalidInput
from percall_broker.model.records import Identity

_NO_TEXT = re.compile("[\0\ud800-\udfff]")
Seconds = Annotated[int, Field(ge=0, lt=2**40)]
"""A duration, or a point in time since the epoch."""
Administrator = Callable[[Request], Awaitable[Identity]]
"""Says who signed a request, if they may read, or change, what it asks for; or raises."""


class Form(BaseModel):
    """What a request's body may hold: these members, of exactly these types."""

    model_config = ConfigDict(extra="forbid", strict=True)

    @model_validator(mode="before")
    @classmethod
    def _refuse_what_is_no_text(cls, form: Any) -> Any:
        """JSON can spell what is no text, and PostgreSQL keeps no NUL. Raises InvalidInput."""
        for text in _texts(form):
            if _NO_TEXT.search(text):
                raise InvalidInput("request.text", "A text of the request holds a NUL or half a character.")
        return form


def _texts(form: Any) -> Iterator[str]:
    """Every name and value of a form, however deep: which depth is too much, its reader says."""
    waiting = [form]
    while waiting:
        value = waiting.pop()
        if isinstance(value, str):
            yield value
        elif isinstance(value, list):
            waiting += value
        elif isinstance(value, dict):
            waiting += [*value, *value.values()]


class ScopeForm(Form):
    """Patterns for what a grant may use of one server."""

    tools: list[str] = Field(default_factory=list)
    prompts: list[str] = Field(default_factory=list)
    resources: list[str] = Field(default_factory=list)


def scopes(servers: Mapping[str, ScopeForm]) -> dict[str, dict[str, list[str]]]:
    """The scopes of a form, as a grant has them."""
    return {name: scope.model_dump() for name, scope in servers.items()}
