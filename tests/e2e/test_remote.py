"""Remote servers of the `mcp` SDK behind the broker's door, used by the SDK's own client, in both eras."""

from __future__ import annotations

import asyncio
import json
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import psutil
import pytest
from mcp import Client
from mcp.types import ElicitResult

from conformance.ways import FIXTURES, listening
from harness.processes import wait_for
from harness.remote import entry
from harness.sdk import ERAS, KEYED, text_of
from harness.signing import SigningLaptop
from harness.signing_proxy import SigningProxy
from harness.upstream import CANARY

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from harness.processes import Broker


@pytest.fixture(scope="module")
def remote(broker: Broker) -> Iterator[str]:
    with listening(KEYED) as url:
        broker.add_server("remote", entry(url), CANARY)
        yield url


@pytest.fixture(scope="module")
def fixtures(broker: Broker) -> Iterator[str]:
    with listening(FIXTURES) as url:
        broker.add_server("fixtures", entry(url.removesuffix("/mcp"), slots=""), "")
        yield url


@contextmanager
def door(broker: Broker, person: str, server: str, tools: str) -> Iterator[str]:
    """The URL at which a client finds the server with this person's grant."""
    invite = broker.invite(person, server, tools=tools)
    with SigningProxy(SigningLaptop.enrolled(broker.url, invite)) as proxy:
        yield proxy.door(server)


def used(url: str, using: Callable[[Client], Awaitable[Any]], **how: Any) -> Any:
    async def session() -> Any:
        async with asyncio.timeout(30), Client(url, **how) as client:
            return await using(client)

    return asyncio.run(session())


@pytest.mark.parametrize("era", ERAS)
@pytest.mark.usefixtures("remote")
def test_a_client_of_the_sdk_lists_calls_and_is_refused(broker: Broker, person: str, era: str) -> None:
    async def using(client: Client) -> None:
        assert [tool.name for tool in (await client.list_tools()).tools] == [
            "get_item", "get_key", "get_large", "get_steps", "get_going",
        ]  # fmt: skip
        assert text_of(await client.call_tool("get_item", {"id": 7})) == "item 7"
        refused = await client.call_tool("delete_item", {"id": 7})
        assert refused.is_error
        assert "does not name the tool 'delete_item'" in text_of(refused)
        steps: list[float] = []

        async def progress(progress: float, total: float | None, message: str | None) -> None:  # noqa: ARG001 - by name
            steps.append(progress)

        assert text_of(await client.call_tool("get_steps", {"steps": 3}, progress_callback=progress)) == "3 steps"
        assert steps == [0, 1, 2]

    with door(broker, person + era[:4], "remote", "get_*") as url:
        used(url, using, mode=era)
    wait_for(lambda: len(broker.log(person=person + era[:4])) == 3, "three calls")
    wait_for(
        lambda: [row["outcome"] for row in broker.log(person=person + era[:4])] == ["done", "refused", "done"],
        "their outcomes",
    )


@pytest.mark.parametrize("era", ERAS)
@pytest.mark.usefixtures("remote")
def test_the_servers_key_never_reaches_the_client(broker: Broker, person: str, era: str) -> None:
    async def using(client: Client) -> str:
        return text_of(await client.call_tool("get_key", {}))

    with door(broker, person + era[:4], "remote", "get_*") as url:
        said = used(url, using, mode=era)
    assert "bearer" in said.lower()
    assert CANARY not in said
    assert "*" * len(CANARY) in said


@pytest.mark.usefixtures("fixtures")
def test_what_a_server_asks_of_the_client_passes_but_for_its_model(broker: Broker, person: str) -> None:
    async def accept(_context: Any, _params: Any) -> ElicitResult:
        return ElicitResult(action="accept", content={"response": "ada"})

    async def never(_context: Any, _params: Any) -> Any:
        raise AssertionError("the client's model was asked")

    async def using(client: Client) -> None:
        elicited = await client.call_tool("test_elicitation", {"message": "who?"})
        assert "ada" in text_of(elicited)
        sampled = await client.call_tool("test_sampling", {"prompt": "say"})
        assert "Sampling was refused" in text_of(sampled)
        assert "sampling = true" in text_of(sampled)

    with door(broker, person, "fixtures", "test_*") as url:
        used(url, using, mode="legacy", elicitation_callback=accept, sampling_callback=never)
    (sampling, elicitation) = broker.log(person=person)
    shown = broker.rows("log", "show", elicitation["call"])
    assert '"elicitation/create":1' in json.dumps(shown).replace('\\"', '"').replace(": ", ":")
    assert sampling["decision"] == "permit"


@pytest.mark.usefixtures("fixtures")
def test_a_stream_that_the_server_broke_off_is_resumed(broker: Broker, person: str) -> None:
    async def using(client: Client) -> str:
        return text_of(await client.call_tool("test_reconnection", {}))

    with door(broker, person, "fixtures", "test_*") as url:
        assert used(url, using, mode="legacy")
    wait_for(lambda: broker.log(person=person)[0]["outcome"] == "done", "the call's outcome")


@pytest.mark.usefixtures("fixtures")
def test_a_notification_of_the_sessions_own_stream_arrives(broker: Broker, person: str) -> None:
    async def using(client: Client) -> None:
        await client.call_tool("announce", {})
        await asyncio.wait_for(came.wait(), 20)

    came = asyncio.Event()

    async def handler(message: Any) -> None:
        if "list_changed" in str(message):
            came.set()

    with door(broker, person, "fixtures", "*") as url:
        used(url, using, mode="legacy", message_handler=handler)


@pytest.mark.parametrize("era", ERAS)
@pytest.mark.usefixtures("fixtures")
def test_a_revocation_ends_a_call_that_is_under_way(broker: Broker, person: str, era: str) -> None:
    who = person + era[:4]

    async def using(client: Client) -> str:
        calling = asyncio.create_task(client.call_tool("hold", {"name": who}))
        await asyncio.to_thread(wait_for, lambda: bool(broker.log(person=who)), "the call")
        (row,) = broker.log(person=who)
        await asyncio.to_thread(broker.administrator.administer, "grant", "revoke", row["grant"])
        return text_of(await calling)

    with door(broker, who, "fixtures", "*") as url:
        assert "revoked" in used(url, using, mode=era)
    wait_for(lambda: broker.log(person=who)[0]["outcome"] == "unknown", "the call's outcome")


@pytest.mark.usefixtures("remote")
def test_a_session_outlives_a_restart_of_the_broker(broker: Broker, person: str) -> None:
    async def using(client: Client) -> str:
        await client.call_tool("get_item", {"id": 1})
        await asyncio.to_thread(broker.stop)
        await asyncio.to_thread(broker.start)
        return text_of(await client.call_tool("get_item", {"id": 2}))

    with door(broker, person, "remote", "get_*") as url:
        assert used(url, using, mode="legacy") == "item 2"


@pytest.mark.usefixtures("remote")
def test_many_streams_at_once_stay_small_and_none_is_starved(broker: Broker, person: str) -> None:
    steps, streams = 400, 12

    async def all_of_them(url: str) -> list[str]:
        begun = {number: asyncio.Event() for number in range(streams)}

        async def one(number: int) -> str:
            async def progress(progress: float, total: float | None, message: str | None) -> None:  # noqa: ARG001 - by name
                begun[number].set()

            arguments = {"steps": steps, "pause": True}
            async with Client(url, mode="2026-07-28") as client:
                return text_of(await client.call_tool("get_steps", arguments, progress_callback=progress))

        async with asyncio.timeout(60), asyncio.TaskGroup() as group:
            tasks = [group.create_task(one(number)) for number in range(streams)]
            for event in begun.values():  # everyone has had a share before anyone can be done
                await event.wait()
            async with Client(url, mode="2026-07-28") as client:
                await client.call_tool("get_going", {})
        return [task.result() for task in tasks]

    process = psutil.Process(broker.process.pid)
    before = process.memory_info().rss
    with door(broker, person, "remote", "get_*") as url:
        assert asyncio.run(all_of_them(url)) == [f"{steps} steps"] * streams
    assert process.memory_info().rss - before < 64 * 1024 * 1024
