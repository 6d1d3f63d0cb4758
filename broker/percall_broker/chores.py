"""What a broker does of its own accord, for its whole life. A chore that fails is named in the log, and begun again."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

import structlog

from percall_broker.telemetry.logs import where

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping

AGAIN_SECONDS = 1.0

log = structlog.get_logger()


@contextlib.asynccontextmanager
async def at_work(chores: Mapping[str, Callable[[], Awaitable[None]]]) -> AsyncIterator[None]:
    """Chores, by name, that run until the block ends."""
    running = [asyncio.create_task(_kept(name, chore)) for name, chore in chores.items()]
    try:
        yield
    finally:
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)


async def _kept(name: str, chore: Callable[[], Awaitable[None]]) -> None:
    """Runs a chore until it returns: then there is nothing to do for it."""
    own = asyncio.current_task()
    while True:
        try:
            await chore()
        # Whatever it is, revocations and the log depend on its going on; also where what it waited for was cancelled.
        except (Exception, asyncio.CancelledError) as error:
            if own is not None and own.cancelling():
                raise
            log.error("a chore failed", chore=name, error=type(error).__name__, where=where(error))  # noqa: TRY400
            await asyncio.sleep(AGAIN_SECONDS)
        else:
            return
