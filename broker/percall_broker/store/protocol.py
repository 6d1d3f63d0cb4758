"""What the broker asks of a store. Both engines keep it, and one contract suite holds them to it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from percall_broker.model.errors import InvalidInput

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

Row = dict[str, Any]
Results = list[list[Row]]
"""The rows that each of some statements returned, in their order."""


@dataclass(frozen=True, slots=True)
class Statement:
    """A named statement of `queries/*.sql` with its parameters.

    `required`: in a `transact`, no row returned means that the whole transaction is undone.
    """

    name: str
    parameters: dict[str, Any] = field(default_factory=dict)
    required: bool = False


class Store(Protocol):
    """Named statements over one of the engines. Every method raises model.errors.Unavailable when the store cannot."""

    async def fetch(self, name: str, /, **parameters: Any) -> list[Row]:
        """The rows of a reading statement."""

    def append(self, *statements: Statement) -> asyncio.Future[Results]:
        """Writes that are on their way when this returns, and durable when it is awaited; each one's RETURNING rows.

        The hot path: all appends of one turn of the event loop share one commit. A statement that finds its condition
        unmet returns no row, and harms neither its neighbours nor the group.
        """

    async def transact(self, *statements: Statement) -> Results | None:
        """All of them or none, durable when this returns; None when a required statement returned no row."""

    async def listen(self, told: Callable[[], None]) -> None:
        """Calls back soon after each `advance_epoch`, of whatever replica, for as long as the store lives.

        What was missed while a connection was away is not told: look now and then. Returns at once where the engine
        has nothing to tell, since one process alone serves the store.
        """

    async def close(self) -> None:
        """Ends what is under way and lets go of the database."""


def unstorable() -> InvalidInput:
    """What is said of a value that not every engine keeps."""
    return InvalidInput("store.value", "A value holds half a character, a NUL, or a number beyond 64 bits.")
