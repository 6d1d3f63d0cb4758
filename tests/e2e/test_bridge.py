"""`percall run` in front of remote servers: the SDK's own stdio client, the broker's door, the SDK's own servers."""

from __future__ import annotations

import asyncio
import json
import queue
import subprocess
from typing import TYPE_CHECKING, Any

import psutil
import pytest
from mcp.types import ElicitResult

from conformance.ways import FIXTURES, listening
from harness.processes import COMMANDS, Laptop, wait_for
from harness.remote import Remote, entry
from harness.sdk import ERAS, KEYED, text_of, used
from harness.upstream import CANARY

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from mcp import Client

    from harness.processes import Broker
    from harness.remote import Exchange


@pytest.fixture(scope="module")
def remote(broker: Broker) -> Iterator[str]:
    with listening(KEYED) as url:
        broker.add_server("far", entry(url), CANARY)
        yield "far"


@pytest.fixture(scope="module")
def fixtures(broker: Broker) -> Iterator[str]:
    with listening(FIXTURES) as url:
        broker.add_server("far-fixtures", entry(url.removesuffix("/mcp"), slots=""), "")
        yield "far-fixtures"


def laptop_of(broker: Broker, folder: Path, person: str, server: str, tools: str) -> Laptop:
    laptop = Laptop(folder / "laptop")
    laptop.login(broker.url, broker.invite(person, server, tools=tools))
    return laptop


@pytest.mark.parametrize("era", ERAS)
def test_a_client_lists_calls_hears_progress_and_is_refused(
    broker: Broker, remote: str, person: str, tmp_path: Path, era: str
) -> None:
    async def using(client: Client) -> None:
        assert [tool.name for tool in (await client.list_tools()).tools] == [
            "get_item", "get_key", "get_large", "get_steps", "get_going",
        ]  # fmt: skip
        assert text_of(await client.call_tool("get_item", {"id": 7})) == "item 7"
        refused = await client.call_tool("delete_item", {"id": 7})
        assert refused.is_error
        assert "does not name the tool 'delete_item'" in text_of(refused)
        assert CANARY not in text_of(await client.call_tool("get_key", {}))
        steps: list[float] = []

        async def progress(progress: float, total: float | None, message: str | None) -> None:  # noqa: ARG001 - by name
            steps.append(progress)

        assert text_of(await client.call_tool("get_steps", {"steps": 3}, progress_callback=progress)) == "3 steps"
        assert steps == [0, 1, 2]
        assert len(text_of(await client.call_tool("get_large", {"characters": 3_000_000}))) == 3_000_000

    who = person + era[:4]
    used(laptop_of(broker, tmp_path, who, remote, "get_*"), remote, using, mode=era)
    wait_for(
        lambda: [row["outcome"] for row in broker.log(person=who)] == ["done", "done", "done", "refused", "done"],
        "the outcomes",
    )


def test_what_a_server_asks_of_the_client_passes_but_for_its_model(
    broker: Broker, fixtures: str, person: str, tmp_path: Path
) -> None:
    async def accept(_context: Any, _params: Any) -> ElicitResult:
        return ElicitResult(action="accept", content={"response": "ada"})

    async def never(_context: Any, _params: Any) -> Any:
        raise AssertionError("the client's model was asked")

    async def using(client: Client) -> None:
        assert "ada" in text_of(await client.call_tool("test_elicitation", {"message": "who?"}))
        assert "Sampling was refused" in text_of(await client.call_tool("test_sampling", {"prompt": "say"}))

    laptop = laptop_of(broker, tmp_path, person, fixtures, "test_*")
    used(laptop, fixtures, using, mode="legacy", elicitation_callback=accept, sampling_callback=never)


def test_a_notification_of_the_sessions_own_stream_arrives(
    broker: Broker, fixtures: str, person: str, tmp_path: Path
) -> None:
    came = asyncio.Event()

    async def handler(message: Any) -> None:
        if "list_changed" in str(message):
            came.set()

    async def using(client: Client) -> None:
        await client.call_tool("announce", {})
        await asyncio.wait_for(came.wait(), 20)

    used(laptop_of(broker, tmp_path, person, fixtures, "*"), fixtures, using, mode="legacy", message_handler=handler)


@pytest.mark.parametrize("era", ERAS)
def test_sixteen_calls_at_once_each_get_their_own_answer(
    broker: Broker, remote: str, person: str, tmp_path: Path, era: str
) -> None:
    async def using(client: Client) -> list[str]:
        calls = [client.call_tool("get_item", {"id": number}) for number in range(16)]
        return [text_of(result) for result in await asyncio.gather(*calls)]

    laptop = laptop_of(broker, tmp_path, person + era[:4], remote, "get_*")
    assert used(laptop, remote, using, mode=era) == [f"item {number}" for number in range(16)]


@pytest.mark.parametrize("era", ERAS)
def test_a_cancelled_call_ends_at_the_server_too(
    broker: Broker, fixtures: str, person: str, tmp_path: Path, era: str
) -> None:
    who = person + era[:4]

    async def using(client: Client) -> None:
        calling = asyncio.create_task(client.call_tool("hold", {"name": who}))
        await asyncio.to_thread(wait_for, lambda: bool(broker.log(person=who)), "the call")
        calling.cancel()
        await asyncio.gather(calling, return_exceptions=True)
        await asyncio.to_thread(wait_for, lambda: broker.log(person=who)[-1]["outcome"] != "", "its outcome")
        assert text_of(await client.call_tool("test_simple_text", {}))

    used(laptop_of(broker, tmp_path, who, fixtures, "*"), fixtures, using, mode=era)


@pytest.mark.parametrize("era", ERAS)
def test_a_revocation_ends_a_call_that_is_under_way_and_says_so(
    broker: Broker, fixtures: str, person: str, tmp_path: Path, era: str
) -> None:
    who = person + era[:4]

    async def using(client: Client) -> tuple[str, str]:
        calling = asyncio.create_task(client.call_tool("hold", {"name": who}))
        await asyncio.to_thread(wait_for, lambda: bool(broker.log(person=who)), "the call")
        (row,) = broker.log(person=who)
        await asyncio.to_thread(broker.administrator.administer, "grant", "revoke", row["grant"])
        return text_of(await calling), text_of(await client.call_tool("test_simple_text", {}))

    under_way, next_one = used(laptop_of(broker, tmp_path, who, fixtures, "*"), fixtures, using, mode=era)
    assert "revoked" in under_way
    assert "revoked" in next_one


def test_a_session_outlives_a_restart_of_the_broker(broker: Broker, remote: str, person: str, tmp_path: Path) -> None:
    async def using(client: Client) -> tuple[str, str]:
        await client.call_tool("get_item", {"id": 1})
        await asyncio.to_thread(broker.stop)
        away = text_of(await client.call_tool("get_item", {"id": 2}))
        await asyncio.to_thread(broker.start)
        return away, text_of(await client.call_tool("get_item", {"id": 3}))

    away, back = used(laptop_of(broker, tmp_path, person, remote, "get_*"), remote, using, mode="legacy")
    assert "unreachable since" in away
    assert back == "item 3"


def test_a_session_that_the_server_forgot_is_opened_again(broker: Broker, person: str, tmp_path: Path) -> None:
    with listening(KEYED) as url:
        broker.add_server("forgetful", entry(url), CANARY)
        port = url.rsplit(":", 1)[1]

    async def using(client: Client) -> tuple[str, list[str], str]:
        await client.call_tool("get_item", {"id": 1})
        first.__exit__(None, None, None)
        with listening([*KEYED, "--port", port]):
            told = text_of(await client.call_tool("get_item", {"id": 2}))
            names = [tool.name for tool in (await client.list_tools()).tools]
            return told, names, text_of(await client.call_tool("get_item", {"id": 3}))

    first = listening([*KEYED, "--port", port])
    first.__enter__()
    laptop = laptop_of(broker, tmp_path, person, "forgetful", "get_*")
    told, names, after = used(laptop, "forgetful", using, mode="legacy")
    assert "it has not done this" in told, "a call is never sent twice"
    assert "get_item" in names
    assert after == "item 3"


def test_a_call_that_broke_off_is_never_sent_again(broker: Broker, person: str, tmp_path: Path) -> None:
    with Remote() as far:
        broker.add_server("breaking", entry(far.url), CANARY)
        far.behaviours["get_item"] = lambda exchange: exchange.head(200, "text/event-stream", {})
        laptop = laptop_of(broker, tmp_path, person, "breaking", "get_*")
        with laptop.client("breaking") as client:
            client.initialize()
            assert client.call("get_item")["isError"] is True
        calls = [one for one in far.seen if b'"tools/call"' in one.body]
        assert len(calls) == 1


def test_an_answer_that_broke_off_is_fetched_to_its_end(broker: Broker, person: str, tmp_path: Path) -> None:
    asked: list[Any] = []

    def broken_off(exchange: Exchange) -> None:
        asked.append(exchange.message["id"])
        exchange.head(200, "text/event-stream", {})
        exchange.write(b"id: event-1\nretry: 1\ndata:\n\n")

    def resumed(exchange: Exchange) -> None:
        if exchange.headers["last-event-id"] is None:
            exchange.json(b"", 405)
            return
        assert exchange.headers["last-event-id"] == "event-1"
        exchange.events({"jsonrpc": "2.0", "id": asked[0], "result": {"content": [{"type": "text", "text": "rest"}]}})

    with Remote() as far:
        broker.add_server("resumed", entry(far.url), CANARY)
        far.behaviours |= {"get_item": broken_off, "GET": resumed}
        laptop = laptop_of(broker, tmp_path, person, "resumed", "get_*")
        with laptop.client("resumed") as client:
            client.initialize()
            assert client.call_text("get_item") == "rest"
    assert len(asked) == 1
    wait_for(lambda: [row["outcome"] for row in broker.log(person=person)] == ["done"], "the outcome")


@pytest.mark.parametrize("era", ["", "2026-07-28"])
def test_a_cancellation_reaches_the_server_in_its_eras_way(
    broker: Broker, person: str, tmp_path: Path, era: str
) -> None:
    """The stateless era closes the stream; the old one sends a notification."""

    def beating(exchange: Exchange) -> None:
        exchange.head(200, "text/event-stream", {})
        exchange.until_the_client_leaves()

    who, name = person + era[:4], f"cancelled{era[:4]}"
    with Remote() as far:
        broker.add_server(name, entry(far.url), CANARY)
        far.behaviours |= {"get_item": beating, "GET": lambda exchange: exchange.json(b"", 405)}
        laptop = laptop_of(broker, tmp_path, who, name, "get_*")
        with laptop.client(name) as client:
            if not era:
                client.initialize()
            call = client.send("tools/call", {"name": "get_item", "arguments": {}}, era=era)
            wait_for(lambda: any(b'"get_item"' in body for body in far.bodies()), "the call")
            client.notify("notifications/cancelled", {"requestId": call})
            if era:
                assert far.gone.wait(20)
            wait_for(lambda: bool(era) or any(b"notifications/cancelled" in body for body in far.bodies()), "the word")
            assert far.gone.wait(20)
    wait_for(lambda: [row["outcome"] for row in broker.log(person=who)] == ["unknown"], "the outcome")


def test_a_client_that_does_not_read_holds_the_server_back_through_shim_and_broker(
    broker: Broker, person: str, tmp_path: Path
) -> None:
    taken: queue.Queue[int] = queue.Queue()
    with Remote() as far:
        broker.add_server("flooding", entry(far.url), CANARY)
        far.behaviours["get_item"] = lambda exchange: taken.put(exchange.flood())
        laptop = laptop_of(broker, tmp_path, person, "flooding", "get_*")
        meta = {
            "io.modelcontextprotocol/protocolVersion": "2026-07-28",
            "io.modelcontextprotocol/clientCapabilities": {},
        }
        call = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "get_item", "_meta": meta}}
        with subprocess.Popen(
            [str(COMMANDS / "percall"), "run", "flooding"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=laptop.environment,
        ) as shim:
            assert shim.stdin is not None
            shim.stdin.write(json.dumps(call).encode() + b"\n")
            shim.stdin.flush()
            assert taken.get(timeout=30) < 256
            for process in (shim.pid, broker.process.pid):
                assert psutil.Process(process).memory_info().rss < 256 * 1024 * 1024
            shim.kill()


def test_a_remote_server_has_no_command_to_replace(broker: Broker, remote: str, person: str, tmp_path: Path) -> None:
    laptop = laptop_of(broker, tmp_path, person, remote, "get_*")
    done = laptop.run("run", remote, "--", "echo", check=False)
    assert done.returncode == 2
    assert "is a remote one" in done.stderr
