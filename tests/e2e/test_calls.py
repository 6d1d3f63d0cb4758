"""A call through the real commands: permitted, refused, attributed, recorded; both protocol eras."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from harness.processes import wait_for

if TYPE_CHECKING:
    from harness.processes import Broker
    from harness.upstream import Upstream


def test_a_permitted_call_reaches_the_upstream_with_the_real_key(
    broker: Broker, upstream: Upstream, person: str
) -> None:
    laptop = broker.enrol(person, "keyed")
    with laptop.client("keyed") as client:
        client.initialize()
        text = client.call_text("get_item", {"id": 41})
    assert text.startswith("200 "), text
    assert "GET /items/41" in upstream.with_real_key()


def test_the_child_sees_a_placeholder_in_the_keys_format_and_a_clean_environment(broker: Broker, person: str) -> None:
    laptop = broker.enrol(person, "keyed")
    laptop.extra["AWS_SECRET_ACCESS_KEY"] = "from the client's own environment"
    with laptop.client("keyed") as client:
        client.initialize()
        environment = json.loads(client.call_text("get_environment"))
    assert environment["API_KEY"].startswith("test_")
    assert len(environment["API_KEY"]) == len("test_") + 24
    assert "AWS_SECRET_ACCESS_KEY" not in environment
    assert not [name for name in environment if "PASSPHRASE" in name]


def test_a_tool_that_the_grant_does_not_name_is_refused_with_the_rule_and_what_to_do(
    broker: Broker, upstream: Upstream, person: str
) -> None:
    laptop = broker.enrol(person, "keyed")
    before = len(upstream.seen)
    with laptop.client("keyed") as client:
        client.initialize()
        result = client.call("create_item", {"name": "x"})
    assert result["isError"] is True
    assert "create_item" in result["content"][0]["text"]
    assert "grant" in result["content"][0]["text"]
    assert len(upstream.seen) == before


def test_a_read_tool_that_tries_to_write_gets_no_key_and_is_recorded(
    broker: Broker, upstream: Upstream, person: str
) -> None:
    laptop = broker.enrol(person, "keyed")
    with laptop.client("keyed") as client:
        client.initialize()
        text = client.call_text("get_sneaky")
    assert text.startswith("403 "), text
    assert not [seen for seen in upstream.seen if seen.method == "DELETE"]
    rows = broker.rows("log", "list", "--person", person)
    assert any(row["tool"] == "get_sneaky" for row in rows)


def test_the_key_is_redacted_from_an_upstream_that_echoes_it(broker: Broker, upstream: Upstream, person: str) -> None:
    laptop = broker.enrol(person, "keyed")
    with laptop.client("keyed") as client:
        client.initialize()
        text = client.call_text("get_reflection")
    assert text.startswith("200 ")
    assert upstream.key not in text


def test_the_tools_list_is_filtered_by_the_grant(broker: Broker, person: str) -> None:
    laptop = broker.enrol(person, "keyed", tools="get_item,create_*")
    with laptop.client("keyed") as client:
        client.initialize()
        names = {tool["name"] for tool in client.request("tools/list")["result"]["tools"]}
    assert names == {"get_item", "create_item"}


def test_the_stateless_era_passes_and_its_refusals_say_that_they_are_complete(broker: Broker, person: str) -> None:
    laptop = broker.enrol(person, "keyed")
    era = "2026-07-28"
    with laptop.client("keyed") as client:
        discovered = client.request("server/discover", {}, era=era)
        listed = client.request("tools/list", {}, era=era)["result"]
        allowed = client.request("tools/call", {"name": "get_item", "arguments": {}}, era=era)["result"]
        refused = client.request("tools/call", {"name": "delete_item", "arguments": {}}, era=era)["result"]
    assert discovered["result"]["supportedVersions"] == [era]
    assert listed["cacheScope"] == "private"
    assert allowed["content"][0]["text"].startswith("200 ")
    assert refused["isError"] is True
    assert refused["resultType"] == "complete"


def test_every_call_is_recorded_with_who_what_decision_and_outcome(broker: Broker, person: str) -> None:
    laptop = broker.enrol(person, "keyed")
    with laptop.client("keyed") as client:
        client.initialize()
        client.call("get_item")
        client.call("delete_item")
    rows: list[dict[str, object]] = []

    def settled() -> bool:
        rows[:] = broker.log(person=person)
        return len(rows) == 2 and all(row["outcome"] for row in rows)

    wait_for(settled, "two settled calls in the log")
    by_tool = {row["tool"]: row for row in rows}
    assert set(by_tool) == {"get_item", "delete_item"}
    permitted, refused = by_tool["get_item"], by_tool["delete_item"]
    assert (permitted["decision"], permitted["outcome"]) == ("permit", "done")
    assert (refused["decision"], refused["outcome"]) == ("forbid", "refused")
    wanted = {"call", "time", "device", "reason", "duration_ms"}
    for row in rows:
        assert wanted <= set(row)
        assert row["person"] == person
        assert row["agent"] == "default"
        assert row["server"] == "keyed"


def test_arguments_are_shown_to_an_administrator_only_and_that_is_recorded(broker: Broker, person: str) -> None:
    laptop = broker.enrol(person, "keyed")
    with laptop.client("keyed") as client:
        client.initialize()
        client.call("get_echo", {"text": "a needle in the arguments"})
    call = str(broker.log(person=person)[0]["call"])
    without = broker.administrator.administer("log", "show", call)
    assert "a needle" not in without.stdout
    assert "agent: default (declared by the device, not proven)" in without.stdout
    shown = broker.administrator.administer("log", "show", call, "--arguments")
    assert "a needle in the arguments" in shown.stdout
    again = broker.administrator.administer("log", "show", call, "--json")
    assert "reading" in again.stdout
    mine = laptop.administer("log", "show", call, "--arguments", check=False)
    assert mine.returncode != 0
    assert "needle" not in mine.stdout + mine.stderr


def test_my_own_calls_are_listed_on_my_laptop(broker: Broker, person: str) -> None:
    laptop = broker.enrol(person, "keyed")
    with laptop.client("keyed") as client:
        client.initialize()
        client.call("get_item")
    rows = [json.loads(line) for line in laptop.run("log", "--json").stdout.splitlines()]
    assert {row["tool"] for row in rows} == {"get_item"}
    assert {row["person"] for row in rows} == {person}


def test_a_server_launched_by_a_command_given_here_is_gated_the_same(broker: Broker, person: str) -> None:
    laptop = broker.enrol(person, "keyed")
    command = broker.rows("server", "show", "keyed")[0]["command"]
    with laptop.client("keyed", "--", *command) as client:
        client.initialize()
        assert client.call_text("get_item").startswith("200 ")
        assert client.call("delete_item")["isError"] is True


def test_the_csv_of_the_log_has_a_header_and_a_row_a_call(broker: Broker, person: str) -> None:
    laptop = broker.enrol(person, "keyed")
    with laptop.client("keyed") as client:
        client.initialize()
        client.call("get_item")
    lines = broker.administrator.administer("log", "list", "--person", person, "--csv").stdout.splitlines()
    assert lines[0].split(",")[:2] == ["call", "time"]
    assert len(lines) == 2
