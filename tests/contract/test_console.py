"""Passkeys and the console's sessions on both engines: what is removed meanwhile lets nobody in."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import TYPE_CHECKING

import psycopg
import pytest

from harness.composing import composed
from harness.passkeys import Passkey
from harness.processes import wait_for
from percall_broker.model.errors import Conflict, Unauthenticated
from percall_broker.model.records import Identity
from percall_broker.pipeline.administration.grants import NewGrant
from percall_broker.store import Statement

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable
    from pathlib import Path

    from percall_broker.compose import Broker
    from percall_broker.model.records import Grant
    from percall_broker.pipeline.console.presence import Change
    from percall_broker.pipeline.console.sessions import Session
    from percall_broker.store.protocol import Row

pytestmark = pytest.mark.anyio
on_postgresql = pytest.mark.parametrize("location", ["postgresql"], indirect=True)
"""Where two transactions run at once. SQLite has one writer."""


@pytest.fixture
async def broker(location: str, tmp_path: Path) -> AsyncIterator[Broker]:
    async with composed(tmp_path, location) as broker:
        yield broker


async def administrator(broker: Broker, name: str) -> Grant:
    made = await broker.administration.grants.create(None, NewGrant(name, {}, administrator=True))
    grant = await broker.lookup.grant(made.grant)
    assert grant is not None
    return grant


async def enrolment(broker: Broker, grant: Grant) -> tuple[Session, Change, Row]:
    """A session that may enrol a passkey, and the passkey that a browser has made for it."""
    console, now = broker.console, time.time()
    code, _ = await console.sessions.link(Identity(grant, "link"), enrol=True)
    session = await console.sessions.of((await console.sessions.open_by_link(code, now)).token, now)
    change = console.presence.new("passkey.enrol", "", "", {"name": "a key"}, now)
    challenge = (await console.presence.asking_new(change, session))["challenge"]
    return session, change, Passkey(console.presence.origin.url).create(challenge)


async def enrolled(broker: Broker, grant: Grant) -> str:
    """A passkey's id."""
    session, change, credential = await enrolment(broker, grant)
    await broker.console.presence.enrol(change, session, credential, time.time())
    return str(credential["id"])


async def in_the_midst_of(location: str, table: str, first: Awaitable[object], second: Awaitable[object]) -> object:
    """What came of `second`, which began when `first` had done all but to write to that table."""

    def waiting() -> int:
        with psycopg.connect(location) as looking:
            asked = "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
            return len(looking.execute(asked).fetchall())

    async with contextlib.AsyncExitStack() as held:
        connection = await held.enter_async_context(await psycopg.AsyncConnection.connect(location))
        await connection.execute(f"LOCK TABLE {table} IN SHARE MODE".encode())
        one = asyncio.ensure_future(first)
        await asyncio.to_thread(wait_for, lambda: waiting() == 1, "the first is in the midst of it")
        other = asyncio.ensure_future(second)
        await asyncio.to_thread(wait_for, lambda: other.done() or waiting() > 1, "the second is done, or waits")
    await one
    (result,) = await asyncio.gather(other, return_exceptions=True)
    return result


@on_postgresql
async def test_who_is_being_removed_enrols_no_passkey(broker: Broker, location: str) -> None:
    ada = await administrator(broker, "ada")
    session, change, credential = await enrolment(broker, await administrator(broker, "bob"))
    removal = broker.administration.people.remove(Identity(ada, "removal"), "bob")
    enrolling = broker.console.presence.enrol(change, session, credential, time.time())
    assert isinstance(await in_the_midst_of(location, "freezes", removal, enrolling), Conflict)
    assert await broker.console.presence.listed("bob") == []


async def test_a_session_of_before_the_removal_enrols_no_passkey_for_who_has_the_name_next(broker: Broker) -> None:
    ada = await administrator(broker, "ada")
    session, change, credential = await enrolment(broker, await administrator(broker, "bob"))
    await broker.administration.people.remove(Identity(ada, "removal"), "bob")
    await administrator(broker, "bob")
    with pytest.raises(Conflict):
        await broker.console.presence.enrol(change, session, credential, time.time())
    assert await broker.console.presence.listed("bob") == []


async def test_whoever_has_a_name_next_has_none_of_its_passkeys(broker: Broker) -> None:
    ada = await administrator(broker, "ada")
    await administrator(broker, "bob")
    await broker.administration.people.remove(Identity(ada, "removal"), "bob")
    left = {"id": "left", "person": "bob", "name": "of an older version", "public_key": "k", "now": 1}
    await broker.store.transact(Statement("add_passkey", left))
    await broker.administration.people.invite(Identity(ada, "invite"), "bob")
    assert await broker.console.presence.listed("bob") == []

    kept = await enrolled(broker, await administrator(broker, "bob"))
    await broker.administration.people.invite(Identity(ada, "again"), "bob")
    assert [row["passkey"] for row in await broker.console.presence.listed("bob")] == [kept], "who is here keeps theirs"


@on_postgresql
async def test_a_passkey_that_is_being_forgotten_opens_no_session(broker: Broker, location: str) -> None:
    ada = await administrator(broker, "ada")
    key = await enrolled(broker, ada)
    removal = broker.console.presence.remove(Identity(ada, "removal"), key)
    opening = broker.console.sessions.open(ada.id, "passkey", time.time(), passkey=key)
    assert isinstance(await in_the_midst_of(location, "log", removal, opening), Unauthenticated)


async def test_a_passkey_that_was_forgotten_since_it_signed_opens_no_session(broker: Broker) -> None:
    ada = await administrator(broker, "ada")
    key = await enrolled(broker, ada)
    await broker.console.presence.remove(Identity(ada, "removal"), key)
    with pytest.raises(Unauthenticated):
        await broker.console.sessions.open(ada.id, "passkey", time.time(), passkey=key)


async def test_a_session_ends_with_the_passkey_that_opened_it(broker: Broker) -> None:
    ada = await administrator(broker, "ada")
    key = await enrolled(broker, ada)
    sessions, now = broker.console.sessions, time.time()
    opened = await sessions.open(ada.id, "passkey", now, passkey=key)
    assert (await sessions.of(opened.token, now)).how == "passkey"
    await broker.console.presence.remove(Identity(ada, "removal"), key)
    with pytest.raises(Unauthenticated):
        await sessions.of(opened.token, now)
