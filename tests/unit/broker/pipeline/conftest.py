"""A store with one permitted call, for what is recorded of how it ends."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from percall_broker.model.entry import Entry
from percall_broker.model.keys import NO_KEY
from percall_broker.model.records import Decision, Grant, Identity, Scope, Server
from percall_broker.stages.frame import Frame
from percall_broker.stages.record import Recorder
from percall_broker.store import Statement, Store, migrate, open_store

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

NOW = 1_800_000_000.0
ENTRY = Entry("A server", "none", ("true",), deadline_seconds=60)
SERVER = Server("plain", 1, ENTRY, "active", 0)
GRANT = Grant("g", "alice", "default", "thumb", "laptop", False, {"plain": Scope(("*",))}, "active", 2, 0, 0, "admin")
CALL = "c" * 22


async def with_call(folder: Path, story: Callable[[Store], Awaitable[None]]) -> None:
    await migrate(folder / "store")
    store = await open_store(folder / "store")
    try:
        done = await store.transact(
            Statement("add_person", {"name": "alice", "created_at": 0}),
            Statement("add_device", {"id": "d", "person": "alice", "name": "laptop", "created_at": 0}),
            Statement("add_device_key", {"thumbprint": "thumb", "person": "alice", "device": "d", "created_at": 0}),
            Statement("add_server", {"name": "plain", "entry": "{}", "secret_version": 0, "created_at": 0}),
            Statement(
                "add_grant",
                {
                    "id": "g",
                    "person": "alice",
                    "agent": "default",
                    "administrator": 0,
                    "automation": 0,
                    "may": "",
                    "scope": "{}",
                    "expires_at": 0,
                    "created_at": 0,
                    "created_by": "admin",
                    "claimable": 0,
                },
            ),
            Statement("bind_grant", {"id": "g", "device": "thumb", "agent": "default"}),
        )
        assert done is not None
        frame = Frame("tools/call", "tool", ("get_a",), "digest", b"{}")
        recorder = Recorder(store, lambda _call, arguments: b"sealed" + arguments)
        permit = Decision(permitted=True, code="grant.tool", message="")
        assert await recorder.intent(Identity(GRANT, CALL), SERVER, frame, permit, NO_KEY, "test", NOW)
        assert not await recorder.intent(Identity(GRANT, CALL), SERVER, frame, permit, NO_KEY, "test", NOW)
        await story(store)
    finally:
        await store.close()


async def outcomes(store: Store) -> list[Any]:
    entries = [json.loads(row["entry"]) for row in await store.fetch("show_call", call=CALL)]
    return [(entry["outcome"], entry["reason"]) for entry in entries if entry["kind"] == "outcome"]
