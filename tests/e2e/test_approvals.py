"""A call that waits for a person, as its client sees it: through `percall run`, by the SDK's own client and by hand."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest
from mcp.types import ElicitResult

from conformance.ways import listening
from harness.processes import Broker, Laptop, command, keyed_entry, wait_for
from harness.remote import entry
from harness.sdk import KEYED, used
from harness.signing import SigningLaptop
from harness.terminal import at_a_terminal
from harness.upstream import CANARY
from percall import wire

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from mcp import Client

    from harness.upstream import Upstream

RULES = """
@id("the rest") permit(principal, action, resource)
unless { resource is Tool && (resource.name == "create_item" || resource == Tool::"far/get_item") };
@id("writes") @ask("leads") @reason("Writing needs a lead.") permit(principal, action, resource)
when { resource is Tool && (resource.name == "create_item" || resource == Tool::"far/get_item") };
"""
ASKED: dict[str, tuple[str, dict[str, Any]]] = {"keyed": ("create_item", {"name": "x"}), "far": ("get_item", {"id": 7})}
PASSPHRASE = "a passphrase of some length"


@pytest.fixture(scope="module")
def asking(upstream: Upstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """A broker whose policies ask somebody of `leads` before a tool creates anything."""
    folder = tmp_path_factory.mktemp("asking")
    rules = folder / "rules"
    rules.mkdir()
    (rules / "rules.cedar").write_text(RULES)
    with Broker(folder / "installation") as running, listening(KEYED) as far:
        running.add_server("keyed", keyed_entry(upstream.url), CANARY)
        running.add_server("far", entry(far), CANARY)
        running.administrator.administer("policy", "apply", str(rules))
        yield running


@pytest.fixture(scope="module")
def root(asking: Broker) -> SigningLaptop:
    """An administrator who is a person: no automation makes an approver."""
    made = command("percall-broker", "invite", "root", "--json", environment=asking.environment)
    return SigningLaptop.of_person(asking.url, str(json.loads(made.stdout)["invite"]))


@pytest.fixture(scope="module")
def lead(asking: Broker, root: SigningLaptop) -> SigningLaptop:
    made = asking.administrator.administer("person", "invite", "lea", "--json")
    laptop = SigningLaptop.of_person(asking.url, str(json.loads(made.stdout)["invite"]))
    join_the_leads(root, "lea")
    return laptop


def join_the_leads(root: SigningLaptop, name: str) -> None:
    root.administer("POST", "/v1/admin/groups/leads/join", {"people": [name]})


def waiting(lead: SigningLaptop, person: str) -> dict[str, Any]:
    """The one question of a person's, once it is there."""
    path = f"{wire.PATH_INBOX}?mine=true&person={person}"
    wait_for(lambda: len(lead.administer("GET", path)) == 1, "somebody asks")
    return dict(lead.administer("GET", path)[0])


def answer(lead: SigningLaptop, person: str, verb: str = "allow", **more: Any) -> dict[str, Any]:
    asked = waiting(lead, person)
    form = {"answer": verb, "digest": asked["digest"], **more}
    return dict(lead.administer("POST", f"{wire.PATH_INBOX}/{asked['approval']}/answer", form))


@pytest.mark.parametrize("server", ["keyed", "far"])
def test_the_sdk_s_client_waits_hears_progress_and_gets_its_answer(
    asking: Broker, lead: SigningLaptop, person: str, server: str
) -> None:
    who = person + server
    laptop = asking.enrol(who, server, tools="get_*,create_*")
    heard: list[tuple[float, str | None]] = []

    async def progress(progress: float, total: float | None, message: str | None) -> None:  # noqa: ARG001 - by name
        heard.append((progress, message))

    async def using(client: Client) -> Any:
        call = asyncio.create_task(client.call_tool(*ASKED[server], progress_callback=progress))
        row = await asyncio.to_thread(answer, lead, who)
        result = await call
        assert not result.is_error, result
        return row

    row = used(laptop, server, using)
    assert heard
    assert row["url"] in str(heard[0][1])
    wait_for(
        lambda: [call["outcome"] for call in asking.log(person=who, decision="permit")] == ["done"],
        "the call is settled",
    )
    (call,) = asking.log(person=who, decision="permit")
    assert (call["approval"], call["approver"]) == (row["approval"], "lea")


def test_a_call_that_waits_holds_up_no_other(asking: Broker, lead: SigningLaptop, person: str) -> None:
    """Also where one call of a server is open at a time."""
    laptop = asking.enrol(person, "keyed", tools="get_*,create_*")
    with laptop.client("keyed") as client:
        client.initialize()
        waits = client.send("tools/call", {"name": "create_item", "arguments": {"name": "x"}})
        waiting(lead, person)
        assert client.call_text("get_item", {"id": 1}).startswith("200 ")
        answer(lead, person)
        assert client.receive(waits)["result"]["content"][0]["text"].startswith("20")


@pytest.mark.parametrize("server", ["keyed", "far"])
def test_when_the_client_s_patience_ends_it_is_told_and_its_next_attempt_goes_on_waiting(
    asking: Broker, lead: SigningLaptop, person: str, server: str
) -> None:
    who = person + server
    laptop = asking.enrol(who, server, tools="get_*,create_*")
    laptop.extra["PERCALL_APPROVAL_WAIT"] = "1"
    with laptop.client(server) as client:
        client.initialize()
        result = client.call(*ASKED[server])
        asked = waiting(lead, who)
        text = result["content"][0]["text"]
        assert result["isError"] is True
        assert "Writing needs a lead." in text
        assert asked["approval"] in text
        assert "with exactly the same arguments" in text
    del laptop.extra["PERCALL_APPROVAL_WAIT"]
    with laptop.client(server) as client:
        client.initialize()
        again = client.send("tools/call", dict(zip(("name", "arguments"), ASKED[server], strict=True)))
        assert answer(lead, who)["approval"] == asked["approval"]
        assert not client.receive(again)["result"].get("isError")
    decisions = [call["decision"] for call in asking.log(person=who)]
    assert decisions[0] == "permit"
    assert set(decisions[1:]) == {"ask"}


def test_a_denial_and_a_never_are_told_to_the_model(asking: Broker, lead: SigningLaptop, person: str) -> None:
    laptop = asking.enrol(person, "keyed", tools="get_*,create_*")
    with laptop.client("keyed") as client:
        client.initialize()
        denied = client.send("tools/call", {"name": "create_item", "arguments": {"name": "x"}})
        answer(lead, person, "deny")
        result = client.receive(denied)["result"]
        assert result["isError"] is True
        assert "lea has denied this call" in result["content"][0]["text"]
        refused = client.send("tools/call", {"name": "create_item", "arguments": {"name": "y"}})
        answer(lead, person, "never")
        assert "for good" in client.receive(refused)["result"]["content"][0]["text"]
        assert "for good" in client.call_text("create_item", {"name": "z"})


@pytest.mark.parametrize("server", ["keyed", "far"])
def test_a_restart_of_the_broker_in_between_is_not_noticed_and_the_call_is_made_once(
    asking: Broker, lead: SigningLaptop, person: str, server: str
) -> None:
    who = f"{person}-{server}"
    laptop = asking.enrol(who, server, tools="get_*,create_*")
    tool, arguments = ASKED[server]
    with laptop.client(server) as client:
        client.initialize()
        call = client.send("tools/call", {"name": tool, "arguments": arguments})
        waiting(lead, who)
        asking.stop()
        asking.start()
        answer(lead, who)
        result = client.receive(call)["result"]
        assert not result.get("isError"), result
        assert result["content"][0]["text"].startswith(("20", "item 7"))
    wait_for(
        lambda: [row["outcome"] for row in asking.log(person=who, tool=tool, decision="permit")] == ["done"],
        "one call was made, and its outcome is known",
    )


def test_a_cancelled_call_waits_no_more_and_is_not_made(
    asking: Broker, lead: SigningLaptop, upstream: Upstream, person: str
) -> None:
    laptop = asking.enrol(person, "keyed", tools="get_*,create_*")
    with laptop.client("keyed") as client:
        client.initialize()
        call = client.send("tools/call", {"name": "create_item", "arguments": {"name": "cancelled"}})
        waiting(lead, person)
        client.notify("notifications/cancelled", {"requestId": call})
        client.call("get_item", {"id": 1})
        before = len(upstream.with_real_key())
        answer(lead, person)
        assert client.call_text("get_item", {"id": 1}).startswith("200 ")
        assert len(upstream.with_real_key()) == before + 1
    assert not asking.log(person=person, tool="create_item", decision="permit")


@pytest.mark.usefixtures("lead")
def test_values_of_progress_rise_and_leave_room_for_the_server_s_own(asking: Broker, person: str) -> None:
    laptop = asking.enrol(person, "keyed", tools="get_*,create_*")
    laptop.extra["PERCALL_APPROVAL_WAIT"] = "7"
    with laptop.client("keyed") as client:
        client.initialize()
        params = {"name": "create_item", "arguments": {"name": "x"}, "_meta": {"progressToken": "t-1"}}
        assert client.request("tools/call", params)["result"]["isError"] is True
        told = [frame["params"] for frame in client.frames if frame.get("method") == "notifications/progress"]
    values = [one["progress"] for one in told]
    assert [one["progressToken"] for one in told] == ["t-1"] * 2
    assert values == sorted(set(values))
    assert 0 < values[0] < values[-1] < 1


# --- by a page that the client opens ----------------------------------------------------------------------------------


def test_a_client_that_opens_pages_is_given_the_broker_s_and_its_retry_passes(
    asking: Broker, lead: SigningLaptop, person: str
) -> None:
    laptop = asking.enrol(person, "far", tools="get_*")
    opened: list[str] = []

    async def open_page(_context: Any, params: Any) -> ElicitResult:
        opened.append(params.url)
        await asyncio.to_thread(answer, lead, person)
        return ElicitResult(action="accept")

    async def using(client: Client) -> Any:
        return await client.call_tool(*ASKED["far"])

    result = used(laptop, "far", using, mode="2026-07-28", elicitation_callback=open_page)
    assert not result.is_error, result
    (call,) = asking.log(person=person, decision="permit")
    assert opened == [f"{asking.url}/console/approvals/{call['approval']}"]


def test_the_child_gets_the_call_without_what_the_page_has_added(
    asking: Broker, lead: SigningLaptop, person: str
) -> None:
    """A client's word that the page was opened approves nothing: the retry waits until somebody has."""
    laptop = asking.enrol(person, "keyed", tools="get_*,create_*")
    meta = {
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientCapabilities": {"elicitation": {"url": {}}},
    }
    params = {"name": "create_item", "arguments": {"name": "x"}, "_meta": meta}
    with laptop.client("keyed") as client:
        result = client.request("tools/call", params)["result"]
        assert result["resultType"] == "input_required"
        accepted = {name: {"action": "accept"} for name in result["inputRequests"]}
        more = {"requestState": result["requestState"], "inputResponses": accepted}
        retry = client.send("tools/call", {**params, **more})
        asked = waiting(lead, person)
        assert not asking.log(person=person, decision="permit")
        assert asked["approval"] in result["requestState"]
        answer(lead, person)
        assert not client.receive(retry)["result"].get("isError")


# --- by the commands, at a terminal -----------------------------------------------------------------------------------


def person_at_a_terminal(asking: Broker, folder: Path, *command: str) -> Laptop:
    """Whoever an invite is for: logged in, with a passphrase that was typed."""
    made = json.loads(asking.administrator.administer(*command, "--json").stdout)
    laptop = Laptop(folder)
    login = ["login", asking.url, "--invite", made["invite"], "--keyring", "file"]
    said, code = at_a_terminal("percall", login, laptop.environment, [PASSPHRASE, PASSPHRASE])
    assert code == 0, said
    return laptop


def test_a_person_reads_and_answers_at_a_terminal_and_an_agent_without_one_does_not(
    asking: Broker, root: SigningLaptop, person: str, tmp_path: Path
) -> None:
    approver = person_at_a_terminal(asking, tmp_path / "approver", "person", "invite", "tess")
    join_the_leads(root, "tess")
    laptop = asking.enrol(person, "keyed", tools="get_*,create_*")

    def listed() -> list[str]:
        said = approver.administer("approval", "list", "--person", person, "--json").stdout
        return [json.loads(line)["approval"] for line in said.splitlines()]

    def answered(verb: str, approval: str, *more: str) -> str:
        arguments = ["approval", verb, approval, *more]
        said, code = at_a_terminal("percall-broker", arguments, approver.environment, [PASSPHRASE])
        assert code == 0, said
        assert PASSPHRASE not in said
        return said

    with laptop.client("keyed") as client:
        client.initialize()
        arguments = {"name": "pay\u202efdp", "size": 1.5}
        call = client.send("tools/call", {"name": "create_item", "arguments": arguments})
        wait_for(lambda: len(listed()) == 1, "it waits")
        (approval,) = listed()
        mine = [json.loads(line) for line in laptop.run("approvals", "--json").stdout.splitlines()]
        assert [(row["approval"], row["state"]) for row in mine] == [(approval, "pending")]
        without = approver.administer("approval", "allow", approval, check=False)
        assert without.returncode == 3
        assert "no terminal" in without.stderr
        said = answered("allow", approval, "--for", "10m", "--vary", "name")
        assert "pay\\u202efdp" in said
        assert "\u202e" not in said
        assert '"size": 1.5' in said
        assert "but for name, which may be anything" in said
        assert not client.receive(call)["result"].get("isError")
        assert not client.call("create_item", {"name": "another", "size": 1.5}).get("isError")
        shown = json.loads(approver.administer("approval", "show", approval, "--json").stdout)
        assert (shown["state"], shown["lasting"], shown["varying"]) == ("allowed", "active", ["name"])
        answered("lift", approval)
        again = client.send("tools/call", {"name": "create_item", "arguments": {"name": "x", "size": 1.5}})
        wait_for(lambda: len(listed()) == 1, "it waits again")
        (denied,) = listed()
        answered("deny", denied)
        assert "has denied" in client.receive(again)["result"]["content"][0]["text"]
        said, code = at_a_terminal("percall-broker", ["approval", "deny", denied], approver.environment, [])
        assert code == 2
        assert "is not open any more: denied. [approval.answered]" in said
    story = asking.administrator.administer("log", "changes", "--limit", "20").stdout
    assert "approval.allow" in story
    assert "approval.lift" in story


def test_whoever_of_a_machine_may_answer_does_whichever_login_is_the_newest(
    asking: Broker, root: SigningLaptop, person: str, tmp_path: Path
) -> None:
    """As where the administrator, a lead and a user are one machine, and a grant of it has ended."""
    machine = person_at_a_terminal(asking, tmp_path / "machine", "person", "invite", f"{person}-lead")
    join_the_leads(root, f"{person}-lead")
    made = json.loads(
        command("percall-broker", "invite", f"{person}-root", "--json", environment=asking.environment).stdout
    )
    login = ["login", asking.url, "--invite", made["invite"], "--keyring", "file", "--agent", "root"]
    said, code = at_a_terminal("percall", login, machine.environment, [PASSPHRASE, PASSPHRASE])
    assert code == 0, said
    machine.login(asking.url, asking.invite(person, "keyed", tools="get_*,create_*"), "--agent", "cursor")
    machine.login(asking.url, asking.invite(f"{person}-late", "keyed", tools="get_*"), "--agent", "late")
    late = next(row for row in map(json.loads, machine.run("status", "--json").stdout.splitlines())
                if row["agent"] == "late")  # fmt: skip
    asking.administrator.administer("grant", "revoke", late["grant"])

    def listed(*more: str) -> list[dict[str, Any]]:
        said = machine.administer("approval", "list", "--person", person, "--json", *more).stdout
        return [json.loads(line) for line in said.splitlines()]

    with machine.client("keyed", "--agent", "cursor") as client:
        client.initialize()
        call = client.send("tools/call", {"name": "create_item", "arguments": {"name": "x"}})
        wait_for(lambda: len(listed()) == 1, "it waits")
        assert not listed("--agent", "cursor"), "whose own question it is, and nobody's to answer"
        assert "revoked" in machine.administer("approval", "list", "--agent", "late", check=False).stderr
        arguments = ["approval", "allow", listed()[0]["approval"]]
        said, code = at_a_terminal("percall-broker", arguments, machine.environment, [PASSPHRASE])
        assert code == 0, said
        assert f"You answer as {person}-lead." in said
        assert not client.receive(call)["result"].get("isError")
    assert machine.administer("approval", "list", "--person", person).stdout == "Nothing waits for you.\n"
    unknown = machine.administer("approval", "show", "ap_none", check=False)
    assert "approval.unknown" in unknown.stderr


def test_who_asks_for_a_server_that_they_do_not_have_is_asked_whether_it_is_spelt_so(
    asking: Broker, person: str
) -> None:
    """It is not for the broker to tell them whether there is one."""
    laptop = asking.enrol(person, "keyed")
    asked = [laptop.run("request", server, "--tool", "get_other").stdout for server in ("keyed", "keyd")]
    assert ["No grant of yours names keyd so far" in said for said in asked] == [False, True]


def test_a_request_becomes_a_grant_that_run_uses_while_it_lasts(asking: Broker, person: str, tmp_path: Path) -> None:
    administrator = Laptop(tmp_path / "administrator")
    invite = json.loads(command("percall-broker", "invite", "ada", "--json", environment=asking.environment).stdout)
    login = ["login", asking.url, "--invite", invite["invite"], "--keyring", "file"]
    said, code = at_a_terminal("percall", login, administrator.environment, [PASSPHRASE, PASSPHRASE])
    assert code == 0, said
    laptop = asking.enrol(person, "keyed", tools="get_echo")
    with laptop.client("keyed") as client:
        client.initialize()
        refused = client.call_text("get_item", {"id": 1})
    assert "percall request keyed --tool get_item" in refused
    asked = json.loads(laptop.run("request", "keyed", "--tool", "get_item", "--for", "1h", "--json").stdout)
    (grant,) = {row["grant"] for row in map(json.loads, laptop.run("status", "--json").stdout.splitlines())}
    asking.administrator.administer("grant", "suspend", grant)
    assert "suspended" in laptop.run("status", check=False).stdout
    asking.administrator.administer("grant", "resume", grant)
    assert "Asked: ap_" in laptop.run("request", "keyed", "--tool", "get_other").stdout, "whatever was seen before"
    other = laptop.run("request", "keyed", "--tool", "get_item", "--agent", "cursor", check=False)
    assert "no login of agent 'cursor'" in other.stderr
    assert "Add --agent default." in other.stderr
    assert (
        f"{asked['approval']} waits for an answer at {asked['url']} (no reason given)" in laptop.run("approvals").stdout
    )
    again = laptop.run("request", "keyed", "--tool", "get_item", "--for", "1h", check=False)
    assert "being asked already" in again.stderr
    # Who administers may use servers too: their newest login here is not the one that may answer.
    own = ["grant", "create", "ada", "--server", "keyed", "--tools", "get_*"]
    said, code = at_a_terminal("percall-broker", own, administrator.environment, [PASSPHRASE])
    assert code == 0, said
    assert "a grant that waited for you" in administrator.run("status").stdout
    arguments = ["approval", "allow", asked["approval"]]
    said, code = at_a_terminal("percall-broker", arguments, administrator.environment, [PASSPHRASE])
    assert code == 0, said
    assert "a grant of keyed until" in said
    assert "get_item" in said.rpartition(": tools ")[2]
    laptop.run("status")
    with laptop.client("keyed") as client:
        client.initialize()
        assert client.call_text("get_item", {"id": 1}).startswith("200 ")
        assert client.call_text("get_echo", {"text": "still"})
