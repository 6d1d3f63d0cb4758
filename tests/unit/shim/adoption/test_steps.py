"""The steps of one adoption, and what is left of it wherever they end."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from harness.sealing import sealed
from percall import home, wire
from percall.adoption import config_file, records, steps, undoing
from percall.adoption.plan import Move
from percall.clients import servers
from percall.clients.catalogue import client
from percall.errors import UsageError
from percall.identity import Identity, item

if TYPE_CHECKING:
    from pathlib import Path

SEED = bytes(range(32))
CONFIG = """{
  // written by hand
  "mcpServers": {
    "github": {
      "command": "npx",
      "args": ["github-server"], // pinned one day
      "env": {"GITHUB_TOKEN": "ghp_pasted"}
    }
  }
}
"""


@pytest.fixture
def login(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> home.Login:
    monkeypatch.setenv("PERCALL_HOME", str(tmp_path / "home"))
    passphrase = tmp_path / "passphrase"
    passphrase.write_text("a passphrase that is long enough\n")
    passphrase.chmod(0o600)
    login = home.Login(
        "g1", "http://127.0.0.1:1", "default", "alice", "laptop", "file", 1, passphrase_file=str(passphrase)
    )
    home.save_login(login)
    sealed("g1", item(Identity(SEED, "token-of-g1")), b"a passphrase that is long enough")
    return login


def begun(login: home.Login, path: Path) -> tuple[Move, records.Adoption]:
    """An adoption whose key is at the broker: what is left is the new entry in the config."""
    cursor = client("cursor")
    assert cursor is not None
    path.write_text(CONFIG)
    (configured,) = servers.in_file(cursor, path)
    granted = wire.GrantedServer(
        wire.ServerEntry(name="github", version=1, delivery="egress", label="key stays in the broker"), tools=("*",)
    )
    session = wire.Session("g1", "alice", "default", "laptop", "active", 0, False, 1, (granted,))
    move = Move(
        server=configured,
        file=config_file.read(path),
        found=home.Found(login, session, granted),
        command=("/opt/percall", "run", "github"),
        environment={},
        key="ghp_pasted",
        number=1,
        lines=(),
    )
    record = records.begin(
        client="cursor",
        file=str(path),
        steps=move.steps,
        entry="github",
        server="github",
        login=login,
        seed=SEED,
        key=move.key,
        text=move.file.text,
    )
    return move, record


def test_what_the_config_becomes_is_on_record_before_it_does(login: home.Login, tmp_path: Path) -> None:
    path = tmp_path / f"{'m' * 250}.json"  # no temporary file has room for its name, so the rename is never reached
    move, record = begun(login, path)
    with pytest.raises(UsageError) as caught:
        steps._rewrite(move, record, move.file.digest)
    assert caught.value.code == "config.write"
    (found,) = records.all_of_them()
    assert path.read_text() == CONFIG
    assert found.written not in {"", move.file.digest}


def test_who_is_killed_right_after_the_rename_gets_the_whole_file_back(login: home.Login, tmp_path: Path) -> None:
    path = tmp_path / "mcp.json"
    move, record = begun(login, path)
    steps._rewrite(move, record, move.file.digest)  # and nothing after it: no record says adopted
    assert "ghp_pasted" not in path.read_text()

    (undoable,) = undoing.undoable((), ())
    undoing.undo(undoable)
    assert path.read_text() == CONFIG
