"""A person's own key through the commands: given at a terminal, used by `percall run`, made shared by two."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from harness.processes import Laptop, keyed_entry
from harness.terminal import at_a_terminal

if TYPE_CHECKING:
    from pathlib import Path

    from harness.processes import Broker
    from harness.upstream import Upstream

PASSPHRASE = "four or five words at once"
MINE = "test_personsOwnKeyGivenAtATerminal00000001"
NEW = "test_personsOwnKeyAfterItsRotation00000002"


def with_passphrase(broker: Broker, person: str, folder: Path) -> Laptop:
    """Somebody new with a grant, who has set a passphrase at their terminal."""
    laptop = Laptop(folder)
    login = ["login", broker.url, "--invite", broker.invite(person, "keyed", tools="get_*"), "--keyring", "file"]
    said, code = at_a_terminal("percall", login, laptop.environment, [PASSPHRASE, PASSPHRASE])
    assert code == 0, said
    return laptop


def key_in(upstream: Upstream) -> str:
    (value,) = [value for name, value in upstream.seen[-1].headers.items() if name.lower() == "authorization"]
    return value.removeprefix("Bearer ")


def test_a_person_gives_rotates_offers_and_removes_a_key_of_their_own(
    broker: Broker, upstream: Upstream, person: str, tmp_path: Path
) -> None:
    laptop = with_passphrase(broker, person, tmp_path)

    def key(verb: str, *typed: str, stdin: str | None = None) -> str:
        arguments = ["key", verb, "keyed", *(["--secret-stdin"] if stdin else [])]
        given = stdin.encode() if stdin else None
        said, code = at_a_terminal("percall", arguments, laptop.environment, typed, given)
        assert code == 0, said
        assert MINE not in said
        assert NEW not in said
        return said

    with laptop.client("keyed") as client:
        client.initialize()
        client.call("get_item")
        shared = key_in(upstream)
        assert f"sends your key to {upstream.url}" in key("add", MINE, PASSPHRASE)
        client.call("get_item")
        assert key_in(upstream) == MINE, "in the same session of the client"
        assert "version 2" in key("rotate", PASSPHRASE, stdin=NEW)
        client.call("get_item")
        assert key_in(upstream) == NEW

        assert "with your own key" in laptop.run("status").stdout
        (row,) = [json.loads(line) for line in laptop.run("key", "list", "--json").stdout.splitlines()]
        assert (row["server"], row["version"], row["refusal"]) == ("keyed", 2, None)
        refused = laptop.run("key", "remove", "keyed", check=False)
        assert refused.returncode == 3, "no terminal, no presence"
        assert "presence.no_terminal" in refused.stderr
        assert "--automation" not in refused.stderr, "which has no keys of its own"

        (used,) = broker.rows("log", "list", "--secret-version", "keyed@1", "--secret-owner", person)
        assert used["person"] == person
        assert broker.rows("log", "list", "--secret-version", "keyed@1", "--person", person), (
            "and the shared one's, before"
        )
        shown = broker.administrator.administer("server", "show", "keyed").stdout
        assert re.search(rf"\b{person}: version 2 since \d{{4}}-", shown)

        assert f"--from {person}" in key("offer", PASSPHRASE)
        key("withdraw", PASSPHRASE)
        accept = broker.administrator.administer("server", "accept-key", "keyed", "--from", person, check=False)
        assert "has offered no key" in accept.stderr
        assert "deleted" in key("remove", PASSPHRASE)
        client.call("get_item")
        assert key_in(upstream) == shared
    assert "no key of your own" in laptop.run("key", "list").stdout


def test_a_key_is_told_for_each_agent_with_why_one_does_not_use_it(broker: Broker, person: str, tmp_path: Path) -> None:
    laptop = with_passphrase(broker, person, tmp_path)
    said, code = at_a_terminal("percall", ["key", "add", "keyed"], laptop.environment, [MINE, PASSPHRASE])
    assert code == 0, said

    def rows(*more: str) -> list[dict[str, Any]]:
        return [json.loads(line) for line in laptop.run("key", "list", "--json", *more).stdout.splitlines()]

    scope = ("--server", "keyed", "--tools", "get_*", "--agent", "cursor")
    broker.administrator.administer("grant", "create", person, *scope)
    laptop.run("status")
    listed = laptop.run("key", "list").stdout
    assert "used by default" in listed
    assert f"keyed: The agent 'cursor' on this device was not introduced with {person}'s passphrase" in listed
    assert "percall key confirm keyed --agent cursor" in listed
    (row,) = rows()
    assert row["refusal"] is None
    told = {one["agent"]: (one["refusal"] or {}).get("code") for one in row["agents"]}
    assert told == {"default": None, "cursor": "key.device"}
    (row,) = rows("--agent", "cursor")
    assert row["refusal"]["code"] == "key.device"


def test_a_key_is_asked_for_only_where_it_can_be_given(broker: Broker, person: str, tmp_path: Path) -> None:
    laptop = with_passphrase(broker, person, tmp_path)
    steps: list[tuple[str, list[str], int]] = [("rotate", [], 2), ("add", [MINE, PASSPHRASE], 0), ("add", [], 2)]
    said = ""
    for verb, typed, code in steps:
        said, ended = at_a_terminal("percall", ["key", verb, "keyed"], laptop.environment, typed)
        assert ended == code, said
        assert ("Your key for" in said) == bool(typed)
    assert "percall key rotate keyed" in said
    other = broker.enrol(f"{person}-b", "keyed")
    for command in (["key", "add", "keyed"], ["passphrase"]):
        said, ended = at_a_terminal("percall", command, other.environment, [])
        assert ended == 3
        assert f"{person}-b, whose agent default this is, has set no passphrase. [presence.unset]" in said
        assert "Name another login with --agent" in said
        assert "Your key for" not in said
    refused = laptop.run("key", "rotate", "keyed", "--secret-stdin", stdin=NEW, check=False)
    assert "[presence.no_terminal]" in refused.stderr


def test_copies_of_a_key_are_listed_without_it(broker: Broker, upstream: Upstream, person: str) -> None:
    copied = f"test_copy{person}AndSomeMoreOfIt"
    for name in (f"one-{person}", f"two-{person}"):
        broker.add_server(name, keyed_entry(upstream.url), copied)
    said = broker.administrator.administer("key", "copies").stdout
    lines = [line.split() for line in said.splitlines() if person in line]
    assert len({line[0] for line in lines}) == 1
    assert [line[1:3] for line in lines] == [[f"one-{person}", "(shared)"], [f"two-{person}", "(shared)"]]
    assert copied not in said
