"""Calls that wait, for the broker, for another call, or for a person: none is made once nobody waits for it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from harness.processes import wait_for

if TYPE_CHECKING:
    from harness.processes import Client
    from unit.shim.run.conftest import Laptop
    from unit.shim.run.small_broker import SmallBroker


def tools(broker: SmallBroker) -> list[str]:
    """Those of the calls that the broker was asked about."""
    return [json.loads(call["frame"])["params"]["name"] for call in broker.calls]


def cancelled(client: Client, call: int) -> None:
    """The client has waited long enough, and the shim knows it."""
    client.notify("notifications/cancelled", {"requestId": call})
    client.request("ping")


def caught_up(laptop: Laptop, client: Client) -> None:
    """All that the broker has said until now is known to the shim, and what it asked for that is asked."""
    laptop.broker.push("session", laptop.in_state("suspended"))
    wait_for(lambda: client.call("echo").get("isError") is True, "the grant is suspended")
    laptop.broker.push("session", laptop.in_state("active"))
    wait_for(lambda: client.call("echo").get("isError") is not True, "the grant works again")


@pytest.mark.parametrize("then", ["echo", "asked", "forbidden"])
def test_a_call_that_is_cancelled_while_the_broker_decides_is_not_made(
    laptop: Laptop, broker: SmallBroker, then: str
) -> None:
    with laptop.client() as client:
        client.initialize()
        call = client.send("tools/call", {"name": f"late_{then}"})
        wait_for(lambda: len(broker.calls) == 1, "the broker is asked")
        cancelled(client, call)
        broker.decides.set()
        assert client.call_text("echo") == "echo"
        assert call not in {frame.get("id") for frame in client.frames}
        wait_for(lambda: len(broker.settled) == (2 if then == "echo" else 1), "all that was permitted is settled")
        wait_for(lambda: broker.streams == 1, "the stream is open")
        broker.push("approval", {"ids": ["ap_1"]})
        caught_up(laptop, client)
    assert tools(broker).count(f"late_{then}") == 1
    told = {settled["call"]: settled["outcome"] for settled in broker.settled}
    assert told.get(broker.calls[0]["jti"]) == ("refused" if then == "echo" else None)


def test_a_call_that_is_cancelled_while_another_one_is_open_is_not_even_asked_about(
    laptop: Laptop, broker: SmallBroker
) -> None:
    laptop.with_entry(delivery="egress", attribution="exact", hosts=("http://127.0.0.1:9",), placeholder="{random:16}")
    with laptop.client() as client:
        client.initialize()
        first = client.send("tools/call", {"name": "silent"})
        wait_for(lambda: len(broker.calls) == 1, "the first one is asked about")
        second, third = (client.send("tools/call", {"name": name}) for name in ("echo", "get_more"))
        cancelled(client, second)
        cancelled(client, first)
        assert client.receive(third)["result"]["content"][0]["text"] == "get_more"
    assert tools(broker) == ["silent", "get_more"], "one after another"


def test_a_call_that_waits_for_a_person_hears_that_its_grant_has_ended(laptop: Laptop, broker: SmallBroker) -> None:
    with laptop.client() as client:
        client.initialize()
        call = client.send("tools/call", {"name": "asked"})
        assert client.call_text("echo") == "echo", "nothing waits with it"
        wait_for(lambda: broker.streams == 1, "the stream is open")
        broker.push("session", laptop.in_state("suspended"))
        assert "suspended" in client.receive(call)["result"]["content"][0]["text"]
        broker.push("approval", {"ids": ["ap_1"]})
        caught_up(laptop, client)
    assert tools(broker).count("asked") == 1, "it is not asked about any more"


def test_a_client_without_patience_hears_at_once_what_its_call_waits_for(laptop: Laptop, broker: SmallBroker) -> None:
    laptop.environment["PERCALL_APPROVAL_WAIT"] = "0"
    with laptop.client() as client:
        client.initialize()
        assert "It waits for approval by leads." in client.call_text("asked")
        assert client.call_text("echo") == "echo"
    assert tools(broker) == ["asked", "echo"]


@pytest.mark.parametrize(("answer", "said"), [("nonsense", "decision"), ("endless", "too long")])
def test_an_answer_of_the_brokers_that_is_none_permits_nothing(
    laptop: Laptop, broker: SmallBroker, answer: str, said: str
) -> None:
    with laptop.client() as client:
        client.initialize()
        refused = client.call(answer)
        assert refused["isError"] is True
        assert said in refused["content"][0]["text"]
        assert client.call_text("echo") == "echo"
    assert len(broker.settled) == 1
