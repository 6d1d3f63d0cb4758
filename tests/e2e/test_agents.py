"""The agents of a machine that several people have: whose keys go with `agent remove`, and whose stay."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from harness.processes import Broker, Laptop, command, keyed_entry
from harness.upstream import CANARY, Upstream

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def alone(upstream: Upstream, tmp_path: Path) -> Iterator[Broker]:
    """A broker of the test's own: it stops it, or has its only administrator there."""
    with Broker(tmp_path / "alone") as running:
        running.add_server("keyed", keyed_entry(upstream.url), CANARY)
        yield running


def kept(machine: Laptop) -> dict[str, str]:
    """The person of each grant that has a login here."""
    rows = map(json.loads, machine.run("agent", "list", "--json").stdout.splitlines())
    return {grant: row["person"] for row in rows for grant in row["grants"]}


def sealed(machine: Laptop) -> set[str]:
    return {file.stem for file in (machine.home / "percall" / "keyring").glob("*.sealed")}


def test_the_last_administrators_key_is_kept_though_another_person_of_the_same_agent_leaves(alone: Broker) -> None:
    machine = alone.enrol("bob", "keyed")
    invite = command("percall-broker", "invite", "ada", "--json", environment=alone.environment).stdout
    machine.login(alone.url, json.loads(invite)["invite"])
    assert set(kept(machine).values()) == {"ada", "bob"}
    listed = machine.run("agent", "list").stdout.splitlines()
    assert [line.split()[2] for line in listed] == ["person", "ada", "bob"]
    done = machine.run("agent", "remove", "default", check=False)
    assert (done.returncode, "administrator.last" in done.stderr) == (6, True)
    assert "Agent default of bob is removed" in done.stdout
    ((grant, person),) = kept(machine).items()
    assert (person, sealed(machine)) == ("ada", {grant})
    assert alone.rows("grant", "show", grant)[0]["state"] == "active"


def test_one_key_ends_all_that_it_holds_and_what_was_over_already_goes_too(alone: Broker) -> None:
    machine = alone.enrol("bob", "keyed")
    for _ in range(2):
        alone.administrator.administer("grant", "create", "bob", "--server", "keyed", "--tools", "list_*")
        machine.run("status", check=False)
    over, lost, _ = kept(machine)
    alone.administrator.administer("grant", "revoke", over)
    (machine.home / "percall" / "keyring" / f"{lost}.sealed").unlink()
    machine.run("agent", "remove", "default")
    assert (kept(machine), sealed(machine)) == ({}, set())
    assert {row["state"] for row in alone.rows("grant", "list") if row["person"] == "bob"} == {"revoked"}


def test_a_grant_that_is_over_is_forgotten_alone_and_the_agents_last_one_never(alone: Broker) -> None:
    machine = alone.enrol("bob", "keyed")
    (over,) = kept(machine)
    alone.administrator.administer("grant", "revoke", over)
    told = machine.run("status", check=False)
    assert (told.returncode, "--ended" in told.stdout) == (6, False), "a new grant is picked up by this one's key"
    assert "0 grants" in machine.run("agent", "remove", "default", "--ended").stdout
    both = machine.run("agent", "remove", "default", "--ended", "--local", check=False)
    assert (both.returncode, "[agent.options]" in both.stderr, len(kept(machine))) == (2, True, 1)
    alone.add_server("another", keyed_entry("http://127.0.0.1:9"), CANARY)
    alone.administrator.administer("grant", "create", "bob", "--server", "another", "--tools", "get_*")
    told = machine.run("status", check=False)
    assert (told.returncode, "percall agent remove default --ended" in told.stdout) == (6, True)
    alone.stop()
    done = machine.run("agent", "remove", "default", "--ended", check=False)
    assert (done.returncode, len(kept(machine))) == (5, 2), "nobody can say what is over"
    alone.start()
    assert "1 grant that had ended" in machine.run("agent", "remove", "default", "--ended").stdout
    (stands,) = kept(machine)
    assert (stands != over, sealed(machine)) == (True, {stands})
    assert machine.run("status").returncode == 0
    assert alone.rows("grant", "show", stands)[0]["state"] == "active"


def test_a_broker_that_is_away_keeps_the_agent_until_it_is_to_be_forgotten_here_alone(alone: Broker) -> None:
    machine = alone.enrol("bob", "keyed")
    (grant,) = kept(machine)
    alone.stop()
    done = machine.run("agent", "remove", "default", check=False)
    assert (done.returncode, "--local" in done.stderr) == (5, True)
    assert sealed(machine) == {grant}
    assert "1 grant may still stand" in machine.run("agent", "remove", "default", "--local").stdout
    assert sealed(machine) == set()
