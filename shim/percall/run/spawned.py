"""A server that runs here, as a child: under the loop it is started, heard, started again with its grant, and ended."""

from __future__ import annotations

from percall import system, wire
from percall.rpc import frames
from percall.run.calls import Calls
from percall.run.known_tools import KnownTools
from percall.run.loop import READ
from percall.run.relay import Relay
from percall.run.settle import Settlements
from percall.run.streams import ENOUGH_WAITING, Writer
from percall.run.windows import Windows

TYPE_CHECKING = False  # `typing` itself costs 10 ms of each start
if TYPE_CHECKING:
    from collections.abc import Callable

    from percall.run.child import Child
    from percall.run.launch import Launch
    from percall.run.shim import Shim

CHILD_ENDED = 7
"""The exit code when the server ended by itself."""
_TERMINATED_SECONDS = 1.5
"""How long a child that was told to end may take before it is killed."""
_KILLED_SECONDS = 0.5
"""How long one that was killed may take before it is forgotten."""
_LAST_WORDS_SECONDS = 0.5
"""How long after a child's end its output may still come, and the broker's word that the grant has ended: some die of
the answer that is cut then.
"""
_CLOSED_SECONDS = 1.0
"""How long one that closed its input or output may take to end."""
_OPENING_SECONDS = 30.0
"""How long one that was started anew may take to open the session that the client has."""


class Spawned:
    """One child after another, of one launch."""

    def __init__(self, shim: Shim, launch: Launch, child: Child | None) -> None:
        self._shim = shim
        self._launch = launch
        self._child = child
        self._out_ended = False
        self._by_itself: bool | None = None  # whether the child ended unasked; None while it has not ended
        self._is_stopping = False
        self._stdout_paused = False
        self._ending: Callable[[], None] | None = None
        self._in: Writer | None = None
        self._lines = frames.LineReader(wire.MAX_FRAME_BYTES)
        entry, egress = launch.found.granted.entry, launch.egress
        self._name = entry.name
        self._settlements = Settlements(shim.loop, shim.broker)
        self._relay = Relay(granted=launch.found.granted, stderr=shim.stderr)
        self._calls = Calls(
            loop=shim.loop,
            broker=shim.broker,
            approvals=shim.approvals,
            settlements=self._settlements,
            windows=egress.windows if egress else Windows(),
            server=entry.name,
            one_at_a_time=entry.delivery == "egress" and entry.attribution == "exact",
            forward=self._relay.to_child,
            answer=shim.client.write,
            grant_ended=shim.grant_ended,
        )
        self._known = KnownTools(shim.broker, launch.found.login.grant, entry.name, shim.stderr)
        self._relay.connect(calls=self._calls, client=shim.client, known=self._known)

    # --- What the shim asks of a server -------------------------------------------------------------------------------

    @property
    def is_running(self) -> bool:
        """Whether there is a child."""
        return self._child is not None

    @property
    def is_behind(self) -> bool:
        """Whether so much waits for the child that no more should be read for it."""
        waiting = self._in.waiting if self._in is not None else 0
        return waiting + self._relay.held_bytes > ENOUGH_WAITING or self._calls.is_full

    @property
    def is_settled(self) -> bool:
        """Whether the client waits for nothing, and nothing waits for the child."""
        return self._relay.is_idle and not (self._in is not None and self._in.waiting)

    def begin(self) -> None:
        """Listen to the child that has been started already."""
        system.on_child_end(self._shim.loop, self._changed)
        if self._child is not None:
            self._attach(self._child)

    def from_client(self, line: bytes) -> None:
        """A line that the client sent."""
        self._relay.from_client(line)

    def granted(self, granted: wire.GrantedServer | None) -> None:
        """What the grant names of this server now."""
        self._relay.granted = granted
        self._relay.sampling = granted is not None and granted.entry.sampling
        self._known.ask_again()

    def resume(self) -> None:
        """The grant is active (again): start a child where there is none. Raises PercallError."""
        if self._child is None and not self._is_stopping:
            self._attach(self._launch.start())

    def refuse_all(self, refusal: wire.Refusal) -> bool:
        """Answer everything with the refusal, now and from now on. Whether this is news."""
        is_news = self._relay.refusing is None
        self._relay.refuse_all(refusal)
        return is_news

    def cut(self) -> None:
        """The grant has ended: so does the child, at once."""
        if self._launch.egress is not None:
            self._launch.egress.listener.cut()
        child = self._child
        if child is not None and not self._is_stopping:
            child.terminate()
            self._drop_soon(child)

    def client_drained(self) -> None:
        """The client has taken what waited for it."""
        if self._stdout_paused and self._child is not None:
            self._stdout_paused = False
            self._shim.loop.watch(self._child.stdout, READ, self._ready)

    def stop(self, grace: float) -> None:
        """End the child: its input closes, then its group is told to end, then made to."""
        if self._is_stopping:
            return
        self._is_stopping = True
        child = self._child
        if child is None:
            self._shim.finish(0)
            return
        if self._in is not None:
            self._in.close()
        child.close_stdin()
        self._shim.loop.later(grace, lambda: self._terminate(child))
        self._shim.loop.later(grace + _TERMINATED_SECONDS, lambda: self._kill(child))

    def settle(self, settled: Callable[[], None]) -> None:
        """Give the broker the outcomes that it does not know yet, then call back."""
        self._settlements.finish(settled)

    def close(self) -> None:
        """Leave nothing behind."""
        self._drop()
        if self._ending is not None:
            self._ending()
        self._launch.close()

    # --- The child ----------------------------------------------------------------------------------------------------

    def _attach(self, child: Child) -> None:
        loop = self._shim.loop
        self._child = child
        self._out_ended, self._by_itself = False, None
        self._lines = frames.LineReader(wire.MAX_FRAME_BYTES)
        self._in = Writer(loop, child.stdin, lambda: self._closed(child), lambda: None)
        self._relay.resume(self._in)
        if self._relay.is_opening:
            loop.later(_OPENING_SECONDS, lambda: self._opened(child))
        loop.watch(child.stdout, READ, self._ready)
        loop.watch(child.stderr, READ, self._stderr_ready)
        loop.later(0.0, self._changed)  # it may have ended before we listened for that

    def _ready(self, _events: int) -> None:
        child = self._child
        if child is None:
            return
        try:
            data = system.read(child.stdout, system.PIPE_BYTES)
        except BlockingIOError:
            return
        for line in self._lines.feed(data) if data else self._lines.feed_eof():
            self._relay.from_child(line, self._lines.dropped_head, self._lines.dropped_tail)
            if self._child is None:
                return
        self._shim.connect()
        if not data:
            self._out_ended = True
            self._shim.loop.unwatch(child.stdout)
            self._closed(child)
            self._changed()
        elif self._shim.client.waiting > ENOUGH_WAITING:
            self._stdout_paused = True
            self._shim.loop.unwatch(child.stdout)

    def _stderr_ready(self, _events: int) -> None:
        if self._child is None:
            return
        try:
            data = system.read(self._child.stderr, system.PIPE_BYTES)
        except BlockingIOError:
            return
        if data:
            self._shim.stderr.copy(data)
        else:
            self._shim.loop.unwatch(self._child.stderr)

    def _changed(self) -> None:
        """A process ended. When it was the child, its last words are heard before we say so."""
        child = self._child
        if child is None or not child.reap():
            return
        if self._by_itself is None:
            self._by_itself = not (self._shim.client_left or self._is_stopping)
        if self._out_ended and not self._by_itself:
            self._ended(child)
        else:
            self._shim.loop.later(_LAST_WORDS_SECONDS, lambda: self._ended(child))

    def _ended(self, child: Child) -> None:
        if self._child is not child:
            return
        self._stderr_ready(0)  # its last words may have come at the same moment as its end
        self._drop()
        if not self._by_itself:
            self._shim.finish(0)
            return
        how = f"exit code {child.status}" if (child.status or 0) >= 0 else f"signal {-(child.status or 0)}"
        self._give_up("child.ended", f"The server {self._name!r} ended by itself ({how}).")

    def _closed(self, child: Child) -> None:
        """The child's input or output is closed: mostly because it ends, which is told in a moment."""

        def look() -> None:
            if self._child is child and not self._is_stopping:
                self._drop()
                self._give_up("child.closed", f"The server {self._name!r} closed its input or output, and runs on.")

        self._shim.loop.later(_CLOSED_SECONDS, look)

    def _opened(self, child: Child) -> None:
        """A child that was started anew has had its time to open the session that the client has."""
        if self._child is child and self._relay.is_opening and not self._is_stopping:
            self._give_up("child.silent", f"The server {self._name!r} was started again and does not answer.")

    def _give_up(self, code: str, message: str) -> None:
        refusal = wire.Refusal(code, message, "Its stderr may say why; restart it in your client.")
        self._relay.refuse_all(refusal)
        self._shim.stderr.say(f"{refusal.message} [{refusal.code}]")
        self._shim.finish(CHILD_ENDED)

    def _terminate(self, child: Child) -> None:
        if self._child is child:
            child.terminate()

    def _kill(self, child: Child) -> None:
        if self._child is child:
            child.kill()
            self._shim.loop.later(_KILLED_SECONDS, lambda: self._ended(child))

    def _drop(self) -> None:
        """Forget the child, and kill what is left of its group."""
        child, self._child = self._child, None
        if child is not None:
            self._unwatch(child)
            child.release()

    def _drop_soon(self, child: Child) -> None:
        """The group has a moment to end by itself; nothing that it still says is passed on."""
        self._child = None
        self._unwatch(child)

        def end() -> None:
            if self._ending is end:
                self._ending = None
                child.release()
                child.reap()

        if self._ending is not None:
            self._ending()
        self._ending = end
        self._shim.loop.later(_KILLED_SECONDS, end)

    def _unwatch(self, child: Child) -> None:
        if self._in is not None:
            self._in.close()
        for descriptor in (child.stdout, child.stderr):
            self._shim.loop.unwatch(descriptor)
            system.close(descriptor)
        child.close_stdin()
