"""Each runbook is run: the commands of its document, against a real broker and real shims, and what they bring about.

A code block's second word says whose machine it is for. Blocks run whole and in their order, stopping at the first
command that fails, but for a block that is for another case than the reader's; a document cannot say a command that no
test runs, nor a test run one that no document says.
"""

from __future__ import annotations

import json
import re
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from harness.console import ConsoleBrowser
from harness.processes import Broker, Laptop, UnusualBroker, automation_invite, command, keyed_entry, wait_for
from harness.signing import SigningLaptop
from harness.terminal import at_a_terminal
from harness.upstream import CANARY, Upstream
from percall import wire
from percall_broker.model import entry_file

if TYPE_CHECKING:
    from collections.abc import Mapping

FOLDER = Path(__file__).parents[2] / "docs" / "how-to" / "runbooks"
PASSPHRASE = "typed at the terminal"
RULES = '@id("team-rules")\npermit(principal, action, resource);\n'
ROTATED = CANARY + "-rotated"


@dataclass
class Runbook:
    """A document's blocks, from the first to the last. `machines` are the environments of those whom it names."""

    name: str
    work: Path
    machines: Mapping[str, Mapping[str, str]]
    names: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        text = (FOLDER / f"{self.name}.md").read_text(encoding="utf-8")
        self.blocks: list[tuple[str, str]] = re.findall(r"^```sh (\S+)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
        assert len(self.blocks) == text.count("```sh"), "a block without a machine"
        assert text.count("```") == 2 * len(self.blocks), "a block that is not run"

    def run(self, machine: str) -> str:
        """The next block, which is for this machine; what its commands printed."""
        commands = self._next(machine)
        done = subprocess.run(
            ["bash", "-eu", "-c", commands],
            cwd=self.work,
            env={**self.machines[machine], **self.names},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
            start_new_session=True,
        )
        assert done.returncode == 0, f"{commands}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def skip(self, command: str) -> None:
        """The next block, which has this command, is for another case than the reader's."""
        _, commands = self.blocks.pop(0)
        assert command in commands

    def run_by(self, person: Laptop) -> str:
        """The administrator's next block, which a person runs at a terminal: an automation may not do it."""
        commands = self._next("administrator")
        environment = {**person.environment, **self.names}
        said, code = at_a_terminal("/bin/bash", ["-eu", "-c", commands], environment, [PASSPHRASE])
        assert code == 0, said
        return said

    def _next(self, machine: str) -> str:
        whose, commands = self.blocks.pop(0)
        assert whose == machine, commands
        unset = set(re.findall(r"\$([A-Z]+)", commands)) - set(self.names)
        assert not unset, f"the runbook names {unset}"
        return commands


def runbook(name: str, broker: Broker, work: Path, laptop: Laptop | None = None, **names: str) -> Runbook:
    machines = {"administrator": broker.administrator.environment}
    if laptop is not None:
        machines["laptop"] = laptop.environment
    return Runbook(name, work, machines, {name.upper(): value for name, value in names.items()})


@pytest.fixture
def joined(broker: Broker, person: str) -> tuple[str, str]:
    """A person who is in a group that is granted a server; their group."""
    group = f"g{person}"
    broker.administrator.administer("group", "add", group)
    broker.administrator.administer("grant", "create", "--group", group, "--server", "keyed", "--tools", "get_*")
    return person, group


def enrolled(broker: Broker, person: str, folder: str) -> Laptop:
    made = broker.rows("person", "invite", person)[0]
    laptop = Laptop(broker.folder / folder)
    laptop.login(broker.url, made["invite"])
    return laptop


def administrator(broker: Broker, folder: Path) -> Laptop:
    """A person who administers, with a passphrase."""
    made = command("percall-broker", "invite", f"of-{folder.parent.name}", "--json", environment=broker.environment)
    laptop = Laptop(folder)
    login = ["login", broker.url, "--invite", json.loads(made.stdout)["invite"], "--keyring", "file"]
    said, code = at_a_terminal("percall", login, laptop.environment, [PASSPHRASE, PASSPHRASE])
    assert code == 0, said
    return laptop


def administrators_folder(folder: Path) -> Path:
    """Where an administrator keeps the policies, and a new key."""
    work = folder / "administrators"
    work.mkdir()
    (work / "rules").mkdir()
    (work / "rules" / "team.cedar").write_text(RULES)
    (work / "new-key").touch(0o600)
    (work / "new-key").write_text(ROTATED)
    return work


def refusal(laptop: Laptop, server: str = "keyed") -> str:
    """How a fresh client's call is answered; empty where it is permitted."""
    with laptop.client(server) as client:
        client.initialize()
        result = client.call("get_item")
        return str(result["content"][0]["text"]) if result.get("isError") else ""


def test_a_stolen_laptop_ends_and_its_owner_works_on(broker: Broker, joined: tuple[str, str], tmp_path: Path) -> None:
    person, group = joined
    stolen = enrolled(broker, person, f"{person}-stolen")
    broker.administrator.administer("group", "add", group, person)
    stolen.run("status")
    other = broker.enrol(f"other{person}", "keyed")
    (device,) = broker.rows("device", "list", "--person", person)
    desk = SigningLaptop.of_person(broker.url, broker.rows("person", "invite", person)[0]["invite"])
    browser = ConsoleBrowser.signed_in(desk, enrol=True)
    (passkey,) = broker.rows("passkey", "list", "--person", person)
    book = runbook("laptop-stolen", broker, tmp_path, person=person, group=group, device=device["device"])
    book.names["PASSKEY"] = passkey["passkey"]
    with stolen.client("keyed") as thief:
        thief.initialize()
        assert "result" in thief.request("tools/call", {"name": "get_item", "arguments": {}})
        told = book.run("administrator")
        assert device["device"] in told
        assert f"1 passkey of {person}" in told
        denied = thief.call("get_item")
        assert denied["isError"] is True
        assert "revoked" in denied["content"][0]["text"]
    assert refusal(other) == ""
    assert browser.by_passkey().status == 200
    assert passkey["passkey"] in book.run("administrator")
    assert "is forgotten" in book.run_by(administrator(broker, tmp_path / "administrator"))
    assert browser.by_passkey().code == "passkey.unknown"
    assert browser.get("").status == 401
    told = book.run("administrator")
    assert "get_item" in told
    assert "device.revoke" in told
    (invite,) = re.findall(r"^  (\S+)$", book.run("administrator"), re.MULTILINE)
    new = Laptop(broker.folder / f"{person}-new")
    login = ["login", broker.url, "--invite", invite, "--keyring", "file"]
    said, code = at_a_terminal("percall", login, new.environment, ["a passphrase of some length"])  # as at their desk
    assert code == 0, said
    book.run("administrator")
    new.run("status")
    assert refusal(new) == ""
    assert refusal(stolen) != ""
    assert book.blocks == []


def test_who_leaves_is_gone_at_once_and_nobody_else_is(broker: Broker, person: str, tmp_path: Path) -> None:
    laptop, other = broker.enrol(person, "keyed"), broker.enrol(f"other{person}", "keyed")
    book = runbook("leaver", broker, tmp_path, person=person)
    with laptop.client("keyed") as client, other.client("keyed") as neighbour:
        for one in (client, neighbour):
            one.initialize()
            assert not one.call("get_item").get("isError")
        assert person in book.run("administrator")
        book.run("administrator")
        assert client.call("get_item")["isError"] is True
        assert not neighbour.call("get_item").get("isError")
    told = book.run("administrator")
    assert re.search(rf"^{person} +removed", told, re.MULTILINE)
    assert re.search(rf" {person} .* revoked", told)
    assert "get_item" in told
    again = broker.administrator.administer("person", "remove", person, check=False)
    assert (again.returncode, f"{person} is removed already." in again.stderr) == (6, True)
    assert book.blocks == []


def test_a_rogue_agent_is_stopped_and_comes_back_with_less(broker: Broker, person: str, tmp_path: Path) -> None:
    laptop = broker.enrol(person, "keyed", tools="get_*,create_*")
    book = runbook("rogue-agent", broker, tmp_path, laptop, person=person, agent="default", server="keyed")
    with laptop.client("keyed") as client:
        client.initialize()
        assert not client.call("create_item", {"text": "what it did"}).get("isError")
        assert person in book.run("administrator")
        (grant,) = [row["grant"] for row in broker.rows("grant", "list") if row["person"] == person]
        (call,) = [row["call"] for row in broker.log(person=person)]
        book.names |= {"GRANT": grant, "CALL": call}
        book.run("administrator")
        assert "suspended" in client.call("create_item")["content"][0]["text"]
    assert "what it did" in book.run("administrator")
    book.run("administrator")
    book.run("laptop")
    with laptop.client("keyed") as client:
        client.initialize()
        assert not client.call("get_item").get("isError")
        assert client.call("create_item")["isError"] is True
    assert book.blocks == []


@pytest.mark.parametrize("stopped", [False, True], ids=["while calls go on", "with the server stopped"])
def test_a_leaked_key_is_replaced_and_its_uses_are_found(
    broker: Broker, upstream: Upstream, person: str, tmp_path: Path, *, stopped: bool
) -> None:
    server = f"s{person}"
    broker.add_server(server, keyed_entry(upstream.url), CANARY)
    laptop = broker.enrol(person, server)
    (tmp_path / "new-key").touch(0o600)
    (tmp_path / "new-key").write_text(ROTATED)
    book = runbook("upstream-key-leaked", broker, tmp_path, server=server)
    with laptop.client(server) as client:
        client.initialize()
        assert not client.call("get_item").get("isError")
        if stopped:
            book.run("administrator")
            assert "suspended" in client.call("get_item")["content"][0]["text"]
        else:
            book.skip("server suspend")
        shown = book.run("administrator")
        assert re.search(r"^secret_version +2$", shown, re.MULTILINE)
        assert ROTATED not in shown
        if stopped:
            book.run("administrator")
        else:
            book.skip("server resume")
    upstream.key = ROTATED
    try:
        assert refusal(laptop, server) == ""
    finally:
        upstream.key = CANARY
    after, before = [row["call"] for row in broker.log(server=server) if row["outcome"] == "done"]
    book.names["LEAKED"] = "1"
    told = book.run("administrator")
    assert before in told
    assert after not in told
    assert "server.rotate_key" in told
    assert before in (tmp_path / "uses.csv").read_text()
    assert book.blocks == []


def test_a_team_moves_away_from_a_host_that_was_broken_into(upstream: Upstream, tmp_path: Path) -> None:
    work = administrators_folder(tmp_path)
    names = {"ADMINISTRATOR": "root", "SERVER": "keyed", "GROUP": "devs", "PERSON": "alice", "AGENT": "default"}
    new = UnusualBroker(tmp_path / "new")
    new.folder.mkdir()
    with Broker(tmp_path / "old") as old:
        old.add_server("keyed", keyed_entry(upstream.url), CANARY)
        alice = old.enrol("alice", "keyed")
        assert refusal(alice) == ""
        old.administrator.administer("policy", "apply", str(work / "rules"))
        with alice.client("keyed") as client:
            client.initialize()
            client.request("tools/list")
        wait_for(lambda: bool(old.rows("server", "pins", "keyed")), "the tools are known")
        captured = SigningLaptop.enrolled(old.url, old.rows("person", "invite", "bob")[0]["invite"])
        machines = {"administrator": old.administrator.environment, "old-broker": old.environment}
        book = Runbook("broker-host-compromised", work, machines, names)
        book.run("administrator")
        assert {row["person"] for row in lines(work / "grants.json")} >= {"alice"}
        assert [row["tool"] for row in lines(work / "calls.json")] == ["get_item"]
        assert (work / "policies" / "team.cedar").read_text() == RULES
        book.run("administrator")
        assert entry_file.read((work / "keyed.toml").read_text()) == entry_file.read(keyed_entry(upstream.url))
        assert "get_item" in (work / "keyed.pins.json").read_text()
        assert "whole" in book.run("old-broker")
        kept = (work / "evidence.backup").read_bytes()
        assert CANARY.encode() not in kept
    book.machines = {"new-broker": new.environment, "administrator": {}, "laptop": alice.environment}
    assert "root's invite" in book.run("new-broker")
    new.start()
    try:
        # A person would log in at a terminal with that invite and set a passphrase; here it is a program.
        new.administrator = Laptop(tmp_path / "administrator")
        new.administrator.login(new.url, automation_invite(new.environment))
        book.machines = {**book.machines, "administrator": new.administrator.environment}
        book.run("administrator")
        assert "team-rules" in book.run("administrator")
        upstream.key = ROTATED
        (invite,) = re.findall(r"^  (\S+)$", book.run("administrator"), re.MULTILINE)
        assert "deleted here alone" in book.run("laptop")
        alice.login(new.url, invite)
        assert "keyed" in book.run("laptop")
        assert refusal(alice) == ""
        # What the old broker signed opens nothing at the new one.
        captured.url = new.url
        assert captured.send("GET", wire.PATH_SESSION).code == "grant.token"
        (call,) = new.log(person="alice")
        assert '"team-rules"' in new.administrator.administer("log", "show", call["call"], "--json").stdout
    finally:
        upstream.key = CANARY
        new.stop()
    assert book.blocks == []


def test_every_runbook_is_run() -> None:
    run = set(re.findall(r'(?:runbook|Runbook)\(\s*"([a-z-]+)"', Path(__file__).read_text(encoding="utf-8")))
    assert {path.stem for path in FOLDER.glob("*.md")} == run


def lines(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text().splitlines()]
