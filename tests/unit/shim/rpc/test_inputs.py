"""The page to open: asked of clients that can, and cut out of their retry to the byte."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from percall import wire
from percall.rpc import inputs

ASKED = wire.Asked("ap_1", 5, ("leads",), "https://broker.example/console/approvals/ap_1")


def request(elicitation: Any = None, method: str = "tools/call", **more: Any) -> dict[str, Any]:
    meta = {
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientCapabilities": {"elicitation": elicitation or {}},
    }
    return {"jsonrpc": "2.0", "id": 1, "method": method, "params": {"name": "t", "_meta": meta, **more}}


@pytest.mark.parametrize(
    ("frame", "can"),
    [
        (request({"url": {}}), True),
        (request({"form": {}}), False),
        (request(), False),
        (request({"url": {}}, "completion/complete"), False),
        (request({"url": {}}, requestState="another server's"), False),
        (request({"url": {}}, inputResponses={}), False),
        ({"id": 1, "method": "tools/call", "params": {"_meta": {}}}, False),
        ({"id": 1, "method": "tools/call"}, False),
    ],
)
def test_only_a_client_that_says_so_is_given_a_page(frame: dict[str, Any], can: bool) -> None:
    assert inputs.can_open(frame) is can


def test_the_page_is_the_broker_s_and_the_retry_is_known_again() -> None:
    result = json.loads(inputs.required(request({"url": {}}), ASKED))["result"]
    assert result["resultType"] == "input_required"
    (asked,) = result["inputRequests"].values()
    assert (asked["method"], asked["params"]["url"]) == ("elicitation/create", ASKED.url)
    retry = request({"url": {}}, requestState=result["requestState"], inputResponses={"percall-approval": {}})
    frame, line = inputs.resumed(retry, json.dumps(retry).encode())
    assert frame == json.loads(line) == request({"url": {}})


def test_another_server_s_state_is_left_alone() -> None:
    other = request({"url": {}}, requestState="sealed by the upstream", inputResponses={"a": {}})
    line = json.dumps(other).encode()
    assert inputs.resumed(other, line) == (other, line)


@given(
    arguments=st.recursive(st.none() | st.floats(allow_nan=False, allow_infinity=False) | st.text(), st.lists),
    state=st.text(),
    indent=st.sampled_from([None, 1]),
    ascii_only=st.booleans(),
    order=st.permutations(["name", "arguments", "requestState", "inputResponses"]),
)
def test_all_else_is_the_client_s_own_to_the_byte(
    arguments: Any, state: str, indent: int | None, ascii_only: bool, order: list[str]
) -> None:
    values = {
        "name": "t", "arguments": {"a": arguments, "requestState": state}, "requestState": "percall-approval:ap_1",
        "inputResponses": {"x": {"action": "accept"}, "params": {}},
    }  # fmt: skip
    frame = {"id": 1, "x": "params", "params": {name: values[name] for name in order}, "y": [arguments]}
    text = json.dumps(frame, indent=indent, ensure_ascii=ascii_only).replace("\n", " ")
    written = json.dumps(values["arguments"], ensure_ascii=ascii_only)
    own, line = inputs.resumed(frame, text.encode())
    assert json.loads(line) == own
    assert own == {**frame, "params": {name: values[name] for name in order if name in {"name", "arguments"}}}
    if indent is None:
        assert written.encode() in line
