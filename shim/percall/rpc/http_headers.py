"""The headers that streamable HTTP has beside a frame: their names for both gates, and how the shim builds them.

The frame's era decides which there are. The 2026-07-28 revision repeats the method, the name and some arguments; which
arguments, the tools' schemas say (`x-mcp-header`).
"""

from __future__ import annotations

from binascii import b2a_base64

from percall.rpc import frames

TYPE_CHECKING = False  # `typing` itself costs 10 ms of each start
if TYPE_CHECKING:
    from typing import Any

FIRST_STATELESS = "2026-07-28"
"""The first revision without sessions; revisions are dates, so they compare as texts."""
VERSION, METHOD, NAME, PARAMETER = "mcp-protocol-version", "mcp-method", "mcp-name", "mcp-param-"
"""What repeats the frame; a parameter's own name follows the last."""
SESSION, RESUME = "mcp-session-id", "last-event-id"
JSON, EVENTS = "application/json", "text/event-stream"
BOTH = f"{JSON}, {EVENTS}"
NAMED_BY = {"tools/call": "name", "prompts/get": "name", "resources/read": "uri"}
"""The parameter that a method names something by, which NAME repeats."""
_MARK = "x-mcp-header"
_TOKEN = frozenset("!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz")
_WRAPPING = ("=?base64?", "?=")
_MOST_TOOLS = 10_000


def stateless(frame: dict[str, Any], version: str) -> list[tuple[str, str]]:
    """The headers of the stateless era, but for those that mirror arguments. `version` stands in where none is said."""
    stated = frames.meta(frame).get(frames.MODERN)
    method, params = frame.get("method"), frame.get("params")
    headers = [(VERSION, encoded(stated if isinstance(stated, str) else version))]
    if isinstance(method, str):
        headers.append((METHOD, encoded(method)))
    name = params.get(NAMED_BY[method]) if method in NAMED_BY and isinstance(params, dict) else None
    if isinstance(name, str):
        headers.append((NAME, encoded(name)))
    return headers


def encoded(value: str) -> str:
    """A value as a header carries it: itself where it survives that, else wrapped in base64 as the revision says."""
    start, end = _WRAPPING
    is_plain = value.isascii() and value.isprintable() and value == value.strip()
    if is_plain and not (value.startswith(start) and value.endswith(end)):
        return value
    return start + b2a_base64(value.encode(), newline=False).decode() + end


class MirroredArguments:
    """Which arguments of which tools travel in headers too. `are_known`: some `tools/list` has been seen."""

    def __init__(self) -> None:
        self.are_known = False
        self._of: dict[str, list[tuple[tuple[str, ...], str]]] = {}

    def learn(self, result: Any) -> None:
        """Take in the result of a `tools/list`."""
        tools = result.get("tools") if isinstance(result, dict) else None
        if not isinstance(tools, list):
            return
        self.are_known = True
        for tool in tools:
            name = tool.get("name") if isinstance(tool, dict) else None
            if not isinstance(name, str):
                continue
            marked = list(_marked(tool.get("inputSchema"), ()))
            if marked and len(self._of) < _MOST_TOOLS:
                self._of[name] = marked
            else:
                self._of.pop(name, None)

    def headers(self, frame: dict[str, Any]) -> list[tuple[str, str]]:
        """The headers that mirror the arguments of a `tools/call`."""
        params = frame.get("params")
        if frame.get("method") != "tools/call" or not isinstance(params, dict):
            return []
        headers = []
        for path, token in self._of.get(str(params.get("name")), ()):
            value: Any = params.get("arguments")
            for step in path:
                value = value.get(step) if isinstance(value, dict) else None
            if isinstance(value, bool):
                value = "true" if value else "false"
            if isinstance(value, (str, int, float)):
                headers.append((PARAMETER + token, encoded(str(value))))
        return headers


def _marked(schema: Any, path: tuple[str, ...]) -> list[tuple[tuple[str, ...], str]]:
    """The marked properties of a schema, each with the way to it through `properties` alone."""
    if not isinstance(schema, dict):
        return []
    token = schema.get(_MARK)
    found = [(path, token)] if path and isinstance(token, str) and token and _TOKEN.issuperset(token) else []
    properties = schema.get("properties")
    for name, inner in properties.items() if isinstance(properties, dict) else ():
        found += _marked(inner, (*path, name))
    return found
