"""The shim from its start to its end: one client, one server (a child, or a remote one), one broker, under one loop.

Outside the broker's word nothing here decides: it hands the client's lines to the server, starts and stops it as the
grant says, and takes everything down in order.
"""

from __future__ import annotations

import time
from functools import partial

from percall import home, system, wire
from percall.errors import PercallError, UsageError
from percall.rpc import frames, refusals
from percall.run import intake
from percall.run.approvals import Approvals
from percall.run.broker import Broker
from percall.run.events import EventStream
from percall.run.loop import READ, Loop
from percall.run.streams import ENOUGH_WAITING, Stderr, Writer

TYPE_CHECKING = False  # `typing` itself costs 10 ms of each start
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Protocol

    from percall.home import Found
    from percall.run.broker import Signer
    from percall.system.posix import Fork

    class Server(Protocol):
        """What stands behind the shim."""

        @property
        def is_running(self) -> bool:
            """Whether it takes requests."""

        @property
        def is_behind(self) -> bool:
            """Whether so much waits for it that no more should be read."""

        @property
        def is_settled(self) -> bool:
            """Whether the client waits for nothing."""

        def begin(self) -> None:
            """Be ready for the client's first line."""

        def from_client(self, line: bytes) -> None:
            """A line of the client's."""

        def granted(self, granted: wire.GrantedServer | None) -> None:
            """What the grant names of it now."""

        def resume(self) -> None:
            """The grant is active (again). Raises PercallError."""

        def refuse_all(self, refusal: wire.Refusal) -> bool:
            """Answer everything with the refusal, now and from now on. Whether this is news."""

        def cut(self) -> None:
            """The grant has ended."""

        def client_drained(self) -> None:
            """The client has taken what waited for it."""

        def stop(self, grace: float) -> None:
            """The client has left: end within about `grace` seconds, then call `finish`."""

        def settle(self, settled: Callable[[], None]) -> None:
            """Give the broker what it is owed, then call back."""

        def close(self) -> None:
            """Leave nothing behind."""


_STDIN, _STDOUT = 0, 1
_LOOK_AGAIN_SECONDS = 0.02
_OPEN_CALLS_SECONDS = 30.0
"""How long what a client still waits for may take once its input has ended."""
_GRACE_SECONDS = 1.5
"""How long a server may take to end by itself after that."""
_FLUSH_SECONDS = 2.0
"""How long our own end may take: client and broker are given what they are owed."""
_STANDING_SECONDS = 5.0
"""How long a client waits for the broker's word where the grant was last seen stopped."""


class Shim:
    """The client's side, the broker's word, and the order of the end. `run` is given the server."""

    def __init__(self, found: Found, signer: Signer, reader: Fork | None = None) -> None:
        self.loop = loop = Loop()
        self.stderr = Stderr(loop)
        self.broker = Broker(loop, found.login, signer, reader)
        self.broker.wanted = self.connect
        self._stdin, self._stdout = system.standard(_STDIN), system.standard(_STDOUT)
        self.client = Writer(loop, self._stdout, self._client_gone, self._client_drained)
        self.approvals = Approvals(loop, self.broker, self.client.write)
        self.client_left = False
        self._found = found
        self._session = found.session
        self._name = found.granted.entry.name
        self._events = EventStream(loop, self.broker, self._session_came, self.approvals.answered, self._stream_refused)
        self._lines = frames.LineReader(wire.MAX_FRAME_BYTES)
        self._server: Server
        self._exit_code: int | None = None
        self._is_connected = False
        self._is_stopping = False
        self._finishing = False
        self._awaits_standing = False

    def run(self, server: Server, connect_after: float) -> int:
        """Serve until the client leaves or the server ends; the exit code. The broker is met after some seconds."""
        self._server = server
        system.widen(self._stdin)
        system.widen(self._stdout)
        restore = system.unblocked(self._stdout)
        for number in system.ENDING:
            self.loop.on_signal(number, partial(self._terminated, number))
        self._awaits_standing = not server.is_running
        self.loop.later(0.0 if self._awaits_standing else connect_after, self.connect)
        server.begin()
        if self._awaits_standing:
            self.loop.later(_STANDING_SECONDS, self._no_standing)
        else:
            self._listen_to_client()
        try:
            self.loop.run()
        finally:
            self._server.close()
            self.broker.close()
            self.stderr.finish()
            restore()
        return self._exit_code or 0

    def connect(self) -> None:
        """Read the identity, and open the stream with it. Not before the session is open: a start must be quick."""
        if not self._is_connected:
            self._is_connected = True
            self.broker.read_identity()
            self._events.open()
            self.broker.warm()

    # --- The client ---------------------------------------------------------------------------------------------------

    def _listen_to_client(self) -> None:
        self.loop.watch(self._stdin, READ, self._client_ready)

    def _client_ready(self, _events: int) -> None:
        try:
            data = system.read(self._stdin, system.PIPE_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        for line in self._lines.feed(data) if data else self._lines.feed_eof():
            if line is None:
                self.client.write(intake.too_long(self._lines.dropped_head, self._lines.dropped_tail))
            else:
                self._server.from_client(line)
        if not data:
            self._client_closed()
        elif self._is_behind():
            self.loop.unwatch(self._stdin)
            self.loop.later(_LOOK_AGAIN_SECONDS, self._resume_stdin)

    def _resume_stdin(self) -> None:
        if self.client_left or self._finishing:
            return
        if self._is_client_deaf():  # its end of file may stand behind what is not read now
            self._client_gone()
        elif self._is_behind():
            self.loop.later(_LOOK_AGAIN_SECONDS, self._resume_stdin)
        else:
            self._listen_to_client()

    def _is_behind(self) -> bool:
        """Whether so much waits for the server, or for a client that does not read, that no more should be read."""
        return self._server.is_behind or self.client.waiting > ENOUGH_WAITING

    def _client_closed(self) -> None:
        """End of the client's input: what it asked for is answered, then the server is told."""
        self.client_left = True
        self.loop.unwatch(self._stdin)
        self._drain(time.monotonic() + _OPEN_CALLS_SECONDS)

    def _drain(self, end: float) -> None:
        if self._finishing or self._is_stopping:
            return
        if not self._server.is_running:
            self.finish(0)
        elif self._server.is_settled or time.monotonic() > end or self._is_client_deaf():
            self._stop(_GRACE_SECONDS)
        else:
            self.loop.later(_LOOK_AGAIN_SECONDS, lambda: self._drain(end))

    def _is_client_deaf(self) -> bool:
        return system.is_deaf(self._stdout)

    def _client_gone(self) -> None:
        """Nobody reads our output."""
        self.client_left = True
        self.loop.unwatch(self._stdin)
        self._stop(0.0)

    def _client_drained(self) -> None:
        self._server.client_drained()

    def _terminated(self, number: int) -> None:
        self.client_left = True
        self._exit_code = 128 + number
        self.loop.unwatch(self._stdin)
        self._stop(0.0)

    def _stop(self, grace: float) -> None:
        if not self._finishing and not self._is_stopping:
            self._is_stopping = True
            self._server.stop(grace)

    # --- The grant ----------------------------------------------------------------------------------------------------

    def _session_came(self, session: wire.Session) -> None:
        """The broker says what the grant may use now."""
        if session.grant != self._session.grant:
            return  # which is nothing that this broker could say of it
        if session != self._session:
            try:
                home.save_session(session)
            except UsageError as error:
                self.stderr.say(str(error))
        self._session = session
        granted = next((item for item in session.servers if item.entry.name == self._name), None)
        self._server.granted(granted)
        if session.state != "active":
            self.grant_ended(session.refusal or standing_refusal(session.state))
        elif granted is None:
            # As the broker says it: what a grant names never changes.
            gone = f"The server {self._name!r} is no longer in the broker's catalogue."
            self.grant_ended(wire.Refusal("server.removed", gone, "Ask your administrator."))
        elif granted.refusal is not None:
            self.grant_ended(granted.refusal)
        elif not self._server.is_running and not self._is_stopping and not self._finishing:
            self._start_again()
        self.approvals.look()  # a stream that was away may have missed an answer

    def _start_again(self) -> None:
        """The grant is active (again), and there is no server."""
        try:
            self._server.resume()
        except PercallError as error:
            self.grant_ended(refusals.of_error(error))
            return
        self._hear_client()

    def _stream_refused(self, error: PercallError) -> None:
        if error.code in wire.CODES_OF_STANDING or error.code == wire.CODE_GRANT_UNKNOWN:
            self.grant_ended(refusals.of_error(error))
        elif self._awaits_standing:
            self.grant_ended(refusals.of_error(error))  # says more than what was cached, such as that a clock is off

    def grant_ended(self, refusal: wire.Refusal) -> None:
        """Cut the server off at once; the shim stays, and its refusals say why."""
        is_news = self._server.refuse_all(refusal)
        if is_news:
            self.stderr.say(f"{refusal} [{refusal.code}]")
        self._server.cut()
        self._hear_client()

    def _no_standing(self) -> None:
        """The last thing known of the grant or its server is that it is stopped, and the broker says nothing else."""
        if self._awaits_standing:
            of_server = self._found.granted.refusal
            self.grant_ended(self._session.refusal or of_server or standing_refusal(self._session.state))

    def _hear_client(self) -> None:
        if self._awaits_standing:
            self._awaits_standing = False
            self._listen_to_client()

    # --- The end ------------------------------------------------------------------------------------------------------

    def finish(self, code: int) -> None:
        """Give the client and the broker what they are owed, for a moment at most, then stop."""
        if self._finishing:
            return
        self._finishing = True
        if self._exit_code is None:
            self._exit_code = code
        self.loop.unwatch(self._stdin)
        self._events.close()
        self._server.refuse_all(wire.Refusal("shim.ended", "Percall is ending, because its client asked for it."))
        self.loop.later(_FLUSH_SECONDS, self.loop.stop)
        self._server.settle(self._flush)

    def _flush(self) -> None:
        if self.client.waiting:
            self.loop.later(_LOOK_AGAIN_SECONDS, self._flush)
        else:
            self.loop.stop()


def standing_refusal(state: str) -> wire.Refusal:
    """The refusal that a grant's state means for everything."""
    steps = {
        "suspended": "Ask your administrator to resume it.",
        "expired": "Ask your administrator for a new invite, then: percall login.",
    }
    verb = "has" if state == "expired" else "is"
    return wire.Refusal(
        f"grant.{state}", f"This agent's grant {verb} {state}.", steps.get(state, "Ask your administrator.")
    )
