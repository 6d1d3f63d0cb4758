"""How often a passphrase may be guessed, by whom, and until when."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from harness.signing import presence_signer
from percall import wire
from percall_broker.crypto.proofs import digest
from percall_broker.model.errors import Forbidden
from percall_broker.stages.authenticate import SignedRequest
from percall_broker.stages.presence import MOST_WRONG, WRONG_SECONDS, Presence, setting
from percall_broker.store import Statement, migrate, open_store

if TYPE_CHECKING:
    from pathlib import Path

    from percall.identity.presence import PresenceSigner

URL = "https://broker.example"
NOW = 1_800_000_000.0
RIGHT, GUESS = presence_signer("a passphrase of some length"), presence_signer("a guess")


def signed(signer: PresenceSigner) -> SignedRequest:
    text = wire.presence_text("POST", f"{URL}/v1/x", digest(b"body"), "jti")
    return SignedRequest("POST", "/v1/x", digest(b"body"), str(wire.VERSION), "", "", signer.sign(text))


def test_a_guesser_waits_until_the_first_wrong_guess_is_long_ago_and_nobody_waits_for_another(tmp_path: Path) -> None:
    async def guessing() -> None:
        await migrate(tmp_path / "store")
        store = await open_store(tmp_path / "store")
        await store.transact(
            Statement("add_person", {"name": "alice", "created_at": 0}), setting("alice", RIGHT.key, NOW)
        )
        presence = Presence(store, URL)

        async def told(signer: PresenceSigner, seconds: int, guesser: str = "key") -> str:
            try:
                return await presence.require("alice", signed(signer), "jti", NOW + seconds, guesser=guesser)
            except Forbidden as refused:
                return refused.code

        assert [await told(GUESS, second) for second in range(MOST_WRONG)] == ["presence.wrong"] * MOST_WRONG
        assert await told(RIGHT, WRONG_SECONDS - 1) == "presence.wait"
        assert await told(RIGHT, WRONG_SECONDS - 1, guesser="another key") == RIGHT.key.public_key
        assert await told(GUESS, WRONG_SECONDS) == "presence.wrong", "the first is forgotten"
        assert await told(RIGHT, WRONG_SECONDS) == "presence.wait", "which makes as many again"
        assert await told(RIGHT, WRONG_SECONDS + 1) == RIGHT.key.public_key
        assert [await told(GUESS, WRONG_SECONDS + 1) for _ in range(MOST_WRONG)] == ["presence.wrong"] * MOST_WRONG, (
            "the right one forgives"
        )
        await store.close()

    asyncio.run(guessing())


def test_a_passphrase_is_set_once(tmp_path: Path) -> None:
    async def story() -> None:
        await migrate(tmp_path / "store")
        store = await open_store(tmp_path / "store")
        await store.transact(Statement("add_person", {"name": "alice", "created_at": 0}))
        assert await store.transact(setting("alice", RIGHT.key, NOW)) is not None
        assert await store.transact(setting("alice", GUESS.key, NOW)) is None
        await store.close()

    asyncio.run(story())
