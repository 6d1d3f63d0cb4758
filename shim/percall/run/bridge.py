"""A remote server, spoken to through the broker's door: the client's lines become signed requests, the answers lines.

Both eras. The stateless one keeps nothing here; of the old one the session's id and opening frame are kept, so that a
session which the server has forgotten is opened again. Nothing here decides: the broker does, with each request.
"""

from __future__ import annotations

import os
from collections import deque

from percall import home, wire
from percall.errors import FrameError, PercallError
from percall.rpc import frames, gate, inputs, refusals
from percall.run import http_headers, intake, trace
from percall.run.calls import ENDED
from percall.run.fetch import Fetch
from percall.run.pending import Pending
from percall.run.standing import Note, Question, Standing
from percall.run.streams import ENOUGH_WAITING

TYPE_CHECKING = False  # `typing` itself costs 10 ms of each start
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from percall.home import Found
    from percall.http1 import Address
    from percall.run.approvals import Wait
    from percall.run.fetch import Listener
    from percall.run.shim import Shim

_MOST_IN_FLIGHT = 128
_MOST_OPEN_REQUESTS = 10_000
_MOST_BYTES = 32 * 1024 * 1024
_MOST_LINGERING = 16
_BOTH = ("accept", "application/json, text/event-stream")
_JSON = ("content-type", "application/json")
_CANCELLED_SECONDS = 5.0
_GOODBYE_SECONDS = 0.5
_MOST_PAGES = 20


class Bridge:
    """What happens to each line, and to each message that comes back."""

    def __init__(self, shim: Shim, found: Found) -> None:
        self._shim = shim
        self._path = wire.PATH_RELAY + found.granted.entry.name
        self._is_on = home.may_run(found)
        self._refusing: wire.Refusal | None = None
        self._client = ""
        self._requests: dict[Any, Pending] = {}
        self._waiting: deque[Pending] = deque()
        self._in_flight = 0
        self._bytes = 0
        self._lingering: deque[Pending] = deque()
        self._held: deque[bytes | None] | None = None
        self._arguments = http_headers.MirroredArguments()
        self._stateless = ""
        self._opening: dict[str, Any] | None = None
        self._opened_here = False
        self._must_open = False
        self._for_session: list[Pending] = []
        self._session = ""
        self._version = ""
        self._standing = Standing(self)

    # --- What the shim asks of a server -------------------------------------------------------------------------------

    @property
    def is_running(self) -> bool:
        """Whether the grant is active."""
        return self._is_on

    @property
    def is_behind(self) -> bool:
        """Whether so much waits for the broker that no more should be read for it."""
        return (
            self._bytes > _MOST_BYTES
            or len(self._waiting) > _MOST_IN_FLIGHT
            or (self._held is not None and len(self._held) > _MOST_IN_FLIGHT)
            or self._shim.broker.unsent > ENOUGH_WAITING
        )

    @property
    def is_settled(self) -> bool:
        """Whether the client waits for nothing but streams that never end by themselves."""
        return not self._held and all(pending.method == gate.LONG_LIVED for pending in self._requests.values())

    @property
    def has_session(self) -> bool:
        """Whether the server has given the old era's session an id."""
        return bool(self._session)

    @property
    def address(self) -> Address:
        """The broker's."""
        return self._shim.broker.signer.address

    def begin(self) -> None:
        """Nothing has to be started."""

    def granted(self, granted: wire.GrantedServer | None) -> None:
        """The broker filters lists and requests by itself."""

    def resume(self) -> None:
        """The grant is active (again)."""
        self._is_on = True
        self._refusing = None
        self._must_open = self._must_open or self._opened_here
        if self._session:
            self._standing.open()

    def refuse_all(self, refusal: wire.Refusal) -> bool:
        """Answer everything with the refusal, now and from now on. Whether this is news."""
        is_news = self._refusing is None
        self._refusing = refusal
        self._is_on = False
        self._standing.close()
        pendings = tuple(self._requests.values())
        self._requests.clear()
        self._waiting.clear()
        self._for_session.clear()
        self._in_flight = self._bytes = 0
        for pending in pendings:
            pending.abandon()
            self._answer_without_server(pending.frame, refusal)
        self._release()
        return is_news

    def cut(self) -> None:
        """`refuse_all` has closed every stream."""

    def client_drained(self) -> None:
        """The client has taken what waited for it."""
        self._shim.broker.resume()

    def stop(self, grace: float) -> None:
        """Close what is open, tell the server that the session is over, and end."""
        for pending in self._requests.values():
            pending.abandon()
        self._standing.close()
        if not self._session:
            self._shim.finish(0)
            return
        self._shim.loop.later(max(grace, _GOODBYE_SECONDS), lambda: self._shim.finish(0))
        goodbye = Note(self, lambda: self._shim.finish(0))
        self.fetch(goodbye, "DELETE", b"", self.session_headers()).start()

    def settle(self, settled: Callable[[], None]) -> None:
        """The broker has seen every outcome."""
        settled()

    def close(self) -> None:
        """The connections are the shim's."""

    # --- From the client ----------------------------------------------------------------------------------------------

    def from_client(self, line: bytes | None) -> None:
        """A line that the client sent; None stands for one that was too long."""
        if self._held is not None:
            self._held.append(line)
            self._bytes += len(line or b"")
            return
        read = intake.read(line, self._shim.client.write)
        if read is not None:
            self._dispatch(*read)

    def _dispatch(self, frame: dict[str, Any], line: bytes) -> None:
        method = frame.get("method")
        if not self._client:
            self._client = frames.client_info(frame)
        if method == "initialize" and not frames.is_modern(frame):
            self._opening = {name: frame[name] for name in ("jsonrpc", "method", "params") if name in frame}
            self._session = self._version = ""
            self._must_open = False
            self._opened_here = self._refusing is not None
        if self._refusing is not None:
            if method is not None and "id" in frame:
                self._answer_without_server(frame, self._refusing)
        elif method == "notifications/cancelled":
            self._cancel(frame, line)
        elif method is None or "id" not in frame:
            self._tell(frame, line)
        else:
            self._ask(frame, line)

    def _ask(self, frame: dict[str, Any], line: bytes) -> None:
        key = frames.id_key(frame["id"])
        if key is None:
            problem = FrameError("frame.id", f"A {frame['method'][:64]!r} request has no id that could be answered.")
            self._shim.client.write(refusals.bad_frame(problem))
        elif key in self._requests:
            self._shim.client.write(intake.repeated_id(frame))
        elif len(self._requests) >= _MOST_OPEN_REQUESTS:
            self._shim.client.write(refusals.answer(frame, intake.FLOOD))
        else:
            by_page = inputs.can_open(frame)
            frame, line = inputs.resumed(frame, line)
            pending = Pending(self, frame, line, self._headers(frame), by_page=by_page)
            self._requests[key] = pending
            self._bytes += pending.size
            if pending.is_stateless and pending.method == "tools/call" and not self._arguments.are_known:
                self._learn_arguments(pending, frame, "", 0)
            else:
                self._send(pending)

    def _send(self, pending: Pending) -> None:
        if self._must_open and not pending.is_stateless and pending.method != "initialize":
            self._for_session.append(pending)
            self._open_again()
        elif self._in_flight >= _MOST_IN_FLIGHT and pending.method != gate.LONG_LIVED:
            self._waiting.append(pending)
        else:
            self._in_flight += pending.method != gate.LONG_LIVED
            if pending.method == "initialize" and not pending.is_stateless:
                self._hold()  # what follows belongs to the session
            pending.start()

    def _tell(self, frame: dict[str, Any], line: bytes) -> None:
        """A notification, or the client's answer to a request of the server's."""
        if self._must_open:
            return  # the session that it belongs to is gone
        headers = self._headers(frame)
        if frame.get("method") != "notifications/initialized" or self._opening is None:
            self.fetch(Note(self), "POST", line, headers).start()
            return
        self._hold()

        def accepted() -> None:
            self._standing.open()
            self._release()

        self.fetch(Note(self, accepted), "POST", line, headers).start()

    def _cancel(self, frame: dict[str, Any], line: bytes) -> None:
        """The old era tells the server; in the stateless one, closing the stream does."""
        params = frame.get("params")
        pending = self._requests.get(frames.id_key(params.get("requestId")) if isinstance(params, dict) else None)
        if pending is None:
            if not self._stateless:
                self._tell(frame, line)
        elif pending.is_stateless or not pending.has_started:
            pending.abandon()
            self.forget(pending)
        else:
            pending.is_cancelled = True
            self._tell(frame, line)
            self.later(_CANCELLED_SECONDS, lambda: self._give_up(pending))

    def _give_up(self, pending: Pending) -> None:
        if self._requests.get(pending.key) is pending:
            pending.abandon()
            self.forget(pending)

    # --- What a request asks for --------------------------------------------------------------------------------------

    def fetch(self, listener: Listener, method: str, body: bytes, headers: Sequence[tuple[str, str]]) -> Fetch:
        """A request to the server's door."""
        own = [("percall-client", http_headers.encoded(self._client))] if self._client else []
        if inherited := trace.inherited():
            own.append(("traceparent", inherited))
        own.append((wire.HEADER_SESSION, self._shim.approvals.session))
        if body:
            own += [_JSON, _BOTH]
        return Fetch(self._shim.broker, listener, method, self._path, body, [*headers, *own])

    def session_headers(self) -> list[tuple[str, str]]:
        """The headers of the old era."""
        headers = [("mcp-session-id", self._session)] if self._session else []
        return [*headers, ("mcp-protocol-version", http_headers.encoded(self._version))] if self._version else headers

    def later(self, seconds: float, callback: Callable[[], None]) -> None:
        """Call back after some seconds."""
        self._shim.loop.later(seconds, callback)

    def _headers(self, frame: dict[str, Any]) -> list[tuple[str, str]]:
        stated = frames.meta(frame).get(frames.MODERN)
        if isinstance(stated, str):
            self._stateless = stated
        is_of_it = self._opening is None and (self._stateless or frame.get("method") == "server/discover")
        if not isinstance(stated, str) and not is_of_it:
            return [] if frame.get("method") == "initialize" else self.session_headers()
        version = self._stateless or http_headers.FIRST_STATELESS
        return [*http_headers.stateless(frame, version), *self._arguments.headers(frame)]

    def _learn_arguments(self, pending: Pending, frame: dict[str, Any], cursor: str, pages: int) -> None:
        """Ask for the tools once before the first call, where the client has not: a schema may ask for headers."""
        params: dict[str, Any] = {"_meta": frames.meta(frame)}
        if cursor:
            params["cursor"] = cursor
        asked = {"jsonrpc": "2.0", "id": _own_id(), "method": "tools/list", "params": params}

        def heard(answer: dict[str, Any]) -> None:
            result = answer.get("result")
            self._arguments.learn(result)
            following = result.get("nextCursor") if isinstance(result, dict) else None
            if isinstance(following, str) and following and pages < _MOST_PAGES:
                self._learn_arguments(pending, frame, following, pages + 1)
            else:
                done()

        def done() -> None:
            self._arguments.are_known = True
            if not pending.is_cancelled:
                pending.headers += self._arguments.headers(frame)
                self._send(pending)

        question = Question(self, heard, lambda _refusal: done())
        self.fetch(question, "POST", wire.dump(asked), http_headers.stateless(asked, self._stateless)).start()

    # --- From the server ----------------------------------------------------------------------------------------------

    def message(self, data: bytes) -> tuple[dict[str, Any] | None, bytes]:
        """The frame of a message, and the line that it makes; None for what is none."""
        line = data.replace(b"\n", b" ").replace(b"\r", b" ")  # between members only: in a string they are escaped
        frame = frames.server_frame(line)
        if frame is None and line.strip():
            self._shim.stderr.say("something that is no frame came from the server and was dropped.")
        return frame, line

    def began(self, pending: Pending, headers: dict[str, str]) -> None:
        """The server takes a request."""
        if pending.method == "initialize" and not pending.is_stateless:
            self._session = headers.get("mcp-session-id", "")

    def answered(self, pending: Pending, frame: dict[str, Any], line: bytes) -> None:
        """The answer to a request of the client's."""
        if pending.method == "initialize" and not pending.is_stateless:
            self._is_opened(frame)
        elif pending.method == "tools/list" and pending.is_stateless:
            self._arguments.learn(frame.get("result"))
        self.forget(pending)
        self._lingering.append(pending)
        if len(self._lingering) > _MOST_LINGERING:
            self._lingering.popleft().abandon()  # its stream goes on after its end
        self._write(line)
        if pending.method == "initialize":
            self._release()

    def over(self, pending: Pending) -> None:
        """The stream of an answer has ended after it."""
        if pending in self._lingering:
            self._lingering.remove(pending)

    def say(self, error: PercallError) -> None:
        """For the person who looks at the client's logs."""
        self._shim.stderr.say(f"{error} [{error.code}]")

    def pass_on(self, line: bytes) -> None:
        """A request or a notification of the server's: what the client may not have, the broker has taken out."""
        self._write(line)

    def refuse(self, pending: Pending, refusal: wire.Refusal) -> None:
        """There is no answer of the server's."""
        if self._requests.get(pending.key) is not pending:
            return
        self.forget(pending)
        if pending.method == "initialize" and not pending.is_stateless:
            self._opened_here = self._must_open = True
            self._version = str(pending.frame["params"].get("protocolVersion") or "")
            self._shim.stderr.say(f"{refusal.message} {refusal.next_step}".rstrip() + f" [{refusal.code}]")
            self._answer_without_server(pending.frame, refusal)
            self._release()
        else:
            self._shim.client.write(refusals.answer(pending.frame, refusal))
        if refusal.code in ENDED:
            self._shim.grant_ended(refusal)

    def hold(self, pending: Pending, asked: wire.Asked, refusal: bytes) -> None:
        """A request waits for an approval, and the others go on. `refusal` is what its client is told in the end."""

        def over() -> None:
            self.forget(pending)
            self._write(refusal)

        if pending.by_page:
            refusal = inputs.required(pending.frame, asked).rstrip(b"\n")
            over()
            return
        self._settled(pending)
        pending.has_started = False
        pending.wait = self._shim.approvals.wait(
            pending.frame, self._client, pending.arrived, asked, lambda: self._send(pending), over
        )
        if pending.wait is None:
            over()

    def give_up(self, wait: Wait) -> None:
        """A request waits for no approval any more."""
        self._shim.approvals.cancel(wait)

    def forget(self, pending: Pending) -> None:
        """A request is no longer open; the next one may go."""
        if self._requests.get(pending.key) is not pending:
            return
        del self._requests[pending.key]
        self._bytes -= pending.size
        pending.line = b""
        if not pending.has_started:
            if pending in self._waiting:
                self._waiting.remove(pending)
            return
        self._settled(pending)

    def _settled(self, pending: Pending) -> None:
        """It is no longer on its way: others may go."""
        self._in_flight -= pending.method != gate.LONG_LIVED
        while self._waiting and self._in_flight < _MOST_IN_FLIGHT:
            self._send(self._waiting.popleft())

    def _write(self, line: bytes) -> None:
        self._shim.client.write(line + b"\n")
        if self._shim.client.waiting > ENOUGH_WAITING:
            self._shim.broker.pause()

    def _answer_without_server(self, frame: dict[str, Any], refusal: wire.Refusal) -> None:
        self._shim.client.write(refusals.answer_without_server(frame, refusal))

    # --- The old era's session ----------------------------------------------------------------------------------------

    def _hold(self) -> None:
        if self._held is None:
            self._held = deque()

    def _release(self) -> None:
        """Go on with what the client has sent in the meantime."""
        held, self._held = self._held, None
        for line in held or ():
            self._bytes -= len(line or b"")
            self.from_client(line)

    def _is_opened(self, frame: dict[str, Any]) -> bool:
        """The answer to `initialize`. Whether the session is open, in the revision that the client knows of."""
        result = frame.get("result")
        version = result.get("protocolVersion") if isinstance(result, dict) else None
        if not isinstance(version, str) or (self._version and version != self._version):
            return False
        self._version = version
        return True

    def session_ended(self, pending: Pending | None) -> None:
        """The server does not know the session any more, so it has not looked at the request either."""
        if not self._must_open:
            self._must_open = True
            self._session = ""
            self._standing.close()
        if pending is None:
            return
        if pending.method == "tools/call" or pending.is_repeated or self._opening is None:
            self.refuse(pending, _SESSION_ENDED)
            return
        pending.is_repeated = True
        pending.headers = []
        pending.has_started = False
        self._in_flight -= pending.method != gate.LONG_LIVED
        self._send(pending)

    def _open_again(self) -> None:
        """Open the session as the client did; what waits for it goes on after that."""
        if self._held is not None or self._opening is None:
            return
        self._hold()

        def heard(answer: dict[str, Any]) -> None:
            if not self._is_opened(answer):
                self._not_opened(_SESSION_DIFFERS)
                return
            self._session = question.headers.get("mcp-session-id", "")
            done = Note(self, self._opened_again)
            initialized = b'{"jsonrpc":"2.0","method":"notifications/initialized"}'
            self.fetch(done, "POST", initialized, self.session_headers()).start()

        question = Question(self, heard, self._not_opened)
        self.fetch(question, "POST", wire.dump({**self._opening, "id": _own_id()}), []).start()

    def _opened_again(self) -> None:
        self._must_open = False
        self._standing.open()
        if self._opened_here:
            self._opened_here = False
            self._write(b'{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}')
        waiting, self._for_session = self._for_session, []
        for pending in waiting:
            if not pending.is_cancelled:
                pending.headers = self.session_headers()
                self._send(pending)
        self._release()

    def _not_opened(self, refusal: wire.Refusal) -> None:
        waiting, self._for_session = self._for_session, []
        for pending in waiting:
            self.refuse(pending, refusal)
        self._release()


def _own_id() -> str:
    """The id of a request of our own: none of the client's."""
    return f"percall-{os.urandom(9).hex()}"


_SESSION_ENDED = wire.Refusal(
    "session.ended",
    "The server had forgotten the session, so it has not done this; the next request opens a new one.",
    "Try again.",
)
_SESSION_DIFFERS = wire.Refusal(
    "session.differs",
    "The server has forgotten the session, and would not open it again as it was.",
    "Restart the server in your client.",
)
