"""Links and sessions by the clock: minutes, half an hour without use, twelve hours."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import pytest

from harness.composing import composed
from percall_broker.model.errors import Unauthenticated
from percall_broker.model.records import Identity
from percall_broker.pipeline.administration.grants import NewGrant
from percall_broker.pipeline.console import origin_of
from percall_broker.pipeline.console.sessions import (
    ENROL_SECONDS,
    IDLE_SECONDS,
    LINK_SECONDS,
    LONGEST_SECONDS,
    ConsoleSessions,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from percall_broker.compose import Broker


def told(folder: Path, story: Callable[[Broker, Identity], Awaitable[None]]) -> None:
    """With a broker of its own, and an administrator who has signed a request."""

    async def run() -> None:
        async with composed(folder) as broker:
            made = await broker.administration.grants.create(None, NewGrant("ada", {}, administrator=True))
            grant = await broker.lookup.grant(made.grant)
            assert grant is not None
            await story(broker, Identity(grant, "a proof's id"))

    asyncio.run(run())


async def refused(sessions: ConsoleSessions, token: str, now: float) -> str:
    with pytest.raises(Unauthenticated) as error:
        await sessions.of(token, now)
    return error.value.code


def test_a_session_ends_when_it_is_idle_and_lasts_half_a_day_at_most(tmp_path: Path) -> None:
    async def story(broker: Broker, by: Identity) -> None:
        sessions, now = broker.console.sessions, time.time()
        opened = await sessions.open(by.grant.id, "link", now)
        while now < time.time() + LONGEST_SECONDS - IDLE_SECONDS:
            now += IDLE_SECONDS - 2
            assert (await sessions.of(opened.token, now)).person == "ada"
        assert await refused(sessions, opened.token, time.time() + LONGEST_SECONDS + 1) == "console.session"

        now = time.time()
        idle = await sessions.open(by.grant.id, "link", now)
        await sessions.of(idle.token, now + IDLE_SECONDS - 2, touch=False)  # what looks by itself is nobody's use
        assert await refused(sessions, idle.token, now + IDLE_SECONDS + 1) == "console.session"

    told(tmp_path, story)


def test_a_link_works_for_minutes_and_a_passkey_may_be_made_for_a_few_more(tmp_path: Path) -> None:
    async def story(broker: Broker, by: Identity) -> None:
        sessions, now = broker.console.sessions, time.time()
        code, expires_at = await sessions.link(by, enrol=True)
        assert now < expires_at <= now + LINK_SECONDS + 1
        with pytest.raises(Unauthenticated):
            await sessions.open_by_link(code, expires_at)
        opened = await sessions.open_by_link(code, expires_at - 1)
        assert opened.may_enrol
        assert (await sessions.of(opened.token, expires_at)).may_enrol
        assert not (await sessions.of(opened.token, expires_at + ENROL_SECONDS)).may_enrol

    told(tmp_path, story)


def test_neither_a_code_nor_a_token_is_in_the_store(tmp_path: Path) -> None:
    async def story(broker: Broker, by: Identity) -> None:
        code, _ = await broker.console.sessions.link(by, enrol=False)
        token = (await broker.console.sessions.open_by_link(code, time.time())).token
        kept = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
        assert code.encode() not in kept
        assert token.encode() not in kept

    told(tmp_path, story)


@pytest.mark.parametrize(
    ("public_url", "origin"),
    [
        ("https://percall.example.com", "https://percall.example.com"),
        ("http://127.0.0.1:8765", "http://localhost:8765"),
        ("http://[::1]:8765", "http://localhost:8765"),
        ("https://10.0.0.7:8765", "https://10.0.0.7:8765"),
        ("http://localhost:8765", "http://localhost:8765"),
    ],
)
def test_the_console_is_at_the_public_url_and_on_loopback_under_a_name(public_url: str, origin: str) -> None:
    assert origin_of(public_url) == origin
