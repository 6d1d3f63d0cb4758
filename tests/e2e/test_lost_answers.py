"""Answers of the broker's that are lost on the way: nothing is done twice, and what is unknown is told as that."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from harness.lossy import LossyPath
from harness.processes import UnusualBroker, free_port, keyed_entry
from harness.remote import Remote, entry
from harness.upstream import CANARY

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harness.processes import Client
    from harness.upstream import Upstream

ERAS = ["", "2026-07-28"]


@pytest.fixture(scope="module")
def path() -> Iterator[LossyPath]:
    with LossyPath(free_port()) as path:
        yield path


@pytest.fixture(scope="module")
def broker(path: LossyPath, tmp_path_factory: pytest.TempPathFactory) -> Iterator[UnusualBroker]:
    serve = ("--listen", f"127.0.0.1:{path.port}", "--public-url", path.url)
    with UnusualBroker(tmp_path_factory.mktemp("lossy"), serve_arguments=serve) as broker:
        yield broker


@pytest.fixture(params=["it ends", "it is reset"])
def how(path: LossyPath, request: pytest.FixtureRequest) -> str:
    path.by_reset = request.param == "it is reset"
    return str(request.param)


def text_of(answer: dict[str, object]) -> str:
    result = answer["result"]
    assert isinstance(result, dict)
    return str(result["content"][0]["text"])


def attacks(broker: UnusualBroker, person: str) -> list[bytes]:
    """What the broker has told of attacks with the person's grant."""
    (grant,) = [row["grant"] for row in broker.rows("grant", "list") if row["person"] == person]
    return [line for line in broker.stderr.text if b"attack refused" in line and grant.encode() in line]


@pytest.fixture
def client(broker: UnusualBroker, upstream: Upstream, person: str) -> Iterator[Client]:
    """Of a server on the laptop, by a connection that has been used: its break could mean anything."""
    broker.add_server(f"keyed-{person}", keyed_entry(upstream.url), CANARY)
    with broker.enrol(person, f"keyed-{person}", tools="*").client(f"keyed-{person}") as client:
        client.initialize()
        assert client.call_text("get_item").startswith("200 ")
        yield client


@pytest.mark.parametrize("era", ERAS)
@pytest.mark.usefixtures("how")
def test_a_remote_call_whose_answer_is_lost_is_done_once_and_told_as_unknown(
    path: LossyPath, broker: UnusualBroker, person: str, era: str
) -> None:
    with Remote() as remote:
        broker.add_server(f"far-{person}", entry(remote.url), CANARY)
        laptop = broker.enrol(person, f"far-{person}", tools="*")
        with laptop.client(f"far-{person}") as client:
            if not era:
                client.initialize()
            asked = {"name": "get_item", "arguments": {}}
            assert "error" not in client.request("tools/call", asked, era=era)
            remote.seen.clear()
            path.lose(b"POST /mcp/")
            told = text_of(client.request("tools/call", {**asked, "name": "create_item"}, era=era))
    assert path.has_lost
    assert "[call.unknown]" in told
    assert "Whether the server did anything is unknown." in told
    assert sum(b"create_item" in seen.body for seen in remote.seen) == 1
    assert not attacks(broker, person)


@pytest.mark.usefixtures("how")
def test_an_api_request_whose_answer_is_lost_is_made_once_and_told_as_unknown(
    path: LossyPath, client: Client, upstream: Upstream
) -> None:
    upstream.seen.clear()
    path.lose(b"POST /v1/egress")
    told = client.call_text("create_item", {"n": 1})
    assert path.has_lost
    assert told.startswith("502 "), "a 503 says that nothing was done: many clients make the request again"
    assert "egress.unknown" in told
    assert upstream.with_real_key() == ["POST /items"]
    assert client.call_text("get_item").startswith("200 "), "the next one is well"


@pytest.mark.usefixtures("how")
def test_a_call_whose_permit_is_lost_is_asked_about_again_and_no_attack_is_told(
    path: LossyPath, broker: UnusualBroker, client: Client, person: str
) -> None:
    for request in (b"POST /v1/calls", b"POST /v1/egress"):
        path.lose(request)
        client.call("get_item")
        assert client.call_text("get_item").startswith("200 ")
        assert path.has_lost, request
    assert not attacks(broker, person)
