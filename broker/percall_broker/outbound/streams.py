"""The answers that are on their way to laptops, by their use: a revocation or a freeze cuts them at once.

So does the outcome of the call that they belong to, or of the last one.
"""

from __future__ import annotations

import asyncio
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from percall_broker.model.keys import key_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from percall_broker.model.records import Grant, Server


MAX_OPEN = 256
"""How much may be under way for one use, at either door: a quarter of what all requests of children may."""


class StreamCut(Exception):  # noqa: N818 - what happened to the stream
    """The grant, the server or the key of an open stream was revoked, suspended, frozen or removed; or its window
    closed.
    """


class Use(NamedTuple):
    """A grant, the server that it uses, and whose own key it uses there: empty for the shared one, or none."""

    grant: str
    server: str
    owner: str = ""

    @classmethod
    def of(cls, grant: Grant, server: Server) -> Self:
        """What a grant's requests to a server are a use of now."""
        return cls(grant.id, server.name, key_of(grant, server).owner)


@dataclass(slots=True)
class Leaving:
    """Whether the client has gone away."""

    has_left: bool = False


class OpenStreams:
    """Which grants have requests under way, at which servers. `is_ending`: the broker is. One event loop."""

    def __init__(self) -> None:
        self._open: dict[Use, set[asyncio.Timeout]] = {}
        self._calls: dict[asyncio.Timeout, set[str]] = {}
        self._endless: set[asyncio.Timeout] = set()
        self.is_ending = False

    def uses(self) -> tuple[Use, ...]:
        """What has something under way."""
        return tuple(self._open)

    def calls(self) -> tuple[str, ...]:
        """The calls that have something under way."""
        return tuple({call for calls in self._calls.values() for call in calls})

    def settled(self, call: str) -> None:
        """A call has been answered: what belongs to no other call any more ends."""
        for scope, calls in tuple(self._calls.items()):
            calls.discard(call)
            if not calls:
                del self._calls[scope]
                end_now(scope)

    def __len__(self) -> int:
        return sum(map(len, self._open.values()))

    def count(self, use: Use) -> int:
        """How much is under way for a use."""
        return len(self._open.get(use, ()))

    def close(self) -> None:
        """The broker ends: what would never end by itself ends now, the rest may finish."""
        self.is_ending = True
        for scope in self._endless:
            end_now(scope)

    def end(self) -> None:
        """What has not finished by now ends too."""
        for use in self.uses():
            self.cut(use)

    def cut(self, use: Use) -> None:
        """Ends all that is under way for a use."""
        for scope in self._open.pop(use, ()):
            end_now(scope)

    @contextmanager
    def hold(
        self, use: Use, scope: asyncio.Timeout, *, calls: tuple[str, ...] = (), endless: bool = False
    ) -> Iterator[None]:
        """Lists an entered scope while the block runs: a cut makes it time out.

        Where it belongs to calls, it ends with the last of them. Raises StreamCut for an endless one of a broker that
        is ending.
        """
        if endless and self.is_ending:
            raise StreamCut
        scopes = self._open.setdefault(use, set())
        scopes.add(scope)
        if calls:
            self._calls[scope] = set(calls)
        if endless:
            self._endless.add(scope)
        try:
            yield
        finally:
            scopes.discard(scope)
            self._calls.pop(scope, None)
            self._endless.discard(scope)
            if not scopes and self._open.get(use) is scopes:
                del self._open[use]


@contextmanager
def ended_by_leaving(receive: Callable[[], Awaitable[dict[str, Any]]], scope: asyncio.Timeout) -> Iterator[Leaving]:
    """Ends the block when the client goes away: the server would take what we send for it and say nothing."""
    leaving = Leaving()

    async def watch() -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        leaving.has_left = True
        end_now(scope)

    task = asyncio.create_task(watch())
    try:
        yield leaving
    finally:
        task.cancel()


def end_now(scope: asyncio.Timeout) -> None:
    """Makes a scope time out at the next turn of the loop, unless it is over."""
    try:
        scope.reschedule(asyncio.get_running_loop().time())
    except RuntimeError:
        return  # it is over, or timing out already
