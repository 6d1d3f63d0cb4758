"""The shim from its child's start to its own end: joins the parts under one loop, and takes everything down in order.

Outside the broker's word nothing here decides: it starts, stops and cleans up.
"""

from __future__ import annotations

import os
import select
import signal
import time
from functools import partial

from percall import home, wire
from percall.errors import PercallError, UsageError
from percall.http1 import Address
from percall.rpc import frames, refusals
from percall.run.broker import Broker, Signer
from percall.run.calls import ENDED, Calls
from percall.run.events import EventStream
from percall.run.loop import READ, Loop
from percall.run.relay import Relay
from percall.run.settle import Settlements
from percall.run.streams import READ_BYTES, Stderr, Writer
from percall.run.windows import Windows

TYPE_CHECKING = False  # `typing` itself costs 10 ms of each start
if TYPE_CHECKING:
    from collections.abc import Callable

    from percall.run.child import Child
    from percall.run.launch import Launch

CHILD_ENDED = 7
"""The exit code when the server ended by itself."""
_STDIN, _STDOUT = 0, 1
_ENOUGH_WAITING = 4 * 1024 * 1024
_LOOK_AGAIN_SECONDS = 0.02
_OPEN_CALLS_SECONDS = 30.0
_GRACE_SECONDS = 1.5
_KILL_SECONDS = 0.5
_LAST_WORDS_SECONDS = 0.2
_FLUSH_SECONDS = 2.0
_STANDING_SECONDS = 5.0
_IDENTITY_SECONDS = 0.15


class Shim:
    """One client, one server, one broker."""

    def __init__(self, launch: Launch, child: Child | None) -> None:
        self._launch = launch
        self._login = launch.found.login
        self._session = launch.found.session
        self._child = child
        self._exit_code: int | None = None
        self._is_stopping = False
        self._is_connected = False
        self._client_left = False
        self._child_out_ended = False
        self._finishing = False
        self._stdin_paused = self._stdout_paused = False
        self._awaits_standing = child is None
        self._ending: Callable[[], None] | None = None

        entry = launch.found.granted.entry
        egress = launch.egress
        self._loop = loop = Loop()
        self._stderr = Stderr(loop)
        self._windows = egress.windows if egress else Windows()
        self._signer = egress.signer if egress else Signer(Address.parse(self._login.broker, self._login.proxy))
        self._broker = Broker(loop, self._login, self._signer)
        self._broker.wanted = self._connect
        self._settlements = Settlements(loop, self._broker)
        self._events = EventStream(loop, self._broker, self._session_came, self._stream_refused)
        self._client = Writer(loop, _STDOUT, self._client_gone, self._client_drained)
        self._child_in: Writer | None = None
        self._relay = Relay(granted=launch.found.granted, stderr=self._stderr)
        self._calls = Calls(
            loop=loop,
            broker=self._broker,
            settlements=self._settlements,
            windows=self._windows,
            server=entry.name,
            one_at_a_time=entry.delivery == "egress" and entry.attribution == "exact",
            forward=self._relay.to_child,
            answer=self._client.write,
            grant_ended=self._grant_ended,
        )
        self._relay.connect(calls=self._calls, client=self._client)
        self._client_lines = frames.LineReader(wire.MAX_FRAME_BYTES)
        self._child_lines = frames.LineReader(wire.MAX_FRAME_BYTES)

    def run(self) -> int:
        """Serve until the client leaves or the server ends; the exit code."""
        restored = [(descriptor, os.get_blocking(descriptor)) for descriptor in (_STDOUT,) if not os.isatty(descriptor)]
        for descriptor, _ in restored:
            os.set_blocking(descriptor, False)
        loop = self._loop
        loop.on_signal(signal.SIGCHLD, self._child_changed)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            loop.on_signal(number, partial(self._terminated, number))
        loop.later(0.0 if self._child is None else _IDENTITY_SECONDS, self._connect)
        if self._child is not None:
            self._attach(self._child)
            self._listen_to_client()
        else:
            loop.later(_STANDING_SECONDS, self._no_standing)
        try:
            loop.run()
        finally:
            self._close()
            for descriptor, was_blocking in restored:
                os.set_blocking(descriptor, was_blocking)
        return self._exit_code or 0

    def _connect(self) -> None:
        """Read the identity, and open the stream with it. Not before the session is open: a start must be quick."""
        if not self._is_connected:
            self._is_connected = True
            self._broker.read_identity()
            self._events.open()
            self._broker.warm()

    # --- The client ---------------------------------------------------------------------------------------------------

    def _listen_to_client(self) -> None:
        self._loop.watch(_STDIN, READ, self._client_ready)

    def _client_ready(self, _events: int) -> None:
        try:
            data = os.read(_STDIN, READ_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        lines = self._client_lines.feed(data) if data else self._client_lines.feed_eof()
        for line in lines:
            self._relay.from_client(line)
        if not data:
            self._client_closed()
        elif self._is_child_behind():
            self._stdin_paused = True
            self._loop.unwatch(_STDIN)
            self._loop.later(_LOOK_AGAIN_SECONDS, self._resume_stdin)

    def _is_child_behind(self) -> bool:
        waiting = self._child_in.waiting if self._child_in is not None else 0
        return waiting > _ENOUGH_WAITING or self._calls.is_full

    def _resume_stdin(self) -> None:
        if self._client_left or self._finishing:
            return
        if self._is_child_behind():
            self._loop.later(_LOOK_AGAIN_SECONDS, self._resume_stdin)
        else:
            self._stdin_paused = False
            self._listen_to_client()

    def _client_closed(self) -> None:
        """End of the client's input: what it asked for is answered, then the server is told."""
        self._client_left = True
        self._loop.unwatch(_STDIN)
        self._drain(time.monotonic() + _OPEN_CALLS_SECONDS)

    def _drain(self, end: float) -> None:
        if self._finishing or self._is_stopping:
            return
        if self._child is None:
            self._finish(0)
        elif self._is_settled() or time.monotonic() > end or self._is_client_deaf():
            self._stop_child(_GRACE_SECONDS)
        else:
            self._loop.later(_LOOK_AGAIN_SECONDS, lambda: self._drain(end))

    def _is_settled(self) -> bool:
        return self._relay.is_idle and not (self._child_in is not None and self._child_in.waiting)

    @staticmethod
    def _is_client_deaf() -> bool:
        poll = select.poll()
        poll.register(_STDOUT, 0)
        return bool(poll.poll(0))

    def _client_gone(self) -> None:
        """Nobody reads our output."""
        self._client_left = True
        self._loop.unwatch(_STDIN)
        if not self._finishing and not self._is_stopping:
            self._stop_child(0.0)

    def _client_drained(self) -> None:
        if self._stdout_paused and self._child is not None:
            self._stdout_paused = False
            self._loop.watch(self._child.stdout, READ, self._child_ready)

    def _terminated(self, number: int) -> None:
        self._client_left = True
        self._exit_code = 128 + number
        self._loop.unwatch(_STDIN)
        if not self._finishing and not self._is_stopping:
            self._stop_child(0.0)

    # --- The child ----------------------------------------------------------------------------------------------------

    def _attach(self, child: Child) -> None:
        self._child = child
        self._child_out_ended = False
        self._child_lines = frames.LineReader(wire.MAX_FRAME_BYTES)
        self._child_in = Writer(self._loop, child.stdin, lambda: None, lambda: None)
        self._relay.resume(self._child_in)
        self._loop.watch(child.stdout, READ, self._child_ready)
        self._loop.watch(child.stderr, READ, self._child_stderr)
        self._loop.later(0.0, self._child_changed)  # it may have ended before we listened for that

    def _child_ready(self, _events: int) -> None:
        if self._child is None:
            return
        try:
            data = os.read(self._child.stdout, READ_BYTES)
        except BlockingIOError:
            return
        for line in self._child_lines.feed(data) if data else self._child_lines.feed_eof():
            self._relay.from_child(line, self._child_lines.dropped_head)
            if self._child is None:
                return
        self._connect()
        if not data:
            self._child_out_ended = True
            self._loop.unwatch(self._child.stdout)
            self._child_changed()
        elif self._client.waiting > _ENOUGH_WAITING:
            self._stdout_paused = True
            self._loop.unwatch(self._child.stdout)

    def _child_stderr(self, _events: int) -> None:
        if self._child is None:
            return
        try:
            data = os.read(self._child.stderr, READ_BYTES)
        except BlockingIOError:
            return
        if data:
            self._stderr.copy(data)
        else:
            self._loop.unwatch(self._child.stderr)

    def _child_changed(self) -> None:
        """A process ended. When it was the child, its last words are read before we say so."""
        child = self._child
        if child is None or not child.reap():
            return
        if self._child_out_ended:
            self._child_ended(child)
        else:
            self._loop.later(_LAST_WORDS_SECONDS, lambda: self._child_ended(child))

    def _child_ended(self, child: Child) -> None:
        if self._child is not child:
            return
        self._drop_child()
        if self._client_left or self._is_stopping:
            self._finish(0)
            return
        how = f"exit code {child.status}" if (child.status or 0) >= 0 else f"signal {-(child.status or 0)}"
        refusal = wire.Refusal(
            "child.ended",
            f"The server {self._relay_server()!r} ended by itself ({how}).",
            "Its stderr may say why; restart it in your client.",
        )
        self._relay.refuse_all(refusal)
        self._stderr.say(f"{refusal.message} [{refusal.code}]")
        self._finish(CHILD_ENDED)

    def _relay_server(self) -> str:
        return self._launch.found.granted.entry.name

    def _stop_child(self, grace: float) -> None:
        """End the child: its input closes, then its group is told to end, then made to."""
        self._is_stopping = True
        child = self._child
        if child is None:
            self._finish(0)
            return
        if self._child_in is not None:
            self._child_in.close()
        child.close_stdin()
        self._loop.later(grace, lambda: self._terminate(child))
        self._loop.later(grace + _GRACE_SECONDS, lambda: self._kill(child))

    def _terminate(self, child: Child) -> None:
        if self._child is child:
            child.signal_group(signal.SIGTERM)

    def _kill(self, child: Child) -> None:
        if self._child is child:
            child.signal_group(signal.SIGKILL)
            self._loop.later(_KILL_SECONDS, lambda: self._child_ended(child))

    def _drop_child(self) -> None:
        """Forget the child, and kill what is left of its group."""
        child, self._child = self._child, None
        if child is None:
            return
        if self._child_in is not None:
            self._child_in.close()
        for descriptor in (child.stdout, child.stderr):
            self._loop.unwatch(descriptor)
            os.close(descriptor)
        child.close_stdin()
        child.release()

    # --- The grant ----------------------------------------------------------------------------------------------------

    def _session_came(self, session: wire.Session) -> None:
        """The broker says what the grant may use now."""
        if session != self._session:
            try:
                home.save_session(session)
            except UsageError as error:
                self._stderr.say(str(error))
        self._session = session
        name = self._relay_server()
        granted = next((item for item in session.servers if item.entry.name == name), None)
        self._relay.granted = granted
        self._relay.sampling = granted is not None and granted.entry.sampling
        if session.state != "active":
            self._grant_ended(session.refusal or standing_refusal(session.state))
        elif granted is None:
            self._grant_ended(
                wire.Refusal(
                    "grant.server", f"The grant no longer names the server {name!r}.", "Ask your administrator."
                )
            )
        elif granted.refusal is not None:
            self._grant_ended(granted.refusal)
        elif self._child is None and not self._is_stopping and not self._finishing:
            self._start_again()

    def _start_again(self) -> None:
        """The grant is active (again), and there is no child."""
        try:
            child = self._launch.start()
        except PercallError as error:
            self._grant_ended(refusals.of_error(error))
            return
        self._attach(child)
        self._hear_client()

    def _stream_refused(self, error: PercallError) -> None:
        if error.code in ENDED or error.code == "grant.unknown":
            self._grant_ended(refusals.of_error(error))
        elif self._awaits_standing:
            self._grant_ended(refusals.of_error(error))  # says more than what was cached, such as that a clock is off

    def _grant_ended(self, refusal: wire.Refusal) -> None:
        """Stop the child at once; the shim stays, and its refusals say why."""
        if self._relay.refusing is None:
            self._stderr.say(f"{refusal.message} {refusal.next_step}".rstrip() + f" [{refusal.code}]")
        if self._launch.egress is not None:
            self._launch.egress.listener.cut()
        self._relay.refuse_all(refusal)
        child = self._child
        if child is not None and not self._is_stopping:
            child.signal_group(signal.SIGTERM)
            self._drop_child_soon(child)
        self._hear_client()

    def _drop_child_soon(self, child: Child) -> None:
        """The group has a moment to end by itself; nothing that it still says is passed on."""
        self._child = None
        if self._child_in is not None:
            self._child_in.close()
        for descriptor in (child.stdout, child.stderr):
            self._loop.unwatch(descriptor)
            os.close(descriptor)
        child.close_stdin()

        def end() -> None:
            if self._ending is end:
                self._ending = None
                child.release()
                child.reap()

        if self._ending is not None:
            self._ending()
        self._ending = end
        self._loop.later(_KILL_SECONDS, end)

    def _no_standing(self) -> None:
        """The last thing known of the grant or its server is that it is stopped, and the broker says nothing else."""
        if self._awaits_standing:
            of_server = self._launch.found.granted.refusal
            self._grant_ended(self._session.refusal or of_server or standing_refusal(self._session.state))

    def _hear_client(self) -> None:
        if self._awaits_standing:
            self._awaits_standing = False
            self._listen_to_client()

    # --- The end ------------------------------------------------------------------------------------------------------

    def _finish(self, code: int) -> None:
        """Give the client and the broker what they are owed, for a moment at most, then stop."""
        if self._finishing:
            return
        self._finishing = True
        if self._exit_code is None:
            self._exit_code = code
        self._loop.unwatch(_STDIN)
        self._events.close()
        if self._relay.refusing is None:
            self._relay.refuse_all(wire.Refusal("shim.ended", "Percall is ending, because its client asked for it."))
        self._loop.later(_FLUSH_SECONDS, self._loop.stop)
        self._settlements.finish(self._flush)

    def _flush(self) -> None:
        if self._client.waiting:
            self._loop.later(_LOOK_AGAIN_SECONDS, self._flush)
        else:
            self._loop.stop()

    def _close(self) -> None:
        self._drop_child()
        if self._ending is not None:
            self._ending()
        if self._launch.egress is not None:
            self._launch.egress.listener.close()
            self._launch.egress.sender.close()
        self._broker.close()
        self._stderr.finish()


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
