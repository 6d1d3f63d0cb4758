"""What an upstream says to one client, message by message: what passes, what is changed, and what is answered here.

Lists show only what the grant names; a request for the client's model is refused unless the entry allows it; and the
answer that was waited for says what became of the call. What is no message does not reach the client.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from percall import wire
from percall.errors import WireError
from percall.rpc import frames, gate, refusals

if TYPE_CHECKING:
    from percall_broker.pipeline.relay import Permitted, Seen


class _Said(msgspec.Struct):
    """A message of the upstream's. What it holds is cut out, not read: it may be long."""

    id: str | int | float | None = None
    method: msgspec.Raw = msgspec.Raw(b"")
    result: msgspec.Raw = msgspec.Raw(b"")
    error: msgspec.Raw = msgspec.Raw(b"")


class _Result(msgspec.Struct, rename="camel"):
    is_error: msgspec.Raw = msgspec.Raw(b"")
    input_requests: msgspec.Raw = msgspec.Raw(b"")


_decode = msgspec.json.Decoder(_Said).decode
_decode_result = msgspec.json.Decoder(_Result).decode


class Watch:
    """One exchange. `refused` are the ids of the upstream's requests that are to be answered on the client's behalf;
    `first_seen` the methods that it asks of the client for the first time.
    """

    def __init__(self, permitted: Permitted, seen: Seen) -> None:
        self._permitted = permitted
        self._seen = seen
        self.refused: list[Any] = []
        self.first_seen: list[str] = []
        self._awaited = frames.id_key(permitted.id)
        self.answered = self._awaited is None

    def look(self, data: bytes) -> bytes | None:
        """The message as the client may have it; None for one that it may not have."""
        try:
            said = _decode(data)
        except (msgspec.DecodeError, UnicodeDecodeError):
            return None
        if said.method:
            return self._request(data)
        if not (said.result or said.error):
            return None
        if self._awaited is None or frames.id_key(said.id) != self._awaited:
            return data
        self.answered = True
        return self._answer(said, data)

    def _request(self, data: bytes) -> bytes | None:
        try:
            value = wire.strict_json(data)  # so that no request hides behind a duplicate member
        except WireError:
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
        if said.error:
            self._seen.outcome = "failed"
            return data
        try:
            result = _decode_result(said.result)
            asked = gate.requested_by_server(wire.strict_json(bytes(said.result))) if result.input_requests else []
        except (msgspec.DecodeError, UnicodeDecodeError, WireError):
            asked, result = [], _Result()
        for method in asked:
            if method in gate.OBSERVED:
                self._observe(method)
        if gate.SAMPLING in asked and not self._permitted.server.entry.sampling:
            self._seen.outcome = "refused"
            return self._instead(refusals.SAMPLING_REFUSED)
        self._seen.outcome = "failed" if bytes(result.is_error) == b"true" else "done"
        return self._filtered(data) if self._permitted.method in gate.LIST_METHODS else data

    def _observe(self, method: str) -> None:
        if method not in self._seen.observed:
            self.first_seen.append(method)
        self._seen.observed[method] = self._seen.observed.get(method, 0) + 1

    def _filtered(self, data: bytes) -> bytes | None:
        try:
            value = wire.strict_json(data)
        except WireError:
            return None
        changed = gate.filter_list(self._permitted.method, value.get("result"), self._permitted.scope)
        return data if changed is None else wire.dump({**value, "result": changed})

    def _instead(self, refusal: wire.Refusal) -> bytes:
        """Our answer in the place of the upstream's."""
        said = self._permitted.message
        request = said.value if said is not None else {"id": self._permitted.id, "method": self._permitted.method}
        return refusals.answer(request, refusal).rstrip(b"\n")
