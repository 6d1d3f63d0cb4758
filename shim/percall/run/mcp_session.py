"""The old era's session with a remote server (MCP 2025-11-25 and before), as a small machine of states.

Its id and its opening frame are kept, so that a session which the server has forgotten is opened again as the client
did, and no call is sent into the wrong one. Lines that come between two states are held, and go on in order.
"""

from __future__ import annotations

from collections import deque
from functools import partial

from percall import wire
from percall.rpc import frames, http_headers, refusals
from percall.run.errands import Note, Question, SessionStream

TYPE_CHECKING = False  # `typing` itself costs 10 ms of each start
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from percall.errors import PercallError
    from percall.run.door import Door, Fetch, Headers

    Waiting = tuple[Callable[[], None], Callable[[wire.Refusal], None]]

_NONE = "none"  # the client has opened none
_OPENING = "opening"  # its `initialize` is on its way
_ANSWERED = "answered"  # the server has answered that
_CONFIRMING = "confirming"  # the client's word that it has read the answer is on its way
_OPEN = "open"
_LOST = "lost"  # the server does not have it: the next request opens it again
_REOPENING = "reopening"  # that is on its way
_BETWEEN = frozenset({_OPENING, _CONFIRMING, _REOPENING})

ENDED = wire.Refusal(
    wire.CODE_SESSION_ENDED,
    "The server had forgotten the session, so it has not done this; the next request opens a new one.",
    "Try again.",
)
_DIFFERS = wire.Refusal(
    "session.differs",
    "The server has forgotten the session, and would not open it again as it was.",
    "Restart the server in your client.",
)


class McpSession:
    """The session. `go_on` takes each line that was held. `held_bytes`: how many bytes those have."""

    def __init__(self, door: Door, go_on: Callable[[bytes], None]) -> None:
        self.held_bytes = 0
        self._door = door
        self._go_on = go_on
        self._state = _NONE
        self._opening: dict[str, Any] = {}
        self._id = ""
        self._version = ""
        self._is_promised = False  # we have answered `initialize`, since there was no server
        self._held: deque[bytes] = deque()
        self._waiting: list[Waiting] = []
        self._errand: Fetch | None = None
        self._stream = SessionStream(door, self.ended)

    @property
    def has_begun(self) -> bool:
        """Whether the client has opened one."""
        return self._state != _NONE

    @property
    def is_lost(self) -> bool:
        """Whether the server does not have it, so that what belongs to it says nothing to anyone."""
        return self._state == _LOST

    def must_wait(self, headers: Headers) -> bool:
        """Whether a request that came with these headers of a session has to wait until this one is open (`when_open`).

        Until the client has confirmed a session, only it knows what it may send in it: older requests wait for that.
        """
        is_older = self._state == _ANSWERED and headers != self.headers()
        return is_older or self._state == _LOST or self._state in _BETWEEN

    @property
    def held(self) -> int:
        """How many lines are held."""
        return len(self._held)

    def headers(self) -> Headers:
        """What names the session beside a message of it."""
        headers = [(http_headers.SESSION, self._id)] if self._id else []
        return [*headers, (http_headers.VERSION, http_headers.encoded(self._version))] if self._version else headers

    def holds(self, line: bytes) -> bool:
        """Whether a line has to wait until the next state, which it then does."""
        if self._state not in _BETWEEN:
            return False
        self._held.append(line)
        self.held_bytes += len(line)
        return True

    def when_open(self, opened: Callable[[], None], failed: Callable[[wire.Refusal], None]) -> None:
        """Call back once the session is open; a lost one is opened again for that, as the client did."""
        self._waiting.append((opened, failed))
        if self._state == _LOST:
            self._open_again()

    # --- Opened by the client -----------------------------------------------------------------------------------------

    def begin(self, frame: dict[str, Any]) -> None:
        """The client sends `initialize`."""
        self._stream.close()
        self._opening = {name: frame[name] for name in ("jsonrpc", "method", "params") if name in frame}
        self._id = self._version = ""
        self._is_promised = False
        self._state = _OPENING

    def given(self, headers: dict[str, str]) -> None:
        """The server takes `initialize`, and these are the headers of its answer."""
        self._id = headers.get(http_headers.SESSION, "")

    def answered(self, frame: dict[str, Any]) -> None:
        """The answer to the client's `initialize`, which the client has by now."""
        self._agrees(frame)
        self._reach(_ANSWERED)

    def promised(self, version: str) -> None:
        """There was no server, so we have answered `initialize`: with this revision, or empty where any will do."""
        self._is_promised = True
        self._version = version
        self._lose()

    def confirm(self, line: bytes) -> None:
        """The client says that it has read the answer; what follows waits until the server knows."""
        self._state = _CONFIRMING
        self._send_initialized(line, lambda _error: self._lose())

    def tell(self, line: bytes, headers: Headers) -> None:
        """The client says something else; its headers name the session, if there is one."""
        self._door.fetch(Note(self._door, partial(self._told, headers)), "POST", line, headers).start()

    def _told(self, headers: Headers, error: PercallError | None) -> None:
        if error is not None and error.code == ENDED.code:
            self.ended(headers)

    # --- Lost, and opened again ---------------------------------------------------------------------------------------

    def ended(self, headers: Headers) -> None:
        """The server does not know the session that these headers name."""
        if (http_headers.SESSION, self._id) in headers and self._state in {_ANSWERED, _CONFIRMING, _OPEN}:
            self._lose()

    def _lose(self) -> None:
        self._stream.close()
        self._end_errand()
        self._id = ""
        self._reach(_LOST)

    def _open_again(self) -> None:
        self._state = _REOPENING

        def heard(answer: dict[str, Any]) -> None:
            if not self._agrees(answer):
                self._not_opened(_DIFFERS)
                return
            self.given(question.headers)
            self._send_initialized(frames.INITIALIZED, self._not_confirmed)

        question = Question(self._door, heard, self._not_opened)
        self._errand = self._door.fetch(question, "POST", wire.dump({**self._opening, "id": frames.own_id()}), [])
        self._errand.start()

    def _not_confirmed(self, error: PercallError) -> None:
        self._not_opened(ENDED if error.code == ENDED.code else refusals.of_error(error))

    def _send_initialized(self, line: bytes, failed: Callable[[PercallError], None]) -> None:
        """Tell the server that its answer was read. Once it knows, the session is open."""
        note = Note(self._door, lambda error: failed(error) if error else self._opened())
        self._errand = self._door.fetch(note, "POST", line, self.headers())
        self._errand.start()

    def _opened(self) -> None:
        self._errand = None
        if self._id:
            self._stream.open(self.headers())
        if self._is_promised:
            self._is_promised = False
            self._door.pass_on(frames.MORE_TOOLS)
        self._reach(_OPEN)

    def _not_opened(self, refusal: wire.Refusal) -> None:
        self._end_errand()
        self._id = ""
        waiting, self._waiting = self._waiting, []
        for _, failed in waiting:
            failed(refusal)
        self._reach(_LOST)

    # --- The grant, and the end ---------------------------------------------------------------------------------------

    def suspend(self) -> None:
        """Everything is refused from now on, also what was held. What was half open is opened again after that."""
        self._stream.close()
        self._waiting.clear()
        if self._state == _OPENING:
            self.promised("")
        elif self._state not in {_NONE, _OPEN}:
            self._lose()

    def resume(self) -> None:
        """The grant is active (again)."""
        if self._state == _OPEN and self._id:
            self._stream.open(self.headers())

    def leave(self, over: Callable[[], None]) -> None:
        """Tell the server that the client has left, and call back once it knows."""
        self._stream.close()
        if self._id:
            goodbye = Note(self._door, lambda _error: over())
            self._door.fetch(goodbye, "DELETE", b"", self.headers()).start()
        else:
            over()

    # --- From one state to the next -----------------------------------------------------------------------------------

    def _reach(self, state: str) -> None:
        """Go on with what has waited for this state: requests first, which were the client's first."""
        self._state = state
        waiting: list[Waiting] = []
        if state != _ANSWERED:  # they wait until the client has confirmed
            waiting, self._waiting = self._waiting, []
        for opened, _ in waiting:
            opened()
        held, self._held = self._held, deque()
        self.held_bytes = 0
        for line in held:
            self._go_on(line)  # which holds it again, if another line before it has begun something

    def _agrees(self, answer: dict[str, Any]) -> bool:
        """Whether an answer to `initialize` opens the session, in the revision that the client knows of."""
        result = answer.get("result")
        version = result.get("protocolVersion") if isinstance(result, dict) else None
        if not isinstance(version, str) or (self._version and version != self._version):
            return False
        self._version = version
        return True

    def _end_errand(self) -> None:
        if self._errand is not None:
            self._errand.cancel()
            self._errand = None
