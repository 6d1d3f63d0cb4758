"""What an upstream says to one client, message by message: what passes, what is changed, and what is answered here.

Lists show only what the grant names; a request for the client's model is refused unless the entry allows it; and the
answer that was waited for says what became of the call. What is no message does not reach the client.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from percall import wire
from percall.errors import FrameError, WireError
from percall.rpc import frames, gate, refusals, tools
from percall_broker.stages.frame import is_name
from percall_broker.stages.pins import sift

if TYPE_CHECKING:
    from percall_broker.pipeline.relay import Permitted, Seen
    from percall_broker.stages.pins import Definition


class _Said(msgspec.Struct):
    """A message of the upstream's. What it holds is cut out, not read: it may be long."""

    id: str | int | float | None = None
    method: msgspec.Raw = msgspec.Raw(b"")
    result: msgspec.Raw = msgspec.Raw(b"")
    error: msgspec.Raw = msgspec.Raw(b"")


class _Task(msgspec.Struct, rename="camel"):
    task_id: str = ""


class _Result(msgspec.Struct, rename="camel"):
    is_error: msgspec.Raw = msgspec.Raw(b"")
    input_requests: msgspec.Raw = msgspec.Raw(b"")
    task: _Task | None = None
    task_id: str = ""


_MEMBERS = frozenset({"jsonrpc", "id", "method", "result", "error"})
_decode = msgspec.json.Decoder(_Said).decode
_decode_result = msgspec.json.Decoder(_Result).decode


def _read(data: bytes) -> _Said | None:
    """A message, or None for what is none, or could be read as two. One that holds half of a surrogate pair is looked
    at without: servers that cut their texts send such halves.
    """
    try:
        return _decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError):
        if frames.is_ambiguous(data):
            return None
    try:
        return _decode(frames.without_halves(data))
    except msgspec.DecodeError:
        return None


class Watch:
    """One exchange. `refused` are the ids of the upstream's requests that are to be answered on the client's behalf;
    `first_seen` the methods that it asks of the client for the first time; `tasks` those that the call has become;
    `news` the definitions of tools that differ from those last seen.
    """

    def __init__(self, permitted: Permitted, seen: Seen) -> None:
        self._permitted = permitted
        self._seen = seen
        self.refused: list[Any] = []
        self.first_seen: list[str] = []
        self.tasks: list[str] = []
        self.news: tuple[Definition, ...] = ()
        self._awaited = frames.id_key(permitted.id)
        self.answered = self._awaited is None

    def look(self, data: bytes) -> bytes | None:
        """The message as the client may have it; None for one that it may not have."""
        said = _read(data)
        if said is None:
            return None
        if said.method:
            return self._request(data)
        if bool(said.result) == bool(said.error):
            return None
        if self._awaited is None or frames.id_key(said.id) != self._awaited:
            return None  # an answer to another request would get past what is done with that one's
        passes = self._answer(said, data)
        self.answered = passes is not None
        return passes

    def _request(self, data: bytes) -> bytes | None:
        try:
            value = frames.server_request(data)
        except (WireError, FrameError):
            return None
        method = value["method"]
        if method == gate.SAMPLING and not self._permitted.server.entry.sampling:
            if "id" in value:
                self.refused.append(value["id"])
            return None
        if method in gate.OBSERVED:
            self._observe(method)
        return data

    def _answer(self, said: _Said, data: bytes) -> bytes | None:
        if frames.is_ambiguous(data) if said.error else frames.may_hide_a_request(data):
            return None
        if said.error:
            self._seen.outcome = "failed"
            return data
        try:
            result = _decode_result(said.result)
            asked = gate.requested_by_server(wire.strict_json(bytes(said.result))) if result.input_requests else []
        except (msgspec.DecodeError, UnicodeDecodeError, WireError):
            return None
        named = [task for task in (result.task_id, result.task.task_id if result.task else "") if task]
        if not all(map(is_name, named)):
            return None  # no request could ask for it, and no store keeps it
        for method in asked:
            if method in gate.OBSERVED:
                self._observe(method)
        if gate.SAMPLING in asked and not self._permitted.server.entry.sampling:
            self._seen.outcome = "refused"
            return self._instead(refusals.SAMPLING_REFUSED)
        self._seen.outcome = "failed" if bytes(result.is_error) == b"true" else "done"
        method = self._permitted.method
        if not method.startswith("tasks/"):
            self.tasks += named
        return self._filtered(data) if method in gate.LIST_METHODS or method == gate.TASKS else data

    def _observe(self, method: str) -> None:
        if method not in self._seen.observed:
            self.first_seen.append(method)
        self._seen.observed[method] = self._seen.observed.get(method, 0) + 1

    def _filtered(self, data: bytes) -> bytes | None:
        try:
            value, data = frames.list_answer(data)
        except WireError:
            return None
        if any(name.lower() in _MEMBERS and name not in _MEMBERS for name in value):
            return None  # a reader that ignores case would take another result than we look at
        result, method = value.get("result"), self._permitted.method
        if method == tools.METHOD:
            return self._known_tools(value, data)
        changed = self._own_tasks(result) if method == gate.TASKS else self._granted(result)
        return data if changed is None else wire.dump({**value, "result": changed})

    def _known_tools(self, value: dict[str, Any], data: bytes) -> bytes | None:
        """What is accepted of a list of tools, and granted; None for a list that could be read in two ways."""
        result = value.get("result")
        listed = tools.listed(result)
        if listed is None or not isinstance(result, dict):
            return None
        sifted = sift(self._permitted.pins, listed)
        self.news = sifted.news
        known = {**result, "tools": sifted.shown} if "tools" in result else result
        changed = self._granted(known) or known
        return data if changed == result else wire.dump({**value, "result": changed})

    def _granted(self, result: Any) -> Any | None:
        return gate.filter_list(self._permitted.method, result, self._permitted.scope)

    def _own_tasks(self, result: Any) -> Any:
        tasks = result.get("tasks") if isinstance(result, dict) else None
        listed = tasks if isinstance(tasks, list) else []
        own = [task for task in listed if isinstance(task, dict) and self._is_own(task.get("taskId"))]
        return {**result, "tasks": own} if isinstance(result, dict) else {"tasks": own}

    def _is_own(self, task: Any) -> bool:
        return isinstance(task, str) and task in self._permitted.tasks

    def _instead(self, refusal: wire.Refusal) -> bytes:
        """Our answer in the place of the upstream's."""
        said = self._permitted.message
        request = said.value if said is not None else {"id": self._permitted.id, "method": self._permitted.method}
        return refusals.answer(request, refusal).rstrip(b"\n")
