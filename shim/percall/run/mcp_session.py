"""The old era's session with a remote server (MCP 2025-11-25 and before), from the client's `initialize` to its end.

Its id and its opening frame are kept, so that a session which the server has forgotten is opened again as the client
did. Lines that come while it is being opened are held, and go on afterwards, in order.
"""

from __future__ import annotations

from collections import deque

from percall import wire
from percall.run import http_headers
from percall.run.standing import Note, Question, Standing
from percall.run.stateless import own_id

TYPE_CHECKING = False  # `typing` itself costs 10 ms of each start
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from percall.run.door import Door

    Headers = list[tuple[str, str]]


class McpSession:
    """The session. `is_lost`: the server does not have it, so it must be opened again before anything else of it.

    `go_on` takes each line that was held.
    """

    def __init__(self, door: Door, go_on: Callable[[bytes | None], None]) -> None:
        self.is_lost = False
        self.held_bytes = 0
        self._door = door
        self._go_on = go_on
        self._opening: dict[str, Any] | None = None
        self._id = ""
        self._version = ""
        self._is_promised = False  # the client was told that it is open while there was no server
        self._held: deque[bytes | None] | None = None
        self._waiting: list[tuple[Callable[[], None], Callable[[wire.Refusal], None]]] = []
        self._standing = Standing(door, self.ended)

    @property
    def has_begun(self) -> bool:
        """Whether the client has opened one."""
        return self._opening is not None

    @property
    def held(self) -> int:
        """How many lines are held."""
        return len(self._held or ())

    def headers(self) -> Headers:
        """What names the session beside a message of it."""
        headers = [("mcp-session-id", self._id)] if self._id else []
        return [*headers, ("mcp-protocol-version", http_headers.encoded(self._version))] if self._version else headers

    # --- Lines that must wait -----------------------------------------------------------------------------------------

    def holds(self, line: bytes | None) -> bool:
        """Whether a line has to wait, which it then does."""
        if self._held is None:
            return False
        self._held.append(line)
        self.held_bytes += len(line or b"")
        return True

    def hold(self) -> None:
        """What follows belongs to a session that is being opened."""
        if self._held is None:
            self._held = deque()

    def release(self) -> None:
        """Go on with what the client has sent in the meantime."""
        held, self._held = self._held, None
        for line in held or ():
            self.held_bytes -= len(line or b"")
            self._go_on(line)

    # --- Opened by the client -----------------------------------------------------------------------------------------

    def begin(self, frame: dict[str, Any], *, is_refused: bool) -> None:
        """The client sends `initialize`; `is_refused`: we answer it, since there is no server now."""
        self._opening = {name: frame[name] for name in ("jsonrpc", "method", "params") if name in frame}
        self._id = self._version = ""
        self.is_lost = False
        self._is_promised = is_refused

    def given(self, headers: dict[str, str]) -> None:
        """The server takes `initialize`, and these are the headers of its answer."""
        self._id = headers.get("mcp-session-id", "")

    def answered(self, frame: dict[str, Any]) -> bool:
        """The answer to `initialize`. Whether the session is open, in the revision that the client knows of."""
        result = frame.get("result")
        version = result.get("protocolVersion") if isinstance(result, dict) else None
        if not isinstance(version, str) or (self._version and version != self._version):
            return False
        self._version = version
        return True

    def promised(self, version: str) -> None:
        """There is no server, so we have answered `initialize` with the revision that the client asked for."""
        self._is_promised = self.is_lost = True
        self._version = version

    def initialized(self, line: bytes) -> None:
        """The client says that it has read the answer; what follows waits until the server knows."""
        self.hold()

        def accepted() -> None:
            self._listen()
            self.release()

        self._door.fetch(Note(self._door, accepted, self.ended), "POST", line, self.headers()).start()

    # --- Lost and opened again ----------------------------------------------------------------------------------------

    def ended(self) -> None:
        """The server does not know the session any more."""
        if not self.is_lost:
            self.is_lost = True
            self._id = ""
            self._standing.close()

    def when_open(self, opened: Callable[[], None], failed: Callable[[wire.Refusal], None]) -> None:
        """Open a lost session as the client did, then call back."""
        self._waiting.append((opened, failed))
        if self._held is not None or self._opening is None:
            return
        self.hold()

        def heard(answer: dict[str, Any]) -> None:
            if not self.answered(answer):
                self._not_opened(_DIFFERS)
                return
            self.given(question.headers)
            done = Note(self._door, self._opened_again, self.ended)
            initialized = b'{"jsonrpc":"2.0","method":"notifications/initialized"}'
            self._door.fetch(done, "POST", initialized, self.headers()).start()

        question = Question(self._door, heard, self._not_opened)
        self._door.fetch(question, "POST", wire.dump({**self._opening, "id": own_id()}), []).start()

    def _opened_again(self) -> None:
        self.is_lost = False
        self._listen()
        if self._is_promised:
            self._is_promised = False
            self._door.pass_on(b'{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}')
        waiting, self._waiting = self._waiting, []
        for opened, _ in waiting:
            opened()
        self.release()

    def _not_opened(self, refusal: wire.Refusal) -> None:
        waiting, self._waiting = self._waiting, []
        for _, failed in waiting:
            failed(refusal)
        self.release()

    def _listen(self) -> None:
        if self._id:
            self._standing.open(self.headers())

    # --- The grant, and the end ---------------------------------------------------------------------------------------

    def suspend(self) -> None:
        """Everything is refused from now on, also what was held."""
        self._standing.close()
        self._waiting.clear()
        self.release()

    def resume(self) -> None:
        """The grant is active (again)."""
        self.is_lost = self.is_lost or self._is_promised
        self._listen()

    def leave(self, over: Callable[[], None]) -> None:
        """Tell the server that the client has left, and call back once it knows."""
        self._standing.close()
        if self._id:
            self._door.fetch(Note(self._door, over, self.ended), "DELETE", b"", self.headers()).start()
        else:
            over()


_DIFFERS = wire.Refusal(
    "session.differs",
    "The server has forgotten the session, and would not open it again as it was.",
    "Restart the server in your client.",
)
