"""The broker away, in every way there is: the session stays open, calls say so, and work again by themselves."""

from __future__ import annotations

import json
import re
import signal
import sys
from typing import TYPE_CHECKING

import pytest

from harness.processes import SERVERS, Broker, Client, Laptop, keyed_entry, wait_for
from harness.upstream import CANARY, Upstream

if TYPE_CHECKING:
    from collections.abc import Iterator

SINCE = r"Broker unreachable since \d\d:\d\d, retrying\."


@pytest.fixture(scope="module")
def home_of_its_own(upstream: Upstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """A broker that these tests may stop."""
    with Broker(tmp_path_factory.mktemp("away")) as running:
        running.add_server("keyed", keyed_entry(upstream.url), CANARY)
        yield running


@pytest.fixture
def laptop(home_of_its_own: Broker, person: str) -> Laptop:
    return home_of_its_own.enrol(person, "keyed")


def assert_says_since_when(client: Client) -> None:
    result = client.call("get_item")
    assert result["isError"] is True
    assert re.search(SINCE, result["content"][0]["text"]), result


def assert_comes_back(client: Client) -> None:
    wait_for(lambda: not client.call("get_item").get("isError"), "calls work again")


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_a_broker_that_went_and_came_back_needs_no_restart_of_the_client(
    home_of_its_own: Broker, laptop: Laptop, how: signal.Signals
) -> None:
    with laptop.client("keyed") as client:
        client.initialize()
        assert client.call_text("get_item").startswith("200 ")
        home_of_its_own.stop(how)
        try:
            assert_says_since_when(client)
            assert client.request("tools/list")["result"]["tools"]
        finally:
            home_of_its_own.start()
        assert_comes_back(client)


def test_a_session_opens_while_the_broker_is_away_and_its_calls_work_once_it_is_there(
    home_of_its_own: Broker, laptop: Laptop
) -> None:
    home_of_its_own.stop()
    with laptop.client("keyed") as client:
        try:
            assert client.initialize()["result"]["serverInfo"]["name"] != "percall", "the server's own answer"
            assert client.request("tools/list")["result"]["tools"]
            assert_says_since_when(client)
        finally:
            home_of_its_own.start()
        assert_comes_back(client)


def test_a_broker_that_hangs_holds_up_no_call_for_long_and_is_used_once_it_answers(
    home_of_its_own: Broker, laptop: Laptop
) -> None:
    with laptop.client("keyed") as client:
        client.initialize()
        assert client.call_text("get_item").startswith("200 ")
        home_of_its_own.process.send_signal(signal.SIGSTOP)
        try:
            assert_says_since_when(client)
            assert client.request("tools/list")["result"]["tools"]
            assert_says_since_when(client)
        finally:
            home_of_its_own.process.send_signal(signal.SIGCONT)
        assert_comes_back(client)


def test_a_name_that_nobody_can_look_up_is_named(laptop: Laptop) -> None:
    (record,) = (laptop.home / "percall" / "logins").iterdir()
    login = json.loads(record.read_text())
    gone = "https://percall.invalid"
    record.write_text(json.dumps({**login, "broker": gone}))
    laptop.run("trust", "keyed", "--yes")
    with laptop.client("keyed") as client:
        assert "result" in client.initialize()
        assert client.request("tools/list")["result"]["tools"]
        text = client.call("get_item")["content"][0]["text"]
    assert "unreachable since" in text
    assert gone in text


PLAIN = """
[server]
title = "A server without a key"
delivery = "none"
command = ["{python}", "{script}"]
"""


def test_a_server_without_a_key_is_gated_and_logged_like_the_rest(home_of_its_own: Broker, person: str) -> None:
    home_of_its_own.add_server("plain", PLAIN.format(python=sys.executable, script=SERVERS / "keyed.py"), "")
    laptop = home_of_its_own.enrol(person, "plain", tools="get_echo")
    with laptop.client("plain") as client:
        client.initialize()
        assert [tool["name"] for tool in client.request("tools/list")["result"]["tools"]] == ["get_echo"]
        assert client.call_text("get_echo", {"text": "hello"}) == "hello"
        refused = client.call("get_item")
        assert "[grant.tool]" in refused["content"][0]["text"]
        home_of_its_own.stop()
        try:
            assert_says_since_when(client)
        finally:
            home_of_its_own.start()
        grant = home_of_its_own.rows("grant", "list")
        mine = next(row for row in grant if row["person"] == person)
        home_of_its_own.administrator.administer("grant", "revoke", mine.get("grant") or mine["id"])
        wait_for(lambda: "[grant.revoked]" in client.call("get_echo")["content"][0]["text"], "the revocation is heard")
    rows = {(row["tool"], row["decision"], row["outcome"]) for row in home_of_its_own.log(person=person)}
    assert {("get_echo", "permit", "done"), ("get_item", "forbid", "refused")} <= rows
