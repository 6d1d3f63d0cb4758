"""The frames between client and child: each is looked at, then passed on unchanged, gated, or answered by the shim.

It never sends a frame of its own ahead of the client's, and hands the client nothing but frames.
"""

from __future__ import annotations

from contextlib import suppress

from percall import wire
from percall.errors import FrameError, WireError
from percall.rpc import frames, gate, refusals, tools
from percall.run import intake

TYPE_CHECKING = False  # `typing` itself costs 10 ms of each start
if TYPE_CHECKING:
    from typing import Any

    from percall.run.calls import Calls
    from percall.run.known_tools import KnownTools
    from percall.run.streams import Stderr, Writer

_TWO_READINGS = wire.Refusal(
    "frame.ambiguous",
    "The server's answer can be read in more than one way, so it was dropped.",
    "Tell whoever makes the server.",
)
_NOT_UTF8 = wire.Refusal(
    "frame.utf8", "The server's answer is not UTF-8, so it was dropped.", "Tell whoever makes the server."
)
_TOO_LONG = wire.Refusal("frame.long", "The server's answer was too long and was dropped.", "Ask for less.")


class Relay:
    """What happens to each line. `granted` is what the grant shows now, `refusing` why there is no child."""

    def __init__(self, *, granted: wire.GrantedServer, stderr: Stderr) -> None:
        self.granted: wire.GrantedServer | None = granted
        self.sampling = granted.entry.sampling
        self.refusing: wire.Refusal | None = None
        self._stderr = stderr
        self._requests: dict[Any, dict[str, Any]] = {}
        self._calls: Calls
        self._client: Writer
        self._known: KnownTools
        self._child: Writer | None = None
        self._opening: dict[str, Any] | None = None
        self._opened_here = False
        self._replay_id = ""
        self._held: list[bytes] = []
        self._has_dropped = False

    def connect(self, *, calls: Calls, client: Writer, known: KnownTools) -> None:
        """Join the parts."""
        self._calls, self._client, self._known = calls, client, known
        known.changed = self._more_tools

    @property
    def is_idle(self) -> bool:
        """Whether the client waits for nothing."""
        return self._calls.is_idle and not self._requests and not self._known.waiting

    @property
    def is_opening(self) -> bool:
        """Whether a new child has not yet opened the session that the client has."""
        return bool(self._replay_id)

    @property
    def held_bytes(self) -> int:
        """How much of the client's waits for that."""
        return sum(map(len, self._held))

    def to_child(self, line: bytes) -> None:
        """Pass a line on to the child."""
        if self._child is not None:
            self._child.write(line + b"\n")

    def from_client(self, line: bytes) -> None:
        """A line that the client sent."""
        if self._replay_id:
            self._held.append(line)
            return
        read = intake.read(line, self._client.write)
        if read is not None:
            self._dispatch(*read)

    def _dispatch(self, frame: dict[str, Any], line: bytes) -> None:
        method = frame.get("method")
        if method is None:
            self.to_child(line)
            return
        if not self._calls.client:
            self._calls.client = frames.client_info(frame)
        if method == "initialize":
            self._opening = frame
            self._opened_here = self.refusing is not None
        if self.refusing is not None:
            if "id" in frame:
                self._client.write(refusals.answer_without_server(frame, self.refusing))
        elif gate.is_gated(method):
            self._gate(frame, line)
        elif method == "notifications/cancelled":
            self._cancel(frame, line)
        else:
            self._pass(frame, line)

    def from_child(self, line: bytes | None, head: bytes = b"", tail: bytes = b"") -> None:
        """A line that the child sent; None stands for one that was too long, from `head` to `tail`."""
        if line is None:
            self._stderr.say(f"a line of the server's was longer than {wire.MAX_FRAME_BYTES} bytes and was dropped.")
            self._answer_dropped(frames.id_of_dropped(head, tail), _TOO_LONG)
            return
        line = line.replace(b"\r", b" ")  # between members, where alone JSON has one; some readers end a line there
        frame = frames.server_frame(line)
        if frame is None:
            if line.strip():
                self._stderr.copy(b"percall: not a frame, on the server's stdout: " + line[:500] + b"\n")
            if not _is_utf8(line):
                self._answer_dropped(frames.id_of_dropped(line, line), _NOT_UTF8)
            return
        if "method" in frame:
            self._from_server(frame, line)
        else:
            self._answered(frames.id_key(frame.get("id")), frame, line)

    def _answered(self, key: Any, frame: dict[str, Any], line: bytes) -> None:
        if self._replay_id and key == self._replay_id:
            self._replayed()
        elif self._calls.is_open(key):
            self._answer_call(key, frame, line)
        elif key in self._requests:
            self._answer_request(self._requests.pop(key), frame, line)
        elif (subscription := self._calls.heard_out(key)) is not None:
            self._answer_request(subscription, frame, line)
        elif not self._has_dropped:
            # Some client might take it for an answer, past all that is done with answers here.
            self._has_dropped = True
            self._stderr.say("an answer that nobody waits for was dropped, as all such are.")

    def _answer_call(self, key: Any, frame: dict[str, Any], line: bytes) -> None:
        if frames.may_hide_a_request(line):
            self._calls.answer_instead(key, _TWO_READINGS)
            return
        instead = self._calls.answered(key, frame, allow_sampling=self.sampling)
        self._client.write(line + b"\n" if instead is None else instead)

    def _answer_request(self, request: dict[str, Any], frame: dict[str, Any], line: bytes) -> None:
        """The server's answer to what is no call."""
        asked = gate.requested_by_server(frame.get("result"))
        if frames.may_hide_a_request(line):
            self._client.write(refusals.answer(request, _TWO_READINGS))
        elif gate.SAMPLING in asked and not self.sampling:
            self._client.write(refusals.answer(request, refusals.SAMPLING_REFUSED))
        elif request["method"] not in gate.LIST_METHODS or ("error" in frame and "result" not in frame):
            self._client.write(line + b"\n")
        else:
            self._list(request, line)

    def _list(self, request: dict[str, Any], line: bytes) -> None:
        """Of a list, what is known and granted. Nobody may read another one in its bytes."""
        frame: dict[str, Any] = {}
        listed = None
        with suppress(WireError, FrameError, KeyError):
            listing, line = frames.list_answer(line)
            frame = frames.only_reading(listing)
            listed = tools.listed(frame["result"]) if request["method"] == tools.METHOD else []
        if listed is None:
            self._client.write(refusals.answer(request, _TWO_READINGS))
        elif request["method"] == tools.METHOD:
            self._list_tools(request, frame, listed, line)
        else:
            self._client.write(self._filtered(request, frame, line))

    def refuse_all(self, refusal: wire.Refusal) -> None:
        """Answer everything with the refusal, now and from now on."""
        self.refusing = refusal
        self._calls.refuse_all(refusal)
        self._child, self._replay_id = None, ""
        held, self._held = self._held, []
        for line in held:
            self.from_client(line)
        requests, self._requests = self._requests, {}
        for request in requests.values():
            self._client.write(refusals.answer_without_server(request, refusal))

    def resume(self, child: Writer) -> None:
        """There is a child (again). A session that the client has opened is opened with it before anything else."""
        self.refusing = None
        self._child = child
        if self._opening is not None:
            self._replay_id = frames.own_id()
            self.to_child(wire.dump({**self._opening, "id": self._replay_id}))

    def _replayed(self) -> None:
        """The new child has opened the session: go on where the client is."""
        self._replay_id = ""
        self.to_child(frames.INITIALIZED)
        if self._opened_here:
            self._client.write(frames.MORE_TOOLS + b"\n")
        held, self._held = self._held, []
        for line in held:
            self.from_client(line)

    def _gate(self, frame: dict[str, Any], line: bytes) -> None:
        key = frames.id_key(frame.get("id"))
        if key is None:
            self._client.write(intake.without_id(frame))
        elif self._is_known(key):
            self._client.write(intake.repeated_id(frame))
        else:
            self._calls.submit(frame, line)

    def _pass(self, frame: dict[str, Any], line: bytes) -> None:
        method = frame["method"]
        key = frames.id_key(frame.get("id"))
        if key is not None:
            if self._is_known(key):
                self._client.write(intake.repeated_id(frame))
                return
            if len(self._requests) >= intake.MOST_OPEN:
                self._client.write(refusals.answer(frame, intake.FLOOD))
                return
            kept = ("id", "method", "params") if method == "initialize" else ("id", "method")
            self._requests[key] = {name: frame[name] for name in kept if name in frame}
        self.to_child(line)

    def _is_known(self, key: Any) -> bool:
        return key in self._requests or self._calls.knows(key)

    def _cancel(self, frame: dict[str, Any], line: bytes) -> None:
        params = frame.get("params")
        key = frames.id_key(params.get("requestId")) if isinstance(params, dict) else None
        if self._calls.cancel(key):
            self._requests.pop(key, None)
            self.to_child(line)

    def _from_server(self, frame: dict[str, Any], line: bytes) -> None:
        method = frame["method"]
        if method == gate.SAMPLING and not self.sampling:
            if "id" in frame:
                self.to_child(
                    refusals.error_line(frame["id"], refusals.REFUSED, refusals.SAMPLING_REFUSED).rstrip(b"\n")
                )
            return
        if method in gate.OBSERVED:
            self._calls.observe(method)
        self._client.write(line + b"\n")

    def _list_tools(self, request: dict[str, Any], frame: dict[str, Any], listed: list[Any], line: bytes) -> None:
        """The server's list of tools: of it, what is known and granted."""

        def shown(known: list[Any]) -> None:
            if len(known) == len(listed):
                self._client.write(self._filtered(request, frame, line))
                return
            sifted = {**frame, "result": {**frame["result"], "tools": known}}
            self._client.write(self._filtered(request, sifted, wire.dump(sifted)))

        self._known.sift(listed, shown)

    def _more_tools(self) -> None:
        """What was withheld is accepted: a client of the old era may ask again."""
        if self._opening is not None and self.refusing is None:
            self._client.write(frames.MORE_TOOLS + b"\n")

    def _filtered(self, request: dict[str, Any], frame: dict[str, Any], line: bytes) -> bytes:
        changed = gate.filter_list(request["method"], frame.get("result"), self.granted)
        return line + b"\n" if changed is None else wire.dump({**frame, "result": changed}) + b"\n"

    def _answer_dropped(self, key: Any, refusal: wire.Refusal) -> None:
        """Answer in the place of what was dropped."""
        if self._calls.is_open(key):
            self._calls.answer_instead(key, refusal)
        elif key in self._requests:
            self._client.write(refusals.answer(self._requests.pop(key), refusal))


def _is_utf8(line: bytes) -> bool:
    try:
        line.decode()
    except UnicodeDecodeError:
        return False
    return True
