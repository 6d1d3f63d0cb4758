"""People, agents and the brake, through the commands: what an administrator and a person at a laptop see."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import pytest

from harness.processes import Broker, Laptop, automation_invite, command, keyed_entry, wait_for
from harness.signing import SigningLaptop
from harness.upstream import CANARY

if TYPE_CHECKING:
    from pathlib import Path

    from harness.upstream import Upstream


@pytest.fixture(scope="module")
def second(broker: Broker, upstream: Upstream) -> str:
    broker.add_server("second", keyed_entry(upstream.url), CANARY)
    return "second"


def say(broker: Broker, *arguments: str) -> str:
    return broker.administrator.administer(*arguments).stdout


def refused(laptop: Laptop, *arguments: str, administer: bool = False) -> str:
    done = (laptop.administer if administer else laptop.run)(*arguments, check=False)
    assert done.returncode != 0
    assert "Traceback" not in done.stderr
    return done.stderr


def logins(laptop: Laptop) -> list[dict[str, Any]]:
    return [json.loads(line) for line in laptop.run("status", "--json").stdout.splitlines()]


def text_of(result: dict[str, Any]) -> str:
    return str(result["content"][0]["text"])


def test_an_administrator_of_two_brokers_is_told_which_one_is_asked_and_chooses(broker: Broker, tmp_path: Path) -> None:
    laptop = Laptop(tmp_path / "administrator")
    with Broker(tmp_path / "other") as other:
        laptop.login(broker.url, automation_invite(broker.environment))
        assert laptop.administer("person", "list").stderr == ""
        laptop.login(other.url, automation_invite(other.environment))
        asked = laptop.administer("server", "list")
        assert (
            asked.stderr == f"Asking {other.url}. You also have a login at {broker.url}: PERCALL_BROKER=URL chooses.\n"
        )
        assert "keyed" not in asked.stdout
        laptop.extra["PERCALL_BROKER"] = broker.url + "/"
        chosen = laptop.administer("server", "list")
        assert "keyed" in chosen.stdout
        assert chosen.stderr == ""
        laptop.extra["PERCALL_BROKER"] = "https://elsewhere.example"
        nowhere = laptop.administer("server", "list", check=False)
        assert "nobody has logged in there" in nowhere.stderr
        assert other.url in nowhere.stderr


def test_a_person_is_invited_joins_a_group_and_leaves_without_a_second_invite(
    broker: Broker, second: str, person: str, tmp_path: Path
) -> None:
    say(broker, "group", "add", f"g-{person}")
    scope = ("--server", "keyed", "--server", second, "--tools", "get_*", "--expires", "1h")
    assert "no members yet" in say(broker, "grant", "create", "--group", f"g-{person}", *scope)
    invite = json.loads(say(broker, "person", "invite", person, "--json"))
    lead = say(broker, "person", "invite", f"{person}-lead")
    assert "to answer approvals, none is needed" in lead
    assert "once they have logged in (until then it prints an invite of its own):\n  percall-broker grant cr" in lead
    assert "The invite works once" in say(broker, "grant", "create", f"{person}-lead", *scope)
    joined = say(broker, "group", "add", f"g-{person}", person)
    assert f"{person} has no device yet. If no invite of theirs is open: percall-broker person invite" in joined
    (granted,) = [line for line in say(broker, "group", "show", f"g-{person}").splitlines() if "keyed: get_*" in line]
    assert "1 hour" in granted
    laptop = Laptop(tmp_path / "laptop")
    said = laptop.login(broker.url, invite["invite"]).stdout
    assert f"server {second}" in said, "what waited came with the login"
    with laptop.client(second) as client:
        client.initialize()
        assert client.call_text("get_item").startswith("200 ")
        assert f"Left g-{person}: {person}. 1 grant ended." in say(broker, "group", "remove", f"g-{person}", person)
        assert "revoked" in text_of(client.call("get_item"))


def test_a_further_grant_waits_and_status_picks_it_up(broker: Broker, second: str, person: str) -> None:
    laptop = broker.enrol(person, "keyed")
    said = say(broker, "grant", "create", person, "--server", second, "--tools", "get_*")
    assert "needs no invite" in said
    assert "waiting" in say(broker, "person", "show", person)
    assert "a grant that waited for you" in laptop.run("status").stdout
    assert "a grant that waited for you" not in laptop.run("status").stdout
    with laptop.client(second) as client:
        client.initialize()
        assert client.call_text("get_item").startswith("200 ")


def test_a_grant_that_names_no_agent_goes_to_the_one_that_status_names(
    broker: Broker, second: str, person: str
) -> None:
    laptop = broker.enrol(person, "keyed")
    again = json.loads(say(broker, "person", "invite", person, "--json"))["invite"]
    laptop.login(broker.url, again, "--agent", "cursor")
    say(broker, "grant", "create", person, "--server", second, "--tools", "get_*")
    assert "agent cursor, at" in laptop.run("status", "--agent", "cursor").stdout
    assert {(row["agent"], server["name"]) for row in logins(laptop) for server in row["servers"]} == {
        ("default", "keyed"),
        ("cursor", second),
    }


def test_what_grant_create_prints_is_what_the_person_types(broker: Broker, person: str, tmp_path: Path) -> None:
    """Word for word: an invite that names an agent would be spent on nothing."""
    said = say(broker, "grant", "create", person, "--server", "keyed", "--tools", "get_*", "--agent", "claude-code")
    assert f"percall login {broker.url} --invite CODE --agent claude-code" in said.replace("URL", broker.url)
    code = re.search(r"^  (\S+)$", said, re.MULTILINE)
    assert code is not None
    laptop = Laptop(tmp_path / "laptop")
    assert "the agent claude-code, not cursor" in refused(
        laptop, "login", broker.url, "--invite", code[1], "--keyring", "file", "--agent", "cursor"
    )
    assert "agent claude-code" in laptop.login(broker.url, code[1]).stdout, "an invite that names its agent is enough"
    assert [row["agent"] for row in logins(laptop)] == ["claude-code"]


def test_a_launch_that_nobody_was_shown_is_accepted_by_nobody(broker: Broker, second: str, person: str) -> None:
    laptop = broker.enrol(person, "keyed")
    say(broker, "grant", "create", person, "--server", second, "--tools", "get_*")
    rows = {row["server"]: row for row in map(json.loads, laptop.run("catalog", "--json").stdout.splitlines())}
    assert (rows[second]["trusted"], rows["keyed"]["trusted"]) == (False, True)
    refused = laptop.run("run", second, check=False)
    assert "[trust.missing]" in refused.stderr
    shown = laptop.run("trust", second, "--yes").stdout
    assert "command      " in shown
    with laptop.client(second) as client:
        client.initialize()

    other = broker.enrol(f"{person}-b", "keyed")
    say(broker, "grant", "create", f"{person}-b", "--server", second, "--tools", "get_*")
    told = other.run("catalog").stdout
    assert "accepted on first sight: " in told
    assert "environment  " in told, "all of it was shown"
    with other.client(second) as client:
        client.initialize()


def test_of_a_remote_server_there_is_no_launch_to_accept(broker: Broker, person: str) -> None:
    remote = '[server]\ntitle = "T"\ndelivery = "relay"\nurl = "https://mcp.example.com/mcp"\n'
    broker.add_server(f"far-{person}", remote, "")
    laptop = broker.enrol(person, f"far-{person}")
    assert "nothing of it runs here" in laptop.run("trust", f"far-{person}").stdout


def test_what_a_script_logs_in_to_is_told_to_it_whole(broker: Broker, person: str, tmp_path: Path) -> None:
    invite = broker.invite(person, "keyed", tools="get_*")
    (row,) = map(json.loads, Laptop(tmp_path).login(broker.url, invite, "--json").stdout.splitlines())
    (lines,) = row["accepted"].values()
    assert lines[0].startswith("command      ")
    assert any(line.startswith("environment  API_KEY=") for line in lines)


def test_two_people_of_one_machine_each_pick_up_their_own(broker: Broker, second: str, person: str) -> None:
    """As where an administrator tries it all out on their own laptop."""
    laptop = broker.enrol(f"{person}-first", "keyed")
    laptop.login(broker.url, broker.invite(person, "keyed", tools="get_*"), "--agent", "cursor")
    say(broker, "grant", "create", person, "--server", second, "--tools", "get_*")
    say(broker, "grant", "create", f"{person}-first", "--server", second, "--tools", "get_*")
    assert laptop.run("status").stdout.count("a grant that waited for you") == 2
    rows = {(row["person"], row["agent"]) for row in logins(laptop) if second in str(row["servers"])}
    assert rows == {(person, "cursor"), (f"{person}-first", "default")}


def test_what_was_picked_up_and_never_arrived_is_picked_up_again(broker: Broker, second: str, person: str) -> None:
    """As if the laptop lost its power between the broker's answer and its own disk."""
    laptop = broker.enrol(person, "keyed")
    made = json.loads(say(broker, "grant", "create", person, "--server", second, "--tools", "get_*", "--json"))
    laptop.run("status")
    for kind in ("logins", "sessions"):
        (laptop.home / "percall" / kind / f"{made['grant']}.json").unlink()
    (laptop.home / "percall" / "keyring" / f"{made['grant']}.sealed").unlink()
    assert made["grant"] in laptop.run("status").stdout
    with laptop.client(second) as client:
        client.initialize()
        assert client.call_text("get_item").startswith("200 ")


def test_a_further_agent_gets_a_key_of_its_own_and_is_removed_alone(broker: Broker, person: str) -> None:
    laptop = broker.enrol(person, "keyed")
    say(broker, "grant", "create", person, "--server", "keyed", "--tools", "get_*", "--agent", "cursor")
    said = laptop.run("login", broker.url).stdout
    assert "agent cursor" in said
    assert "device key made on this device" in said
    (device,) = broker.rows("device", "list", "--person", person)
    assert (device["agents"], device["grants"]) == (2, 2)
    assert {row["agent"] for row in map(json.loads, laptop.run("agent", "list", "--json").stdout.splitlines())} == {
        "cursor",
        "default",
    }
    grant = next(row["grant"] for row in logins(laptop) if row["agent"] == "cursor")
    sealed = laptop.home / "percall" / "keyring" / f"{grant}.sealed"
    assert sealed.exists()
    assert "1 grant ended" in laptop.run("agent", "remove", "cursor").stdout
    assert not sealed.exists()
    assert broker.rows("grant", "show", grant)[0]["state"] == "revoked"
    assert "There is no agent 'cursor'" in refused(laptop, "agent", "remove", "cursor")
    with laptop.client("keyed") as client:
        client.initialize()
        assert client.call_text("get_item").startswith("200 ")


def test_two_grants_that_fit_and_differ_are_both_named(broker: Broker, person: str) -> None:
    laptop = broker.enrol(person, "keyed")
    say(broker, "grant", "create", person, "--server", "keyed", "--tools", "get_*")
    laptop.run("status")
    with laptop.client("keyed") as client:
        client.initialize()
        assert client.call_text("get_item").startswith("200 "), "two that allow the same are one"
    say(broker, "grant", "create", person, "--server", "keyed", "--tools", "get_item,create_*")
    laptop.run("status")
    said = refused(laptop, "run", "keyed")
    for row in logins(laptop):
        assert row["grant"] in said
    assert "create_*" in said
    assert "revoke" in said
    for row in logins(laptop)[1:]:
        say(broker, "grant", "revoke", row["grant"])
    laptop.run("status")
    with laptop.client("keyed") as client:
        client.initialize()
        assert client.call_text("get_item").startswith("200 ")


def test_an_invite_may_come_by_standard_input_where_other_users_of_the_machine_do_not_see_it(
    broker: Broker, person: str
) -> None:
    made = broker.administrator.administer("grant", "create", person, "--server", "keyed", "--tools", "*", "--json")
    laptop = Laptop(broker.folder / f"laptop-{person}")
    login = ("login", broker.url, "--invite", "-", "--keyring", "file")
    done = laptop.run(*login, stdin=f"{json.loads(made.stdout)['invite']}\n")
    assert f"You are {person}" in done.stdout
    nothing = laptop.run(*login, check=False)
    assert (nothing.returncode, "usage.invite" in nothing.stderr) == (2, True)


def brake_lifted_by_a_person(broker: Broker) -> None:
    assert "by a person" in refused(broker.administrator, "unfreeze", "--all", administer=True)
    invite = command("percall-broker", "invite", "ada", "--json", environment=broker.environment).stdout
    ada = SigningLaptop.of_person(broker.url, json.loads(invite)["invite"])
    ada.administer("POST", "/v1/admin/freezes/lift", {"kind": "all"})


@pytest.mark.parametrize("kind", ["person", "device", "server", "all"])
def test_a_freeze_is_read_in_the_client_and_lifted_in_the_same_session(
    broker: Broker, upstream: Upstream, person: str, kind: str
) -> None:
    laptop = broker.enrol(person, "keyed")
    device = broker.rows("device", "list", "--person", person)[0]["device"]
    name = {"person": (person,), "device": (device,), "server": ("keyed",), "all": ()}[kind]
    with laptop.client("keyed") as client:
        client.initialize()
        before = sum(seen.path == "/stream" for seen in upstream.seen)
        call = client.send("tools/call", {"name": "get_stream", "arguments": {}})
        wait_for(lambda: sum(seen.path == "/stream" for seen in upstream.seen) > before, "the stream is open")
        said = say(broker, "freeze", f"--{kind}", *name, "--reason", "odd calls at night")
        assert "The next call is refused" in said
        try:
            assert client.receive(call, 5)["result"]["isError"] is True
            text = text_of(client.call("get_item"))
            assert "admin froze" in text
            assert "odd calls at night" in text
            assert "frozen already" in refused(broker.administrator, "freeze", f"--{kind}", *name, administer=True)
            assert "odd calls at night" in say(broker, "freeze")
            assert "odd calls at night" in laptop.run("status", check=False).stdout
        finally:
            if kind == "all":
                brake_lifted_by_a_person(broker)
            else:
                say(broker, "unfreeze", f"--{kind}", *name)
        wait_for(lambda: not client.call("get_item").get("isError"), "the session goes on")


def test_a_suspended_person_reads_why_and_a_removed_one_cannot_come_back_by_themselves(
    broker: Broker, person: str
) -> None:
    laptop = broker.enrol(person, "keyed")
    with laptop.client("keyed") as client:
        client.initialize()
        say(broker, "person", "suspend", person)
        assert f"{person} is suspended" in text_of(client.call("get_item"))
        say(broker, "person", "resume", person)
        wait_for(lambda: not client.call("get_item").get("isError"), "the session goes on")
        assert "Ended: 1 grant, 1 device, 0 invites, 0 groups" in say(broker, "person", "remove", person)
        assert f"{person} was removed" in text_of(client.call("get_item"))
    assert "removed already" in refused(broker.administrator, "person", "remove", person, administer=True)
    assert "was removed" in refused(laptop, "login", broker.url)
    invite = json.loads(say(broker, "person", "invite", person, "--json"))["invite"]
    said = laptop.login(broker.url, invite).stdout
    assert "device key made on this device" in said, "the old key is not taken up again"


def test_a_suspended_server_stops_for_everybody_until_resumed(broker: Broker, second: str, person: str) -> None:
    laptop = broker.enrol(person, second)
    say(broker, "server", "suspend", second)
    try:
        with laptop.client(second) as client:
            client.initialize()
            assert "is suspended" in text_of(client.call("get_item"))
            say(broker, "server", "resume", second)
            wait_for(lambda: not client.call("get_item").get("isError"), "the session goes on")
    finally:
        broker.administrator.administer("server", "resume", second, check=False)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("person", "show", "nobody"), "no person"),
        (("person", "show", "a b?c#d%2e"), "no person"),
        (("person", "show", "../servers"), "cannot be a name"),
        (("person", "remove", "nobody"), "no person"),
        (("person", "invite", "a/b"), "cannot be a name"),
        (("person", "invite", "-x y"), "cannot be"),
        (("device", "revoke", "nothing"), "no device"),
        (("group", "show", "nothing"), "no group"),
        (("group", "add", "g", "nobody"), "no person nobody"),
        (("group", "remove", "nothing", "nobody"), "no group"),
        (("freeze", "--person", "nobody"), "no person"),
        (("freeze", "--person", "a", "--all"), "Name one thing"),
        (("unfreeze",), "Name one thing"),
        (("unfreeze", "--server", "keyed"), "not frozen"),
        (("grant", "create", "--server", "keyed", "--tools", "*"), "one person's or one group's"),
        (("grant", "create", "--group", "nothing", "--server", "keyed", "--tools", "*"), "no group"),
        (("grant", "revoke", "gg_none"), "no grant"),
        (("server", "suspend", "nothing"), "no server"),
    ],
)
def test_what_cannot_be_done_is_said_in_a_sentence(broker: Broker, arguments: tuple[str, ...], said: str) -> None:
    words = arguments if arguments[-1] != "-x y" else (*arguments[:-1], "--", arguments[-1])
    told = refused(broker.administrator, *words, administer=True)
    assert said in told
    assert re.search(r" \[[a-z_]+\.[a-z_]+\]$", told, re.MULTILINE)
