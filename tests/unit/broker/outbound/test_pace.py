"""However much comes, everything else has its turn."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from percall_broker.model.rules import parse_url
from percall_broker.outbound.network import READ_BYTES
from percall_broker.outbound.pace import TURN_BYTES, Pace
from percall_broker.outbound.upstream import Upstream
from unit.broker.outbound.test_upstream import HOST, USE, Scripted, listening, nothing

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

PIECE_BYTES = 16 * 1024
READERS = 20
LARGE = 4 * 1024 * 1024


def most_in_a_turn(reading: Callable[[Callable[[int], None]], Awaitable[object]]) -> int:
    """The most that was `seen` in one turn of the loop while it was read."""
    spent = most = 0

    def seen(size: int) -> None:
        nonlocal spent
        spent += size

    async def run() -> None:
        loop = asyncio.get_running_loop()

        def tick() -> None:
            nonlocal spent, most
            most, spent = max(most, spent), 0
            loop.call_soon(tick)

        tick()
        async with asyncio.timeout(30):
            await reading(seen)

    asyncio.run(run())
    return most


def test_little_of_all_readers_together_is_looked_at_between_two_looks_at_everything_else() -> None:
    pace = Pace()

    async def reader(seen: Callable[[int], None]) -> None:
        for _ in range(50):
            await pace.turn(PIECE_BYTES)
            seen(PIECE_BYTES)

    most = most_in_a_turn(lambda seen: asyncio.gather(*(reader(seen) for _ in range(READERS))))
    assert most == TURN_BYTES


def test_readers_take_turns_and_none_is_left_behind() -> None:
    pace, had = Pace(), dict.fromkeys(range(READERS), 0)
    apart = 0

    async def reader(number: int) -> None:
        nonlocal apart
        for _ in range(50):
            await pace.turn(PIECE_BYTES)
            had[number] += 1
            apart = max(apart, had[number] - min(had.values()))

    async def run() -> None:
        await asyncio.gather(*(reader(number) for number in range(READERS)))

    asyncio.run(run())
    assert set(had.values()) == {50}
    assert apart <= TURN_BYTES // PIECE_BYTES + 1, "what the first had while it was alone, and the place behind it"


def test_who_is_cut_off_while_it_waits_holds_up_nobody() -> None:
    async def run() -> None:
        pace = Pace()
        await pace.turn(TURN_BYTES)
        waiting = [asyncio.create_task(pace.turn(TURN_BYTES)) for _ in range(READERS)]
        await asyncio.sleep(0)
        cut, others = [*waiting[1:6], waiting[-1]], [waiting[0], *waiting[6:-1]]
        for one in cut:
            one.cancel()
        async with asyncio.timeout(10):
            await asyncio.gather(*others, pace.turn(1))
        assert all(one.cancelled() for one in cut)

    asyncio.run(run())


def test_answers_that_come_at_once_are_read_at_that_pace() -> None:
    scripted = Scripted(*[b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (LARGE, bytes(LARGE))] * 8, end=True)

    async def reading(seen: Callable[[int], None]) -> None:
        async with listening(scripted) as port:
            upstream = Upstream()

            async def fetch() -> None:
                url = parse_url(f"http://127.0.0.1:{port}/x")
                async with upstream.send("GET", url, HOST, nothing(), {}, use=USE) as answer:
                    async for piece in answer.body:
                        seen(len(piece))

            await asyncio.gather(*(fetch() for _ in range(8)))
            await upstream.close()

    assert 0 < most_in_a_turn(reading) < TURN_BYTES + READ_BYTES
