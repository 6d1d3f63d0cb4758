"""An MCP server with every fixture that the official conformance suite names, over streamable HTTP or stdio.

`conformance_server.py [--stdio | --port N] [--stateless]`: over HTTP it prints its URL when it listens. The last
section holds what our own tests of the bridge ask for besides.
"""

import argparse
import asyncio
import base64
import json
import os
import socket
from pathlib import Path
from typing import Annotated, Any

import uvicorn
from mcp.server.mcpserver import Context, MCPServer, RequestStateSecurity
from mcp.server.mcpserver.prompts.base import Prompt, UserMessage
from mcp.server.streamable_http import EventCallback, EventMessage, EventStore
from mcp.shared.exceptions import MCPError
from mcp.types import (
    MISSING_REQUIRED_CLIENT_CAPABILITY,
    AudioContent,
    Completion,
    CreateMessageRequest,
    CreateMessageRequestParams,
    ElicitRequest,
    ElicitRequestFormParams,
    EmbeddedResource,
    EmptyResult,
    ImageContent,
    InputRequiredResult,
    ListRootsRequest,
    SamplingMessage,
    SetLevelRequestParams,
    SubscribeRequestParams,
    TextContent,
    TextResourceContents,
    UnsubscribeRequestParams,
)
from pydantic import BaseModel, Field

PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8DwHwAFBQIAX8jx0gAAAABJRU5ErkJggg=="
SILENCE = "UklGRiYAAABXQVZFZm10IBAAAAABAAEAQB8AAAB9AAACABAAZGF0YQIAAAA="
RETRY_MS = 100
STEP_SECONDS = 0.05

server = MCPServer(
    name="conformance-fixtures",
    version="1.0.0",
    log_level="WARNING",
    # a key of the fixture's own, so that a restarted server still knows its clients' state
    request_state_security=RequestStateSecurity(keys=[b"nothing but a fixture's key, 32 bytes and more"]),
)


class Events(EventStore):
    """Every event of every stream, for clients that come back with Last-Event-ID."""

    def __init__(self) -> None:
        self.events: list[tuple[str, Any]] = []

    async def store_event(self, stream_id: str, message: Any) -> str:
        self.events.append((stream_id, message))
        return str(len(self.events))

    async def replay_events_after(self, last_event_id: str, send_callback: EventCallback) -> str | None:
        seen = int(last_event_id) if last_event_id.isdigit() else 0
        if not 0 < seen <= len(self.events):
            return None
        stream = self.events[seen - 1][0]
        for number, (of, message) in enumerate(self.events[seen:], start=seen + 1):
            if of == stream and message is not None:
                await send_callback(EventMessage(message, str(number)))
        return stream


def text(words: str) -> TextContent:
    return TextContent(type="text", text=words)


def resource(uri: str, words: str, mime_type: str = "text/plain") -> EmbeddedResource:
    return EmbeddedResource(type="resource", resource=TextResourceContents(uri=uri, mime_type=mime_type, text=words))


IMAGE = ImageContent(type="image", data=PIXEL, mime_type="image/png")


# --- Tools that answer ------------------------------------------------------------------------------------------------


@server.tool()
def test_simple_text() -> str:
    """Answers with a text"""
    return "This is a simple text response for testing."


@server.tool()
def test_image_content() -> list[ImageContent]:
    """Answers with an image"""
    return [IMAGE]


@server.tool()
def test_audio_content() -> list[AudioContent]:
    """Answers with audio"""
    return [AudioContent(type="audio", data=SILENCE, mime_type="audio/wav")]


@server.tool()
def test_embedded_resource() -> list[EmbeddedResource]:
    """Answers with a resource"""
    return [resource("test://embedded-resource", "This is an embedded resource content.")]


@server.tool()
def test_multiple_content_types() -> list[TextContent | ImageContent | EmbeddedResource]:
    """Answers with all of them"""
    data = resource("test://mixed-content-resource", '{"test": "data", "value": 123}', "application/json")
    return [text("Multiple content types test:"), IMAGE, data]


@server.tool()
def test_error_handling() -> str:
    """Fails"""
    raise RuntimeError("This tool intentionally returns an error for testing")


@server.tool()
def test_x_mcp_header(
    region: Annotated[str, Field(json_schema_extra={"x-mcp-header": "Region"})] = "<none>",
) -> str:
    """Has an argument that travels in a header too"""
    return f"region={region}"


SCHEMA_2020_12 = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "$defs": {
        "address": {
            "$anchor": "addressDef",
            "type": "object",
            "properties": {"street": {"type": "string"}, "city": {"type": "string"}},
        }
    },
    "properties": {
        "name": {"type": "string"},
        "address": {"$ref": "#/$defs/address"},
        "contactMethod": {"type": "string", "enum": ["phone", "email"]},
        "phone": {"type": "string"},
        "email": {"type": "string"},
    },
    "allOf": [{"anyOf": [{"required": ["phone"]}, {"required": ["email"]}]}],
    "if": {"properties": {"contactMethod": {"const": "phone"}}, "required": ["contactMethod"]},
    "then": {"required": ["phone"]},
    "else": {"required": ["email"]},
    "additionalProperties": False,
}


@server.tool()
def json_schema_2020_12_tool() -> str:
    """Has an input schema with every keyword that must survive"""
    return "json_schema_2020_12_tool"


server._tool_manager._tools["json_schema_2020_12_tool"].parameters = SCHEMA_2020_12  # the SDK has no public way


# --- Tools that say something on the way ------------------------------------------------------------------------------


@server.tool()
async def test_tool_with_logging(context: Context) -> str:
    """Logs three times"""
    for words in ("Tool execution started", "Tool processing data", "Tool execution completed"):
        await context.info(words)
        await asyncio.sleep(STEP_SECONDS)
    return "Tool with logging executed successfully"


@server.tool()
async def test_logging_tool(context: Context) -> str:
    """Logs, where the request has asked for it"""
    await context.info("A log message of a call that asked for one")
    return "Logging evaluated"


@server.tool()
async def test_tool_with_progress(context: Context) -> str:
    """Reports its progress three times"""
    for done in (0, 50, 100):
        await context.report_progress(done, 100, f"Completed step {done} of 100")
        await asyncio.sleep(STEP_SECONDS)
    return "Tool with progress executed successfully"


@server.tool()
async def test_reconnection(context: Context) -> str:
    """Closes its stream in the middle; the answer waits for the client to come back"""
    await context.info("Before the stream closes")
    await context.close_sse_stream()
    await asyncio.sleep(4 * STEP_SECONDS)
    return "Reconnection test completed"


@server.tool()
async def test_trigger_tool_change(context: Context) -> str:
    """Changes the list of tools and says so"""
    server.add_tool(lambda: "here for a moment", name="test_momentary_tool")
    server.remove_tool("test_momentary_tool")
    await context.notify_tools_changed()
    return "tool list changed"


@server.tool()
async def test_trigger_prompt_change(context: Context) -> str:
    """Says that the list of prompts has changed"""
    server.add_prompt(Prompt.from_function(lambda: "here", name="test_momentary_prompt", description="momentary"))
    server.remove_prompt("test_momentary_prompt")
    await context.notify_prompts_changed()
    return "prompt list changed"


# --- Tools that ask the client, in the old era's way ------------------------------------------------------------------


def said(result: Any) -> str:
    """What the person's answer was."""
    content = result.data.model_dump_json() if result.action == "accept" else "{}"
    return f"action={result.action}, content={content}"


@server.tool()
async def test_sampling(prompt: str, context: Context) -> str:
    """Asks the client's model"""
    try:
        result = await context.session.create_message(
            messages=[SamplingMessage(role="user", content=text(prompt))],
            max_tokens=100,
            related_request_id=context.request_id,
        )
    except MCPError as error:
        return f"Sampling was refused: {error}"
    return f"LLM response: {getattr(result.content, 'text', 'No response')}"


class Answer(BaseModel):
    response: str = Field(description="User's response")


@server.tool()
async def test_elicitation(message: str, context: Context) -> str:
    """Asks the person"""
    return f"User response: {said(await context.elicit(message=message, schema=Answer))}"


class Defaults(BaseModel):
    name: str = Field(default="John Doe")
    age: int = Field(default=30)
    score: float = Field(default=95.5)
    status: str = Field(default="active", json_schema_extra={"enum": ["active", "inactive", "pending"]})
    verified: bool = Field(default=True)


@server.tool()
async def test_elicitation_sep1034_defaults(context: Context) -> str:
    """Asks with a default for each kind of field"""
    asked = await context.elicit(message="Please check what is filled in", schema=Defaults)
    return f"Elicitation completed: {said(asked)}"


def titled(*names: str) -> list[dict[str, str]]:
    return [{"const": name, "title": name.title()} for name in names]


class Choices(BaseModel):
    untitledSingle: str = Field(json_schema_extra={"enum": ["option1", "option2", "option3"]})
    titledSingle: str = Field(json_schema_extra={"oneOf": titled("value1", "value2", "value3")})
    legacyEnum: str = Field(
        json_schema_extra={"enum": ["opt1", "opt2", "opt3"], "enumNames": ["Option One", "Option Two", "Option Three"]}
    )
    untitledMulti: list[str] = Field(
        json_schema_extra={"items": {"type": "string", "enum": ["option1", "option2", "option3"]}}
    )
    titledMulti: list[str] = Field(json_schema_extra={"items": {"anyOf": titled("value1", "value2", "value3")}})


@server.tool()
async def test_elicitation_sep1330_enums(context: Context) -> str:
    """Asks with every form of choice"""
    asked = await context.elicit(message="Please choose", schema=Choices)
    return f"Elicitation completed: {said(asked)}"


# --- Tools that ask the client, in the new era's way ------------------------------------------------------------------


def ask(message: str, **properties: str) -> ElicitRequest:
    schema = {
        "type": "object",
        "properties": {name: {"type": kind} for name, kind in properties.items()},
        "required": list(properties),
    }
    return ElicitRequest(params=ElicitRequestFormParams(message=message, requested_schema=schema))


def ask_model(question: str, tokens: int = 100) -> CreateMessageRequest:
    message = SamplingMessage(role="user", content=text(question))
    return CreateMessageRequest(params=CreateMessageRequestParams(messages=[message], max_tokens=tokens))


ASK_NAME = {"user_name": ask("What is your name?", name="string")}
ASK_OK = {"confirm": ask("Please confirm", ok="boolean")}


def member(context: Context, key: str, name: str) -> str:
    """A member of what the person filled in."""
    content = getattr((context.input_responses or {}).get(key), "content", None)
    return str(content.get(name, "?")) if isinstance(content, dict) else "?"


def came(context: Context, *keys: str) -> bool:
    return set(keys) <= set(context.input_responses or {})


@server.tool()
async def test_input_required_result_elicitation(context: Context) -> str | InputRequiredResult:
    """Asks for a name"""
    if came(context, "user_name"):
        return f"Hello, {member(context, 'user_name', 'name')}!"
    return InputRequiredResult(input_requests=ASK_NAME)


@server.tool()
async def test_streaming_elicitation(context: Context) -> str | InputRequiredResult:
    """Reports progress, then asks for a name"""
    await context.report_progress(50, 100, "half way")
    if came(context, "user_name"):
        return "Streaming complete"
    return InputRequiredResult(input_requests=ASK_NAME)


@server.tool()
async def test_input_required_result_sampling(context: Context) -> str | InputRequiredResult:
    """Asks the model"""
    if came(context, "capital_question"):
        answer = (context.input_responses or {})["capital_question"]
        return f"The model said: {getattr(getattr(answer, 'content', None), 'text', '?')}"
    return InputRequiredResult(input_requests={"capital_question": ask_model("What is the capital of France?")})


@server.tool()
async def test_input_required_result_list_roots(context: Context) -> str | InputRequiredResult:
    """Asks for the roots"""
    if came(context, "client_roots"):
        answer = (context.input_responses or {})["client_roots"]
        return f"The client has {len(getattr(answer, 'roots', []))} roots."
    return InputRequiredResult(input_requests={"client_roots": ListRootsRequest()})


@server.tool()
async def test_input_required_result_request_state(context: Context) -> str | InputRequiredResult:
    """Wants its state back"""
    if came(context, "confirm") and context.request_state == "what only the server knows":
        return "state-ok"
    return InputRequiredResult(input_requests=ASK_OK, request_state="what only the server knows")


@server.tool()
async def test_input_required_result_tampered_state(context: Context) -> str | InputRequiredResult:
    """Hands out state that the SDK seals"""
    if context.request_state is not None:
        return f"state-ok: {context.request_state}"
    return InputRequiredResult(input_requests=ASK_OK, request_state="sealed")


@server.tool()
async def test_input_required_result_multiple_inputs(context: Context) -> str | InputRequiredResult:
    """Asks for three things at once"""
    asked = {
        **ASK_NAME,
        "greeting": ask_model("Generate a greeting", 50),
        "client_roots": ListRootsRequest(),
    }
    if came(context, *asked):
        return "All inputs received."
    return InputRequiredResult(input_requests=asked, request_state="three at once")


@server.tool()
async def test_input_required_result_multi_round(context: Context) -> str | InputRequiredResult:
    """Asks twice, one question after the other"""
    state = json.loads(context.request_state or "{}")
    if "name" in state and came(context, "step2"):
        return f"{state['name']} likes {member(context, 'step2', 'color')}."
    if state and came(context, "step1"):
        state = json.dumps({"name": member(context, "step1", "name")})
        question = {"step2": ask("Step 2: What is your favorite color?", color="string")}
        return InputRequiredResult(input_requests=question, request_state=state)
    question = {"step1": ask("Step 1: What is your name?", name="string")}
    return InputRequiredResult(input_requests=question, request_state=json.dumps({"asked": 1}))


@server.tool()
async def test_input_required_result_capabilities(context: Context) -> InputRequiredResult:
    """Asks only for what the client can do"""
    can = context.client_capabilities
    questions: dict[str, Any] = {}
    if can is None or can.sampling is not None:
        questions["sample"] = ask_model("Say hello", 50)
    if can is None or can.elicitation is not None:
        questions |= ASK_NAME
    return InputRequiredResult(input_requests=questions, request_state="by capability")


@server.tool()
async def test_missing_capability(context: Context) -> str:
    """Cannot do without sampling"""
    can = context.session.client_capabilities
    if can is None or can.sampling is None:
        raise MCPError(
            code=MISSING_REQUIRED_CLIENT_CAPABILITY,
            message="This tool needs the client's sampling capability",
            data={"requiredCapabilities": {"sampling": {}}},
        )
    return "The client has sampling."


# --- Resources, prompts, and the rest ---------------------------------------------------------------------------------


@server.resource("test://static-text", mime_type="text/plain")
def static_text() -> str:
    """A text"""
    return "This is the content of the static text resource."


@server.resource("test://static-binary", mime_type="image/png")
def static_binary() -> bytes:
    """An image"""
    return base64.b64decode(PIXEL)


@server.resource("test://watched-resource")
def watched() -> str:
    """One to subscribe to"""
    return "Watched resource content"


@server.resource("test://template/{id}/data", mime_type="application/json")
def templated(id: str) -> str:  # noqa: A002 - the suite names it
    """One for each id"""
    return json.dumps({"id": id, "templateTest": True, "data": f"Data for ID: {id}"})


@server.prompt()
def test_simple_prompt() -> list[UserMessage]:
    """A prompt"""
    return [UserMessage(content=text("This is a simple prompt for testing."))]


@server.prompt()
def test_prompt_with_arguments(arg1: str, arg2: str) -> list[UserMessage]:
    """A prompt with two arguments"""
    return [UserMessage(content=text(f"Prompt with arguments: arg1='{arg1}', arg2='{arg2}'"))]


@server.prompt()
def test_prompt_with_embedded_resource(resourceUri: str) -> list[UserMessage]:  # noqa: N803 - the suite names it
    """A prompt with a resource"""
    embedded = resource(resourceUri, "Embedded resource content for testing.")
    return [UserMessage(content=embedded), UserMessage(content=text("Please look at the resource above."))]


@server.prompt()
def test_prompt_with_image() -> list[UserMessage]:
    """A prompt with an image"""
    return [UserMessage(content=IMAGE), UserMessage(content=text("Please look at the image above."))]


@server.prompt()
async def test_input_required_result_prompt(context: Context) -> list[UserMessage] | InputRequiredResult:
    """A prompt that asks first"""
    if came(context, "user_context"):
        return [UserMessage(content=text(f"The context is: {member(context, 'user_context', 'context')}"))]
    question = {"user_context": ask("What context should the prompt use?", context="string")}
    return InputRequiredResult(input_requests=question)


@server.completion()
async def complete(_ref: Any, argument: Any, _context: Any) -> Completion:
    values = [word for word in ("alpha", "beta") if word.startswith(argument.value)]
    return Completion(values=values, total=len(values), has_more=False)


async def accept(_context: Any, _params: Any) -> EmptyResult:
    return EmptyResult()


for method, params in (
    ("logging/setLevel", SetLevelRequestParams),
    ("resources/subscribe", SubscribeRequestParams),
    ("resources/unsubscribe", UnsubscribeRequestParams),
):
    server._lowlevel_server.add_request_handler(method, params, accept)  # the SDK has no public way


# --- For our own tests ------------------------------------------------------------------------------------------------


def note(what: str) -> None:
    """A line in the file that tells the test what has happened here."""
    if path := os.environ.get("NOTES"):
        with Path(path).open("a") as notes:
            notes.write(what + "\n")


@server.tool()
def echo(message: str) -> str:
    """The same again"""
    note(f"echo {message}")
    return message


@server.tool()
async def hold(name: str) -> str:
    """Waits until it is cancelled"""
    note(f"hold {name} begins")
    try:
        await asyncio.Event().wait()
    finally:
        note(f"hold {name} ends")
    return "never"


@server.tool()
async def after(path: str) -> str:
    """Waits until there is such a file"""
    note("after begins")
    while not Path(path).exists():  # noqa: ASYNC110 - another process makes it
        await asyncio.sleep(0.01)
    return "it is there"


@server.tool()
def large(characters: int) -> str:
    """That many"""
    return "x" * characters


@server.tool()
async def chatter(count: int, context: Context) -> str:
    """Reports progress that many times, without a pause"""
    for number in range(count):
        await context.report_progress(number, count, "p" * 200)
    return f"{count} reports"


@server.tool()
async def announce(context: Context) -> str:
    """A notification on the session's own stream"""
    await context.session.send_tool_list_changed()
    return "announced"


def main() -> None:
    options = argparse.ArgumentParser()
    options.add_argument("--stdio", action="store_true")
    options.add_argument("--port", type=int, default=0)
    options.add_argument("--stateless", action="store_true")
    given = options.parse_args()
    if given.stdio:
        server.run("stdio")
        return
    application = server.streamable_http_app(
        event_store=Events(), retry_interval=RETRY_MS, stateless_http=given.stateless
    )
    listening = socket.create_server(("127.0.0.1", given.port))
    print(f"http://127.0.0.1:{listening.getsockname()[1]}/mcp", flush=True)
    config = uvicorn.Config(application, log_level="error", timeout_keep_alive=600, timeout_graceful_shutdown=1)
    asyncio.run(uvicorn.Server(config).serve(sockets=[listening]))


if __name__ == "__main__":
    main()
