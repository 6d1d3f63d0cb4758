"""A laptop with a real home, a real passphrase-encrypted keyring, and a broker that only authorises."""

from __future__ import annotations

import os
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from harness.processes import Client
from harness.sealing import sealed
from percall import home, wire
from percall.identity import Identity, item
from unit.shim.run.small_broker import SmallBroker

if TYPE_CHECKING:
    from collections.abc import Iterator

SERVER = Path(__file__).with_name("server.py")
SEED = bytes(range(32))


class Laptop:
    def __init__(self, folder: Path, broker: SmallBroker, ca_file: str = "") -> None:
        self.broker = broker
        self.environment = {
            "PERCALL_HOME": str(folder / "home"),
            "HOME": str(folder),
            "PATH": "/usr/bin:/bin",
            "SECRET_OF_THE_CLIENT": "canary",
        }
        passphrase = folder / "passphrase"
        passphrase.write_text("a passphrase that is long enough\n")
        passphrase.chmod(0o600)
        self.entry = wire.ServerEntry(
            name="child", version=1, delivery="none", label="no key", command=(sys.executable, str(SERVER))
        )
        granted = wire.GrantedServer(self.entry, tools=("echo", "get_*"))
        self.session = wire.Session("g1", "alice", "default", "laptop", "active", 0, False, 1, (granted,))
        self.login = home.Login(
            "g1",
            broker.url,
            "default",
            "alice",
            "laptop",
            "file",
            time.time_ns(),
            passphrase_file=str(passphrase),
            ca_file=ca_file,
        )
        home.save_login(self.login)
        self.cache(self.session)
        sealed("g1", item(Identity(SEED, "token-of-g1")), b"a passphrase that is long enough")

    def cache(self, session: wire.Session) -> None:
        self.session = session
        home.save_session(session)
        for granted in session.servers:
            home.save_trust(self.broker.url, granted.entry, os.environ["PATH"])

    def with_entry(self, **changes: Any) -> None:
        self.entry = replace(self.entry, **changes)
        self.cache(replace(self.session, servers=(replace(self.session.servers[0], entry=self.entry),)))

    def in_state(self, state: str) -> dict[str, object]:
        return wire.encode(replace(self.session, state=state))

    def client(self, *arguments: str) -> Client:
        return Client([sys.executable, "-m", "percall", "run", *(arguments or ("child",))], self.environment)


@pytest.fixture
def broker() -> Iterator[SmallBroker]:
    started = SmallBroker()
    yield started
    started.close()


@pytest.fixture
def laptop(tmp_path: Path, broker: SmallBroker, monkeypatch: pytest.MonkeyPatch) -> Laptop:
    monkeypatch.setenv("PERCALL_HOME", str(tmp_path / "home"))
    return Laptop(tmp_path, broker)
