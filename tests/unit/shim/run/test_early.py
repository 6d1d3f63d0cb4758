"""What starts before the shim is imported, and what it is left to when the case is not plain."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from percall import home
from percall.identity import read_answer
from unit.shim.run.conftest import SEED

if TYPE_CHECKING:
    from unit.shim.run.conftest import Laptop

# In a process of its own: only one without threads may fork.
START = """
import sys
from percall.run import early
started = early.start("child", None, sys.argv[2:] or None)
reader = started.reader_of(sys.argv[1])
print("child" if started.child else "no child", reader.stdout.readall().decode().strip() if reader else "", sep="\\n")
started.undo()
"""


def start(laptop: Laptop, grant: str = "g1", *command: str) -> list[str]:
    """Whether a child was started, and what the helper answered."""
    done = subprocess.run(
        [sys.executable, "-c", START, grant, *command],
        env=laptop.environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert not done.stderr
    return done.stdout.splitlines()


@pytest.fixture
def remote(laptop: Laptop) -> Laptop:
    laptop.with_entry(delivery="relay", command=())
    return laptop


def test_a_server_without_a_key_starts_when_its_launch_is_trusted_word_for_word(laptop: Laptop) -> None:
    assert start(laptop)[0] == "child"
    laptop.session = replace(laptop.session, servers=())
    home.save_session(laptop.session)
    assert start(laptop)[0] == "no child"


def test_a_launch_that_changed_is_left_to_the_proper_look(laptop: Laptop) -> None:
    entry = replace(laptop.entry, environment={"ADDED": "later"})
    home.save_session(replace(laptop.session, servers=(replace(laptop.session.servers[0], entry=entry),)))
    assert start(laptop)[0] == "no child"


def test_a_remote_servers_device_key_is_read_at_once(remote: Laptop) -> None:
    child, answer = start(remote)
    assert child == "no child"
    assert read_answer(answer.encode()).seed == SEED


def test_a_helper_that_reads_another_grants_key_is_ended_unread(remote: Laptop) -> None:
    assert start(remote, "g2") == ["no child", ""]


def test_a_remote_server_with_a_command_starts_nothing(remote: Laptop) -> None:
    assert start(remote, "g1", "sh") == ["no child", ""]


@pytest.mark.parametrize("state", ["suspended", "revoked"])
def test_a_stopped_grants_key_is_not_read_early(remote: Laptop, state: str) -> None:
    home.save_session(replace(remote.session, state=state))
    assert start(remote) == ["no child", ""]


def test_of_two_grants_neither_is_read_early(remote: Laptop) -> None:
    home.save_login(replace(remote.login, grant="g2"))
    home.save_session(replace(remote.session, grant="g2"))
    assert start(remote) == ["no child", ""]


def test_an_error_of_the_early_helper_is_its_answer(remote: Laptop) -> None:
    home.save_login(replace(remote.login, passphrase_file=str(home.folder()) + "/none"))
    _, answer = start(remote)
    assert json.loads(answer)["error"]["code"] == "passphrase.file"
