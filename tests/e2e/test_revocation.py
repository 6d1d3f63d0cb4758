"""One grant ends, now, and nobody else notices."""

from __future__ import annotations

from typing import TYPE_CHECKING

import psutil
import pytest

from harness.processes import keyed_entry, wait_for
from harness.upstream import CANARY

if TYPE_CHECKING:
    from pathlib import Path

    from harness.processes import Broker, Laptop
    from harness.upstream import Upstream


def grant_of(broker: Broker, person: str) -> str:
    return next(str(row["grant"]) for row in broker.rows("grant", "list") if row["person"] == person)


def children_named(pid: int, script: str) -> list[psutil.Process]:
    return [p for p in psutil.Process(pid).children(recursive=True) if any(script in part for part in p.cmdline())]


def test_a_revoked_grant_is_refused_at_the_very_next_call_and_the_child_is_stopped(broker: Broker, person: str) -> None:
    laptop = broker.enrol(person, "keyed")
    with laptop.client("keyed") as client:
        client.initialize()
        assert client.call_text("get_item").startswith("200 ")
        children = children_named(client.process.pid, "keyed.py")
        assert children
        broker.administrator.administer("grant", "revoke", grant_of(broker, person))
        result = client.call("get_item")
        assert result["isError"] is True
        assert "revoked" in result["content"][0]["text"]
        wait_for(lambda: not any(child.is_running() for child in children), "the child is stopped")
        assert client.call("get_item")["isError"] is True
        assert client.process.poll() is None


def test_revoking_one_persons_grant_disturbs_nobody_else(broker: Broker, person: str) -> None:
    leaver, colleague = broker.enrol(person, "keyed"), broker.enrol(person + "b", "keyed")
    with leaver.client("keyed") as one, colleague.client("keyed") as other:
        one.initialize()
        other.initialize()
        assert one.call_text("get_item").startswith("200 ")
        assert other.call_text("get_item").startswith("200 ")
        broker.administrator.administer("grant", "revoke", grant_of(broker, person))
        assert one.call("get_item")["isError"] is True
        assert other.call_text("get_item").startswith("200 ")


def test_the_next_request_of_an_open_window_is_refused_after_a_revocation(
    broker: Broker, upstream: Upstream, person: str, tmp_path: Path
) -> None:
    laptop = broker.enrol(person, "keyed")
    flag = tmp_path / "revoked"
    with laptop.client("keyed") as client:
        client.initialize()
        before = len(upstream.with_real_key())
        call = client.send("tools/call", {"name": "get_twice", "arguments": {"wait_for": str(flag)}})
        client.stderr.until(b"first request done")
        assert len(upstream.with_real_key()) == before + 1
        broker.administrator.administer("grant", "revoke", grant_of(broker, person))
        flag.touch()
        result = client.receive(call)["result"]
    assert result["isError"] is True
    assert len(upstream.with_real_key()) == before + 1


def test_an_open_stream_of_a_revoked_grant_is_cut(broker: Broker, upstream: Upstream, person: str) -> None:
    laptop = broker.enrol(person, "keyed")
    with laptop.client("keyed") as client:
        client.initialize()
        call = client.send("tools/call", {"name": "get_stream", "arguments": {}})
        wait_for(lambda: any(seen.path == "/stream" for seen in upstream.seen), "the stream is open")
        broker.administrator.administer("grant", "revoke", grant_of(broker, person))
        result = client.receive(call, 5)["result"]
    assert result["isError"] is True


def suspended_answer(broker: Broker, laptop: Laptop, person: str, verb: str) -> dict[str, object]:
    broker.administrator.administer("grant", verb, grant_of(broker, person))
    with laptop.client("keyed") as client:
        client.initialize()
        return client.call("get_item")


def test_a_suspended_grant_is_refused_and_works_again_when_resumed(broker: Broker, person: str) -> None:
    laptop = broker.enrol(person, "keyed")
    refused = suspended_answer(broker, laptop, person, "suspend")
    assert refused["isError"] is True
    assert "suspended" in str(refused)
    assert not suspended_answer(broker, laptop, person, "resume").get("isError")


@pytest.mark.parametrize("resumed", ["before the client starts", "while it runs"])
def test_what_was_suspended_when_it_was_last_seen_reaches_the_api_once_it_is_resumed(
    broker: Broker, person: str, resumed: str
) -> None:
    laptop = broker.enrol(person, "keyed")
    grant = grant_of(broker, person)
    broker.administrator.administer("grant", "suspend", grant)
    laptop.run("status", check=False)
    if resumed == "before the client starts":
        broker.administrator.administer("grant", "resume", grant)
    with laptop.client("keyed") as client:
        client.initialize()
        if resumed == "while it runs":
            assert "suspended" in client.call_text("get_item")
            broker.administrator.administer("grant", "resume", grant)
            wait_for(lambda: "suspended" not in client.call_text("get_echo", {"text": "x"}), "it is resumed")
        assert client.call_text("get_item").startswith("200 ")


def test_a_resumed_grant_works_again_in_the_session_that_was_suspended(broker: Broker, person: str) -> None:
    laptop = broker.enrol(person, "keyed")
    with laptop.client("keyed") as client:
        client.initialize()
        broker.administrator.administer("grant", "suspend", grant_of(broker, person))
        assert client.call("get_item")["isError"] is True


def test_a_removed_server_is_told_as_that_and_used_once_it_is_added_again(
    broker: Broker, upstream: Upstream, person: str
) -> None:
    server = f"keyed-{person}"
    broker.add_server(server, keyed_entry(upstream.url), CANARY)
    with broker.enrol(person, server).client(server) as client:
        client.initialize()
        broker.administrator.administer("server", "remove", server)
        client.stderr.until(b"[server.removed]")
        for _ in range(2):  # by the broker or by the shim
            assert "no longer in the broker's catalogue" in client.call_text("get_item")
        broker.add_server(server, keyed_entry(upstream.url), CANARY)
        wait_for(lambda: not client.call("get_item").get("isError"), "it is there again")
