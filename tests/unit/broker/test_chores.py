"""What a broker does of its own accord goes on."""

from __future__ import annotations

import asyncio

import pytest

from percall_broker import chores


@pytest.mark.parametrize("failure", [BrokenPipeError, asyncio.CancelledError])
def test_a_chore_that_fails_is_begun_again(failure: type[BaseException]) -> None:
    """Also where something that it waited for was cancelled, and not the chore."""
    begun = []

    async def work() -> None:
        goes_on = asyncio.Event()

        async def failing() -> None:
            begun.append(1)
            if len(begun) == 1:
                raise failure
            goes_on.set()
            await asyncio.Event().wait()

        async with asyncio.timeout(5), chores.at_work({"failing": failing}):
            await goes_on.wait()

    asyncio.run(work())
    assert len(begun) == 2


def test_a_chore_that_has_nothing_to_do_is_left_and_others_end_with_the_broker() -> None:
    begun = []
    ended = []

    async def work() -> None:
        both = asyncio.Event()

        async def idle() -> None:
            begun.append("idle")

        async def busy() -> None:
            begun.append("busy")
            both.set()
            try:
                await asyncio.Event().wait()
            finally:
                ended.append("busy")

        async with asyncio.timeout(5), chores.at_work({"idle": idle, "busy": busy}):
            await both.wait()

    asyncio.run(work())
    assert begun == ["idle", "busy"]
    assert ended == ["busy"]
