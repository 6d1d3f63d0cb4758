"""What the tests of the door to remote servers share: messages, and what came of them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from harness.processes import wait_for

if TYPE_CHECKING:
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
