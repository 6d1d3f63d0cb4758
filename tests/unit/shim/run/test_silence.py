"""A broker that hangs, or a way to it that swallows all: how long a remote server's answer is waited for."""

from __future__ import annotations

import socket
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from harness.bridged import Laptop
from percall import wire
from percall.http1 import Address
from percall.run import connection, door
from percall.run.connection import Exchange, Pool
from percall.run.loop import Loop

if TYPE_CHECKING:
    from percall.errors import PercallError

OPENING = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "c", "version": "1"}}
LATE = door._LATE_SECONDS


def patience(laptop: Laptop, method: str) -> float | None:
    return laptop.sent(method).exchange.patience


@pytest.fixture
def laptop() -> Laptop:
    laptop = Laptop(deadline_seconds=20)
    laptop.says("initialize", OPENING, id="open")
    assert patience(laptop, "initialize") == 20 + LATE
    opened = {"jsonrpc": "2.0", "id": "open", "result": {"protocolVersion": "2025-11-25"}}
    laptop.sent("initialize").answer(opened, mcp_session_id="one")
    laptop.says("notifications/initialized")
    assert patience(laptop, "notifications/initialized") == 20 + LATE
    laptop.sent("notifications/initialized").status(202)
    return laptop


def test_a_call_is_waited_for_until_its_deadline_has_long_passed(laptop: Laptop) -> None:
    laptop.says("tools/call", {"name": "make", "arguments": {}}, id="one")
    assert patience(laptop, "tools/call") == 20 + LATE
    laptop.sent("tools/call").cut()
    (told,) = [frame for frame in laptop.client.frames() if frame.get("id") == "one"]
    assert "[call.unknown]" in str(told)


def test_a_stream_that_has_no_deadline_is_waited_for_without_end(laptop: Laptop) -> None:
    laptop.says("subscriptions/listen", id="listen")
    assert patience(laptop, "subscriptions/listen") == float("inf")
    assert patience(laptop, "GET") == float("inf")


def test_an_entry_that_changes_counts_from_the_next_request_on(laptop: Laptop) -> None:
    for deadline, waited in ((60, 60 + LATE), (0, float("inf"))):
        entry = wire.ServerEntry("far", 2, "relay", "", deadline_seconds=deadline)
        laptop.bridge.granted(wire.GrantedServer(entry, tools=("*",)))
        laptop.says("tools/call", {"name": "make", "arguments": {}}, id=deadline)
        assert patience(laptop, "tools/call") == waited
        laptop.sent("tools/call").cut()


def test_an_answer_is_not_missed_while_the_client_is_behind_and_nobody_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "_SWEEP_SECONDS", 0.01)
    loop = Loop()
    failures: list[PercallError] = []
    was_paused: list[bool] = []

    def failed(error: PercallError) -> None:
        failures.append(error)
        was_paused.append(pool.is_paused)
        loop.stop()

    with closing(socket.create_server(("127.0.0.1", 0))) as hanging:
        pool = Pool(loop, Address.parse(f"http://127.0.0.1:{hanging.getsockname()[1]}"), None)
        exchange = Exchange(
            b"POST / HTTP/1.1\r\n\r\n",
            lambda *_: None,
            failed,
            lambda _: None,
            ended=lambda: None,
            patience=0.1,
        )
        pool.pause()
        loop.later(0.0, lambda: pool.send(exchange))
        loop.later(0.5, pool.resume)
        loop.later(20.0, loop.stop)
        loop.run()
        pool.close()
    assert [error.code for error in failures] == ["broker.silent"]
    assert was_paused == [False]
