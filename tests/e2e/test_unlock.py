"""Without a keyring or a terminal: a shim that is locked, and the same one once its person has unlocked it."""

from __future__ import annotations

import json
import platform
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from harness.processes import COMMANDS, Client, Laptop
from harness.terminal import at_a_terminal
from percall.identity import kernel_keyring

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from harness.processes import Broker

pytestmark = pytest.mark.skipif(not kernel_keyring.is_there(), reason="no kernel keyring here")
PASSPHRASE = "typed once a day"
AS_CRON_DOES = (
    "import ctypes, os, sys; ctypes.CDLL(None).syscall({number}, 1, None); os.execv(sys.argv[1], sys.argv[1:])"
)


@pytest.fixture
def environment(broker: Broker, person: str, tmp_path: Path) -> Iterator[dict[str, str]]:
    """Of somebody who has logged in at a terminal, and has no passphrase file."""
    scope = ("--server", "keyed", "--tools", "get_*", "--expires", "1h", "--json")
    made = json.loads(broker.administrator.administer("grant", "create", person, *scope).stdout)
    found = {name: value for name, value in Laptop(tmp_path).environment.items() if name != "PERCALL_PASSPHRASE_FILE"}
    said, code = at_a_terminal(
        "percall",
        ["login", broker.url, "--invite", made["invite"], "--keyring", "file"],
        found,
        [PASSPHRASE, PASSPHRASE, ""],
    )
    assert code == 0, said
    yield found
    percall(found, "lock")


def percall(environment: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [COMMANDS / "percall", *arguments],
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )


def status(environment: dict[str, str]) -> dict[str, Any]:
    return dict(json.loads(percall(environment, "status", "--json").stdout.splitlines()[0]))


def as_cron_does(environment: dict[str, str]) -> Client:
    """A client whose processes are in a session keyring of their own."""
    number = 250 if platform.machine() == "x86_64" else 219
    program = [sys.executable, "-c", AS_CRON_DOES.format(number=number)]
    return Client([*program, str(COMMANDS / "percall"), "run", "keyed"], environment)


def test_a_locked_shim_says_what_to_do_and_works_once_unlocked(environment: dict[str, str]) -> None:
    with as_cron_does(environment) as client:
        assert "result" in client.initialize()
        assert client.request("tools/list")["result"]["tools"]
        for _ in range(2):
            refused = client.call("get_item")
            assert refused["isError"] is True
            assert "percall unlock" in refused["content"][0]["text"]
        assert "locked; to unlock it: percall unlock" in percall(environment, "status").stdout

        said, code = at_a_terminal("percall", ["unlock", "--for", "1h"], environment, [PASSPHRASE])
        assert code == 0, said
        assert client.call_text("get_item").startswith("200 ")
        assert status(environment)["unlocked_until"] > 0
        assert "unlocked until" in percall(environment, "status").stdout

        assert "Locked." in percall(environment, "lock").stdout
        assert client.call_text("get_item").startswith("200 "), "what has read the key goes on"
        with as_cron_does(environment) as another:
            another.initialize()
            assert "percall unlock" in another.call("get_item")["content"][0]["text"]
    assert "It was not unlocked." in percall(environment, "lock").stdout


def test_a_wrong_passphrase_or_time_unlocks_nothing(environment: dict[str, str]) -> None:
    said, code = at_a_terminal("percall", ["unlock"], environment, ["another passphrase"])
    assert (code, "[keyring.passphrase]" in said) == (3, True), said
    said, code = at_a_terminal("percall", ["unlock"], environment, ["short"])
    assert (code, "[keyring.passphrase]" in said) == (3, True), "its length is for whoever chooses one"
    assert percall(environment, "unlock", "--for", "8 hours").returncode == 2
    assert percall(environment, "unlock", "--for", "30d").returncode == 2
    without = percall(environment, "unlock")
    assert (without.returncode, "no terminal" in without.stderr) == (3, True), without.stderr
    assert status(environment)["unlocked_until"] == 0


def test_what_waits_is_picked_up_while_unlocked_without_a_passphrase(
    broker: Broker, person: str, environment: dict[str, str]
) -> None:
    at_a_terminal("percall", ["unlock", "--for", "1h"], environment, [PASSPHRASE])
    scope = ("--server", "keyed", "--tools", "create_*", "--agent", "cursor", "--expires", "1h")
    broker.administrator.administer("grant", "create", person, *scope)
    assert "a grant that waited for you" in percall(environment, "status").stdout
    assert "It was not" not in percall(environment, "lock").stdout
    said, code = at_a_terminal("percall", ["status"], environment, [PASSPHRASE])
    assert (code, said.count("reachable")) == (0, 2), "both open with one passphrase"
