"""A new key-encryption key for ten thousand secrets, by the command, while real calls use some of them."""

from __future__ import annotations

import asyncio
import subprocess
from typing import TYPE_CHECKING

import pytest

from harness.processes import COMMANDS, keyed_entry
from harness.upstream import CANARY, Upstream
from integration.conftest import Served
from percall import wire
from percall_broker.store import open_store
from percall_broker.vault import Vault
from percall_broker.vault.sources.folder import KeyFolder

if TYPE_CHECKING:
    from pathlib import Path

    from harness.signing import SigningLaptop

SECRETS = 10_000
TOGETHER = 500


async def fill(location: str, keys: Path) -> None:
    store = await open_store(location)
    vault = Vault(store, KeyFolder(keys))
    for first in range(0, SECRETS, TOGETHER):
        sealing = [await vault.sealing(f"many{number}", 1, b"a key") for number in range(first, first + TOGETHER)]
        assert await store.transact(*sealing) is not None
    await vault.close()
    await store.close()


async def wrapped_by(location: str) -> list[str]:
    store = await open_store(location)
    rows = await store.fetch("key_encryption_keys_in_use")
    await store.close()
    return [row["key_encryption_key"] for row in rows]


def call_once(laptop: SigningLaptop, upstream: Upstream) -> None:
    """A call, and an API request in its window that carries the key."""
    decided = laptop.call("keyed", "get_item")
    assert decided["decision"] == "permit", decided
    answer = laptop.request("keyed", f"{upstream.url}/items/1", wire.Window(decided["call"], decided["credential"]))
    assert answer.status == 200, answer.body
    assert laptop.settle(decided["call"]).status == 204


@pytest.mark.timeout(300)
def test_ten_thousand_secrets_are_wrapped_anew_while_calls_run_and_none_fails(
    upstream: Upstream, tmp_path: Path
) -> None:
    # Nothing is kept, so that each request asks for its data key under whatever wraps it by then. The embedded store:
    # the one where two processes that write wait for one another.
    with Served(tmp_path, settings={"data_keys_kept_seconds": "0"}) as served:
        place = str(tmp_path / "broker" / "store.sqlite3")
        asyncio.run(fill(place, tmp_path / "broker" / "keys"))
        served.add_server("keyed", keyed_entry(upstream.url), CANARY)
        laptop, _ = served.enrol()
        call_once(laptop, upstream)
        assert asyncio.run(wrapped_by(place)) == ["kek-0001"]
        rotating = subprocess.Popen(
            [str(COMMANDS / "percall-broker"), "key", "rotate"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=served.environment,
        )
        calls = 0
        while rotating.poll() is None:
            call_once(laptop, upstream)
            calls += 1
        said, error = rotating.communicate()
        assert rotating.returncode == 0, error
        assert b"Keep for the backups made until now, which need it: kek-0001" in said
        assert int(said.split(b" wraps ")[1].split()[0]) > SECRETS
        assert calls > 20
        assert asyncio.run(wrapped_by(place)) == ["kek-0002"]
        call_once(laptop, upstream)
