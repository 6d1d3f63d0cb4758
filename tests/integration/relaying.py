"""What the tests of the door to remote servers share: messages, and what came of them."""

from __future__ import annotations

import contextlib
import json
from typing import TYPE_CHECKING, Any

from harness.processes import wait_for
from percall import wire

if TYPE_CHECKING:
    import http.client
    from collections.abc import Iterator, Mapping

    from harness.signing import Answer, SigningLaptop


def request(method: str, params: Any = None, identifier: Any = 1) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": identifier, "method": method, "params": params or {}}


def call(tool: str, arguments: Any = None) -> dict[str, Any]:
    return request("tools/call", {"name": tool, "arguments": arguments or {}})


def events_of(answer: Answer) -> list[dict[str, Any]]:
    assert answer.headers["content-type"] == "text/event-stream", answer.body
    lines = answer.body.decode(errors="replace").splitlines()
    return [json.loads(line.removeprefix("data: ")) for line in lines if line.startswith("data: {")]


def settled(laptop: SigningLaptop, outcome: str) -> dict[str, Any]:
    """The newest call, once it has this outcome."""
    wait_for(lambda: bool(laptop.log()) and laptop.log()[0]["outcome"] == outcome, f"a call that is {outcome}")
    return laptop.log()[0]


def refusal_code(answer: Answer) -> str:
    assert answer.status == 200, answer.body
    text = str(answer.json["result"]["content"][0]["text"])
    assert answer.json["result"]["isError"] is True
    return text.rpartition("[")[2].rstrip("]")


def opened(laptop: SigningLaptop, server: str = "remote") -> dict[str, str]:
    """The headers of a session of the old era."""
    answer = laptop.relay(server, request("initialize", {"protocolVersion": "2025-06-18"}))
    return {"Mcp-Session-Id": answer.headers["mcp-session-id"]}


def first_id(answer: Answer) -> str:
    return next(line.removeprefix("id: ") for line in answer.body.decode().splitlines() if line.startswith("id: "))


@contextlib.contextmanager
def begun(
    laptop: SigningLaptop,
    method: str,
    message: Any = None,
    *,
    server: str = "remote",
    more: Mapping[str, str] | None = None,
) -> Iterator[http.client.HTTPResponse]:
    """An answer that is read as it comes; leaving the block is leaving the server."""
    if not laptop.nonce:
        laptop.send("GET", wire.PATH_SESSION)
    body = json.dumps(message).encode() if message else b""
    connection = laptop.connection()
    path = wire.PATH_RELAY + server
    connection.request(method, path, body or None, {**laptop.headers(method, path, body), **(more or {})})
    with contextlib.closing(connection), connection.getresponse() as answer:
        assert answer.status == 200, answer.read()
        yield answer
