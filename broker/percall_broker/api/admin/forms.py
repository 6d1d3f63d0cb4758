"""What the administrator's doors share: who asks, and how strictly a form is read."""

from collections.abc import Awaitable, Callable

from fastapi import Request
from pydantic import BaseModel, ConfigDict

from percall_broker.model.records import Identity

Administrator = Callable[[Request], Awaitable[Identity]]
"""Says who signed a request, if they may read, or change, what it asks for; or raises."""


class Form(BaseModel):
    """What a request's body may hold: these members, of exactly these types."""

    model_config = ConfigDict(extra="forbid", strict=True)
