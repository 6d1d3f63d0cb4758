"""A fake model on loopback, for unmodified clients without an account: it calls what a test names, then tells.

It speaks Anthropic's Messages, OpenAI's Responses and chat completions, and Gemini's generateContent, as far as the
clients need them. What it does depends on the request alone, since each holds the whole conversation: it makes the call
whose turn it is, and when all are made, says every result. So one model serves all clients at once.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import TYPE_CHECKING, Any, NamedTuple

from harness.loopback import Listening, Quiet
from harness.upstream import body_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

NAME = "fake-model"
TOLD = "The tools said:"


class Call(NamedTuple):
    """A tool that the model calls, by its server's name for it: each client puts words of its own before that."""

    tool: str
    arguments: dict[str, Any]


class Said(NamedTuple):
    """What the model does next: a call of a tool by the client's name for it (in a `space`, if any), or a text."""

    number: int
    text: str = ""
    tool: str = ""
    space: str = ""
    arguments: dict[str, Any] = {}  # noqa: RUF012 - never written to


@dataclass(frozen=True)
class Turn:
    """A request: which protocol it came by, which tools it offered, and what the tools had said, each as JSON."""

    protocol: str
    tools: tuple[str, ...]
    results: tuple[str, ...]


@dataclass(frozen=True)
class Protocol:
    """Where things stand in a request of it, and the events of its streamed answer.

    `tools` are pairs of a space, mostly empty, and a name; an event is a name, mostly empty, and its data.
    """

    path: str
    tools: Callable[[Any], list[tuple[str, str]]]
    results: Callable[[Any], list[Any]]
    answer: Callable[[Said], list[tuple[str, Any]]]


def _anthropic(said: Said) -> list[tuple[str, Any]]:
    if said.tool:
        block: dict[str, Any] = {"type": "tool_use", "id": f"toolu_{said.number}", "name": said.tool, "input": {}}
        delta = {"type": "input_json_delta", "partial_json": json.dumps(said.arguments)}
    else:
        block, delta = {"type": "text", "text": ""}, {"type": "text_delta", "text": said.text}
    message: dict[str, Any] = {
        "id": f"msg_{said.number}",
        "type": "message",
        "role": "assistant",
        "model": NAME,
        "content": [],
    }
    message |= {"stop_reason": None, "stop_sequence": None, "usage": {"input_tokens": 1, "output_tokens": 1}}
    stop: dict[str, Any] = {"stop_reason": "tool_use" if said.tool else "end_turn", "stop_sequence": None}
    events: list[dict[str, Any]] = [
        {"type": "message_start", "message": message},
        {"type": "content_block_start", "index": 0, "content_block": block},
        {"type": "content_block_delta", "index": 0, "delta": delta},
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": stop, "usage": {"output_tokens": 1}},
        {"type": "message_stop"},
    ]
    return [(event["type"], event) for event in events]


def _responses(said: Said) -> list[tuple[str, Any]]:
    item: dict[str, Any] = {"id": f"item_{said.number}", "status": "completed"}
    if said.tool:
        item |= {"type": "function_call", "call_id": f"call_{said.number}", "name": said.tool}
        item |= {"arguments": json.dumps(said.arguments)} | ({"namespace": said.space} if said.space else {})
    else:
        content = {"type": "output_text", "text": said.text, "annotations": []}
        item |= {"type": "message", "role": "assistant", "content": [content]}
    response = {"id": f"resp_{said.number}", "object": "response", "created_at": 0, "model": NAME}
    usage = {"input_tokens": 1, "output_tokens": 1, "total_tokens": 2}
    events: list[dict[str, Any]] = [
        {"type": "response.created", "response": response | {"status": "in_progress", "output": []}},
        {"type": "response.output_item.added", "output_index": 0, "item": item},
        {"type": "response.output_item.done", "output_index": 0, "item": item},
        {
            "type": "response.completed",
            "response": response | {"status": "completed", "output": [item], "usage": usage},
        },
    ]
    return [(event["type"], event) for event in events]


def _chat(said: Said) -> list[tuple[str, Any]]:
    delta: dict[str, Any] = {"role": "assistant", "content": said.text or None}
    if said.tool:
        function = {"name": said.tool, "arguments": json.dumps(said.arguments)}
        delta["tool_calls"] = [{"index": 0, "id": f"call_{said.number}", "type": "function", "function": function}]
    chunk = {"id": f"chat_{said.number}", "object": "chat.completion.chunk", "created": 0, "model": NAME}
    ends = {"index": 0, "delta": {}, "finish_reason": "tool_calls" if said.tool else "stop"}
    usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
    return [
        ("", chunk | {"choices": [{"index": 0, "delta": delta, "finish_reason": None}]}),
        ("", chunk | {"choices": [ends], "usage": usage}),
        ("", "[DONE]"),
    ]


def _gemini(said: Said) -> list[tuple[str, Any]]:
    part = {"functionCall": {"name": said.tool, "args": said.arguments}} if said.tool else {"text": said.text}
    candidate = {"index": 0, "content": {"role": "model", "parts": [part]}, "finishReason": "STOP"}
    usage = {"promptTokenCount": 1, "candidatesTokenCount": 1, "totalTokenCount": 2}
    return [("", {"candidates": [candidate], "usageMetadata": usage, "modelVersion": NAME})]


def _blocks(messages: list[Any], member: str) -> list[Any]:
    """All parts of all messages, where a message has parts and not one text."""
    return [block for message in messages if isinstance(message.get(member), list) for block in message[member]]


def _responses_tools(tools: list[Any]) -> list[tuple[str, str]]:
    own = [("", tool["name"]) for tool in tools if tool["type"] == "function"]
    spaces = [tool for tool in tools if tool["type"] == "namespace"]
    return own + [(space["name"], tool["name"]) for space in spaces for tool in space["tools"]]


PROTOCOLS = {
    "anthropic": Protocol(
        "/messages",
        lambda body: [("", tool["name"]) for tool in body.get("tools", [])],
        lambda body: [block["content"] for block in _blocks(body["messages"], "content") if "tool_use_id" in block],
        _anthropic,
    ),
    "responses": Protocol(
        "/responses",
        lambda body: _responses_tools(body.get("tools", [])),
        lambda body: [item["output"] for item in body["input"] if item["type"] == "function_call_output"],
        _responses,
    ),
    "chat": Protocol(
        "/chat/completions",
        lambda body: [("", tool["function"]["name"]) for tool in body.get("tools", [])],
        lambda body: [message["content"] for message in body["messages"] if message["role"] == "tool"],
        _chat,
    ),
    "gemini": Protocol(
        ":streamGenerateContent",
        lambda body: [("", one["name"]) for tool in body.get("tools", []) for one in tool["functionDeclarations"]],
        lambda body: [
            part["functionResponse"]["response"]
            for part in _blocks(body["contents"], "parts")
            if "functionResponse" in part
        ],
        _gemini,
    ),
}


@dataclass
class Model(Listening):
    """Answers on loopback; `turns` are all requests, in their order."""

    calls: Sequence[Call]
    turns: list[Turn] = field(default_factory=list)

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        return type("Handler", (_Handler,), {"model": self})

    def answer(self, name: str, body: Any) -> list[tuple[str, Any]]:
        """The events of the answer to a request by a protocol."""
        protocol = PROTOCOLS[name]
        tools = protocol.tools(body)
        results = tuple(json.dumps(result) for result in protocol.results(body))
        self.turns.append(Turn(name, tuple(name for _, name in tools), results))
        number = len(results)
        if number < len(self.calls):
            wanted, arguments = self.calls[number]
            for space, tool in tools:
                if tool.endswith(wanted):
                    return protocol.answer(Said(number, "", tool, space, arguments))
        return protocol.answer(Said(number, f"{TOLD} {' '.join(results)}"))


class _Handler(Quiet, BaseHTTPRequestHandler):
    model: Model

    def do_POST(self) -> None:
        body = body_of(self)
        path = self.path.partition("?")[0]
        for name, protocol in PROTOCOLS.items():
            if path.endswith(protocol.path):
                events = self.model.answer(name, json.loads(body))
                return self._answer("".join(map(_event, events)), "text/event-stream")
        return self.send_error(404)

    def do_HEAD(self) -> None:
        """Whether somebody is there."""
        self._answer("", "text/plain")

    def _answer(self, text: str, kind: str) -> None:
        data = text.encode()
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


def _event(event: tuple[str, Any]) -> str:
    name, data = event
    text = data if isinstance(data, str) else json.dumps(data)
    return (f"event: {name}\n" if name else "") + f"data: {text}\n\n"
