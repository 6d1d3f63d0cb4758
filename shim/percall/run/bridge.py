"""A remote server behind the shim: the client's lines become requests at the broker's door, the answers lines again.

What the two eras need beside that is theirs: `mcp_session` and `stateless`. Nothing here decides: the broker does, with
each request.
"""

from __future__ import annotations

from functools import partial

from percall import home, wire
from percall.rpc import frames, gate, inputs, refusals
from percall.run import intake, mcp_session
from percall.run.door import Door
from percall.run.open_requests import OpenRequests
from percall.run.pending import Pending, unknown
from percall.run.stateless import Stateless
from percall.run.streams import ENOUGH_WAITING

TYPE_CHECKING = False  # `typing` itself costs 10 ms of each start
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from percall.home import Found
    from percall.run.approvals import Wait
    from percall.run.door import Headers
    from percall.run.shim import Shim

_CANCELLED_SECONDS = 5.0
"""How long the server may take to answer what was cancelled."""
_GOODBYE_SECONDS = 0.5
"""How long it may take to hear that the client has left."""


class Bridge:
    """What happens to each line, and to each request that was made of one."""

    def __init__(self, shim: Shim, found: Found) -> None:
        self._shim = shim
        self._is_on = home.may_run(found)
        self._refusing: wire.Refusal | None = None
        self._requests = OpenRequests(self._send)
        self._door = Door(shim, found.granted.entry)
        self._session = mcp_session.McpSession(self._door, self.from_client)
        self._stateless = Stateless(self._door)

    # --- What the shim asks of a server -------------------------------------------------------------------------------

    @property
    def is_running(self) -> bool:
        """Whether the grant is active."""
        return self._is_on

    @property
    def is_behind(self) -> bool:
        """Whether so much waits for the broker that no more should be read for it."""
        waits = self._requests.is_behind(self._session.held, self._session.held_bytes)
        return waits or self._shim.broker.unsent > ENOUGH_WAITING

    @property
    def is_settled(self) -> bool:
        """Whether the client waits for nothing but streams that never end by themselves."""
        return self._session.held == 0 and self._requests.is_settled

    def begin(self) -> None:
        """Nothing has to be started."""

    def granted(self, granted: wire.GrantedServer | None) -> None:
        """The broker filters lists and requests by itself."""
        if granted is not None:
            self._door.granted(granted.entry)

    def resume(self) -> None:
        """The grant is active (again)."""
        self._is_on = True
        self._refusing = None
        self._session.resume()

    def refuse_all(self, refusal: wire.Refusal) -> bool:
        """Answer everything with the refusal, now and from now on. Whether this is news."""
        is_news = self._refusing is None
        self._refusing = refusal
        self._is_on = False
        for pending in self._requests.clear():
            was_sent = pending.has_started and gate.is_gated(pending.method)
            pending.abandon()
            self._answer_without_server(pending.frame, refusals.of_open_call(refusal) if was_sent else refusal)
        self._session.suspend()
        return is_news

    def cut(self) -> None:
        """`refuse_all` has closed every stream."""

    def client_drained(self) -> None:
        """The client has taken what waited for it."""
        self._shim.broker.resume()

    def stop(self, grace: float) -> None:
        """Close what is open, tell the server that the session is over, and end."""
        for pending in self._requests:
            pending.abandon()  # `refuse_all` answers what is still open
        end = partial(self._shim.finish, 0)
        self._shim.loop.later(max(grace, _GOODBYE_SECONDS), end)
        self._session.leave(end)

    def settle(self, settled: Callable[[], None]) -> None:
        """The broker has seen every outcome."""
        settled()

    def close(self) -> None:
        """The connections are the shim's."""

    # --- From the client ----------------------------------------------------------------------------------------------

    def from_client(self, line: bytes) -> None:
        """A line that the client sent."""
        if self._session.holds(line):
            return
        read = intake.read(line, self._shim.client.write)
        if read is not None:
            self._dispatch(*read)

    def _dispatch(self, frame: dict[str, Any], line: bytes) -> None:
        method = frame.get("method")
        if not self._door.client:
            self._door.client = frames.client_info(frame)
        if self._refusing is not None:
            if method is not None and "id" in frame:
                self._answer_without_server(frame, self._refusing)
                if method == "initialize" and not frames.is_modern(frame):
                    self._session.begin(frame)
                    self._session.promised("")
        elif method == "notifications/cancelled":
            self._cancel(frame, line)
        elif method is None or "id" not in frame:
            self._tell(frame, line)
        else:
            self._ask(frame, line)

    def _ask(self, frame: dict[str, Any], line: bytes) -> None:
        key = frames.id_key(frame["id"])
        if key is None:
            self._shim.client.write(intake.without_id(frame))
        elif self._requests.find(key) is not None:
            self._shim.client.write(intake.repeated_id(frame))
        elif self._requests.is_full:
            self._shim.client.write(refusals.answer(frame, intake.FLOOD))
        else:
            by_page = inputs.can_open(frame)
            frame, line = inputs.resumed(frame, line)
            is_stateless, headers = self._era(frame)
            pending = Pending(self, self._door, frame, line, headers, is_stateless=is_stateless, by_page=by_page)
            self._requests.add(pending)
            if pending.opens_session:
                self._session.begin(frame)
            if is_stateless and self._stateless.must_learn(frame):
                self._stateless.learn(frame, partial(self._send_with_arguments, pending, frame))
            else:
                self._send(pending)

    def _era(self, frame: dict[str, Any]) -> tuple[bool, Headers]:
        """Whether a frame is of the stateless era, and the headers that its era wants beside it."""
        is_first = frame.get("method") == "initialize"
        if self._stateless.is_spoken(frame, has_session=is_first or self._session.has_begun):
            return True, self._stateless.headers(frame)
        return False, [] if is_first else self._session.headers()

    def _send_with_arguments(self, pending: Pending, frame: dict[str, Any]) -> None:
        pending.headers = self._stateless.headers(frame)
        self._send(pending)

    def _send(self, pending: Pending) -> None:
        if pending.is_cancelled:
            return
        is_of_session = not pending.is_stateless and not pending.opens_session
        if is_of_session and self._session.must_wait(pending.headers):
            self._session.when_open(partial(self._send, pending), partial(self.refuse, pending))
        elif self._requests.goes(pending):
            if is_of_session:
                pending.headers = self._session.headers()  # the session may be another than when the line came
            pending.start()

    def _tell(self, frame: dict[str, Any], line: bytes) -> None:
        """A notification, or the client's answer to a request of the server's."""
        if self._session.is_lost:
            return  # the session that it belongs to is gone
        is_stateless, headers = self._era(frame)
        if frame.get("method") == "notifications/initialized" and not is_stateless and self._session.has_begun:
            self._session.confirm(line)
        else:
            self._session.tell(line, headers)

    def _cancel(self, frame: dict[str, Any], line: bytes) -> None:
        """The old era tells the server; in the stateless one, closing the stream does."""
        params = frame.get("params")
        pending = self._requests.find(frames.id_key(params.get("requestId")) if isinstance(params, dict) else None)
        if pending is None:
            if not self._stateless.version:
                self._tell(frame, line)
        elif pending.is_stateless or not pending.has_started:
            pending.abandon()
            self.forget(pending)
        else:
            pending.is_cancelled = True
            self._tell(frame, line)
            self._shim.loop.later(_CANCELLED_SECONDS, lambda: self._give_up(pending))

    def _give_up(self, pending: Pending) -> None:
        if pending in self._requests:
            pending.abandon()
            self.forget(pending)

    # --- What becomes of a request ------------------------------------------------------------------------------------

    def began(self, pending: Pending, headers: dict[str, str]) -> None:
        """The server takes a request."""
        if pending.opens_session:
            self._session.given(headers)
            pending.headers = self._session.headers()  # for the rest of the answer, should it break off

    def answered(self, pending: Pending, frame: dict[str, Any], line: bytes) -> None:
        """The answer to a request of the client's."""
        self.forget(pending)
        self._requests.linger(pending)
        self._door.pass_on(line)
        if pending.opens_session:
            self._session.answered(frame)
        elif pending.method == "tools/list" and pending.is_stateless:
            self._stateless.listed(frame)

    def over(self, pending: Pending) -> None:
        """The stream of an answer has ended after it."""
        self._requests.over(pending)

    def refuse(self, pending: Pending, refusal: wire.Refusal) -> None:
        """There is no answer of the server's."""
        if pending not in self._requests:
            return
        self.forget(pending)
        if pending.opens_session:
            self._shim.stderr.say(f"{refusal} [{refusal.code}]")
            self._answer_without_server(pending.frame, refusal)
            self._session.promised(str(pending.frame["params"].get("protocolVersion") or ""))
        else:
            self._shim.client.write(refusals.answer(pending.frame, refusal))
        if refusal.code in wire.CODES_OF_STANDING:
            self._shim.grant_ended(refusal)

    def hold(self, pending: Pending, asked: wire.Asked, refusal: bytes) -> None:
        """A request waits for an approval, and the others go on. `refusal` is what its client is told in the end."""

        def over() -> None:
            self.forget(pending)
            self._door.pass_on(refusal)

        if pending.by_page:
            refusal = inputs.required(pending.frame, asked).rstrip(b"\n")
            over()
            return
        self._requests.comes_back(pending)
        pending.wait = self._shim.approvals.wait(
            pending.frame, self._door.client, pending.arrived, asked, lambda: self._send(pending), over
        )
        if pending.wait is None:
            over()

    def give_up(self, wait: Wait) -> None:
        """A request waits for no approval any more."""
        self._shim.approvals.cancel(wait)

    def forget(self, pending: Pending) -> None:
        """Nobody waits for a request any more; the next one may go."""
        self._requests.remove(pending)

    def session_ended(self, pending: Pending) -> None:
        """The server does not know the session of a request any more: what it has not looked at goes into a new one."""
        self._session.ended(pending.headers)
        if pending.is_cancelled:
            self.forget(pending)
        elif pending.was_taken and gate.is_gated(pending.method):
            self.refuse(pending, unknown("The server forgot the session before its answer was whole."))
        elif pending.method == "tools/call" or pending.is_repeated or pending.opens_session:
            self.refuse(pending, mcp_session.ENDED)
        else:
            pending.is_repeated = True
            self._requests.comes_back(pending)
            self._send(pending)

    def _answer_without_server(self, frame: dict[str, Any], refusal: wire.Refusal) -> None:
        self._shim.client.write(refusals.answer_without_server(frame, refusal))
