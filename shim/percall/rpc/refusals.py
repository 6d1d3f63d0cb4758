"""Answers that the shim gives by itself: refusals that say which rule refused and what to do, as JSON-RPC frames.

A refused `tools/call` is a result with `isError`, so that the model reads it; other methods get an error whose code is
outside the reserved range. Never a success that stands for anything else.
"""

from __future__ import annotations

from percall import __version__, wire
from percall.rpc import frames

TYPE_CHECKING = False  # `typing` itself costs 10 ms of each start
if TYPE_CHECKING:
    from typing import Any

    from percall.errors import FrameError, PercallError

REFUSED = -31000
"""The JSON-RPC error code of every refusal; `error.data.code` says which."""
METHOD_NOT_FOUND = -32601
REMOVED = frozenset({"resources/subscribe", "resources/unsubscribe"})
"""Gated methods that the 2026-07-28 revision no longer has: refused in its own words."""
_LAST = frozenset({"child.closed", "child.ended", "child.silent", "shim.ended"})
"""Refusals after which we end ourselves."""
SAMPLING_REFUSED = wire.Refusal(
    "server.sampling",
    "The server asked for the client's model (sampling), which its entry does not allow.",
    "An administrator may set `sampling = true` in the server's entry.",
)
UNKNOWN = "Whether the server did anything is unknown."
LOOK = "Look at the upstream before trying again."
DEADLINE_PASSED = wire.Refusal(
    "call.deadline", f"The server did not answer within the call's deadline. {UNKNOWN}", LOOK
)


def of_error(error: PercallError) -> wire.Refusal:
    """The refusal that one of our errors amounts to."""
    return wire.Refusal(error.code, error.message, error.next_step)


def of_open_call(refusal: wire.Refusal) -> wire.Refusal:
    """The same for a call that the server has begun: that it is refused from now on says nothing of what it did."""
    step = refusal.next_step
    return wire.Refusal(refusal.code, f"{refusal.message} {UNKNOWN}", f"{LOOK} {step}".rstrip())


def answer(request: dict[str, Any], refusal: wire.Refusal) -> bytes:
    """The line that answers a request which is refused."""
    if request.get("method") == "tools/call" and frames.id_key(request.get("id")) is not None:
        text = f"Percall: {refusal} [{refusal.code}]"
        result: dict[str, Any] = {"content": [{"type": "text", "text": text}], "isError": True}
        if frames.is_modern(request):
            result["resultType"] = "complete"
        return _line({"id": request["id"], "result": result})
    is_removed = request.get("method") in REMOVED and frames.is_modern(request)
    return error_line(request.get("id"), METHOD_NOT_FOUND if is_removed else REFUSED, refusal)


def answer_without_server(request: dict[str, Any], refusal: wire.Refusal) -> bytes:
    """The line that answers a request while no server runs: the session may open, so that its refusals are read.

    Not where we end as well: a client would take a server that cannot start for one that is connected.
    """
    if refusal.code in _LAST:
        return answer(request, refusal)
    key, params = frames.id_key(request.get("id")), request.get("params")
    if request.get("method") == "ping" and key is not None:
        return _line({"id": request["id"], "result": {}})
    version = params.get("protocolVersion") if isinstance(params, dict) else None
    if request.get("method") == "initialize" and key is not None and isinstance(version, str):
        result = {
            "protocolVersion": version,
            "capabilities": {"tools": {"listChanged": True}},
            "serverInfo": {"name": "percall", "version": __version__},
            "instructions": f"Percall: {refusal}",
        }
        return _line({"id": request["id"], "result": result})
    return answer(request, refusal)


def error_line(request_id: Any, code: int, refusal: wire.Refusal) -> bytes:
    """The line of a JSON-RPC error, with the refusal's parts as data."""
    data = {"code": refusal.code, "next_step": refusal.next_step}
    known_id = request_id if frames.id_key(request_id) is not None else None
    return _line({"id": known_id, "error": {"code": code, "message": f"Percall: {refusal}", "data": data}})


def bad_frame(error: FrameError, request_id: str | int | None = None) -> bytes:
    """The line that answers a frame which is refused before anything else looks at it."""
    return error_line(request_id, frames.error_code(error), of_error(error))


def cancelled(request_id: Any, reason: str) -> bytes:
    """What tells the child that nobody waits for an answer any more, without a line end."""
    params = {"requestId": request_id, "reason": reason}
    return wire.dump({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": params})


def _line(members: dict[str, Any]) -> bytes:
    return wire.dump({"jsonrpc": "2.0", **members}) + b"\n"
