"""Answers on their way, and what ends them."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from percall_broker.outbound.streams import OpenStreams, Use

USE = Use("grant", "server")


async def _under_way(streams: OpenStreams, *calls: str) -> None:
    async with asyncio.timeout(60) as scope:
        with streams.hold(USE, scope, calls=calls):
            await asyncio.Event().wait()


def test_an_answer_of_several_calls_ends_with_the_last_of_them() -> None:
    async def story() -> None:
        streams = OpenStreams()
        answer = asyncio.create_task(_under_way(streams, "a", "b"))
        other = asyncio.create_task(_under_way(streams, "c"))
        of_none = asyncio.create_task(_under_way(streams))
        await asyncio.sleep(0)
        streams.settled("a")
        await asyncio.sleep(0)
        assert sorted(streams.calls()) == ["b", "c"]
        streams.settled("b")
        with suppress(TimeoutError):
            await answer
        assert answer.done()
        assert streams.calls() == ("c",)
        assert (other.done(), of_none.done(), len(streams)) == (False, False, 2)
        streams.cut(USE)
        ended = await asyncio.gather(other, of_none, return_exceptions=True)
        assert [type(one) for one in ended] == [TimeoutError, TimeoutError]
        assert not streams.calls()

    asyncio.run(story())
