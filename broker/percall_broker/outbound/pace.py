"""How much of all answers together is looked at in one turn of the event loop, so that everything else has its turn.

A download, or a remote server's stream, comes as fast as it is looked at, and costs a few milliseconds a megabyte. A
call takes some twenty turns; where each of a hundred streams had its piece in every turn, it waited for seconds.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

TURN_BYTES = 64 * 1024


class Pace:
    """Hands out turns, in the order in which they were asked for. Of one event loop."""

    def __init__(self) -> None:
        self._spent = 0
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    async def turn(self, size: int) -> None:
        """Waits until this turn of the loop has room for a piece of this size. One is handed out however long it is."""
        loop = asyncio.get_running_loop()
        if self._spent == 0:
            loop.call_soon(self._next)
        if self._spent < TURN_BYTES and not self._waiting:
            self._spent += size
            return
        future = loop.create_future()
        self._waiting.append((size, future))
        await future

    def _next(self) -> None:
        self._spent = 0
        while self._waiting and self._spent < TURN_BYTES:
            size, future = self._waiting.popleft()
            if not future.done():  # whoever asked may have been cut off
                future.set_result(None)
                self._spent += size
        if self._spent:
            asyncio.get_running_loop().call_soon(self._next)


class Paced:
    """The pieces of an answer, each in its turn."""

    def __init__(self, pieces: AsyncIterator[bytes], pace: Pace) -> None:
        self._pieces = pieces
        self._pace = pace

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        piece = await anext(self._pieces)
        await self._pace.turn(len(piece))
        return piece
