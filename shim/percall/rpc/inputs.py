"""A page to open, asked for in the stateless era's way: an `input_required` result, and the client's retry after it.

Only a courtesy: the page is the broker's, and what the client says of it proves nothing. The retry is the same request
with two members of ours in it, which are cut out again, so that what is decided on and forwarded is the client's own.
"""

from __future__ import annotations

import json

from percall import wire
from percall.rpc import frames

TYPE_CHECKING = False  # `typing` itself costs 10 ms of each start
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

_CAPABILITIES = "io.modelcontextprotocol/clientCapabilities"
_METHODS = frozenset({"tools/call", "prompts/get", "resources/read"})
_STATE, _RESPONSES = "requestState", "inputResponses"
_OURS = "percall-approval:"
"""How a state of ours begins. Nobody relies on what it holds: whoever forges one is decided on like the rest."""
_decode = json.JSONDecoder().raw_decode
_SPACE = " \t\n\r"


def can_open(frame: dict[str, Any]) -> bool:
    """Whether a request's client opens pages for its user, and this is not a retry of something else already."""
    if frame.get("method") not in _METHODS or not frames.is_modern(frame):
        return False
    capabilities = frames.meta(frame).get(_CAPABILITIES)
    elicitation = capabilities.get("elicitation") if isinstance(capabilities, dict) else None
    params = frame["params"]
    is_first = _STATE not in params and _RESPONSES not in params
    return is_first and isinstance(elicitation, dict) and isinstance(elicitation.get("url"), dict)


def required(frame: dict[str, Any], asked: wire.Asked) -> bytes:
    """The line that answers a request with the page where its approval is given."""
    who = " and ".join(asked.groups)
    params = {"mode": "url", "url": asked.url, "message": f"This call waits for approval by {who}."}
    result = {
        "resultType": "input_required",
        "inputRequests": {"percall-approval": {"method": "elicitation/create", "params": params}},
        _STATE: _OURS + asked.id,
    }
    return wire.dump({"jsonrpc": "2.0", "id": frame["id"], "result": result}) + b"\n"


def resumed(frame: dict[str, Any], line: bytes) -> tuple[dict[str, Any], bytes]:
    """The request that a retry of ours repeats, and its line, each byte of it the client's; any other as it is."""
    params = frame.get("params")
    state = params.get(_STATE) if isinstance(params, dict) else None
    if not isinstance(params, dict) or not isinstance(state, str) or not state.startswith(_OURS):
        return frame, line
    text = line.decode()
    start, end = next((at, end) for name, _, at, end in _members(text, 0) if name == "params")
    kept = [text[begin:end] for name, begin, _, end in _members(text, start) if name not in {_STATE, _RESPONSES}]
    own = {name: value for name, value in params.items() if name not in {_STATE, _RESPONSES}}
    return {**frame, "params": own}, (text[:start] + "{" + ",".join(kept) + "}" + text[end:]).encode()


def _members(text: str, start: int) -> Iterator[tuple[str, int, int, int]]:
    """Each member of the object that begins there: its name, and where it, its value and its end are."""
    at = _skip(text, text.index("{", start) + 1)
    while text[at] != "}":
        name, after = _decode(text, at)
        value_at = _skip(text, text.index(":", after) + 1)
        _, end = _decode(text, value_at)
        yield name, at, value_at, end
        at = _skip(text, end)
        if text[at] == ",":
            at = _skip(text, at + 1)


def _skip(text: str, at: int) -> int:
    while text[at] in _SPACE:
        at += 1
    return at
