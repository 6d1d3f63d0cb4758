"""Requests that wait until a person has approved them: held here, so that nothing else of the shim waits with them.

The broker says what a request waits for and keeps no connection open for it. Here the client is kept patient, with
progress where it gave a token for that; and the broker is asked again once the event stream says that somebody has
answered, or every few seconds, so that a restart of the broker or a lost event costs no more than that. A request
waits no longer than its client does; then it is answered with what it waits for, and the client's next attempt goes on
waiting for the same.
"""

from __future__ import annotations

import os
import time

from percall import wire
from percall.errors import PercallError, WireError
from percall.rpc import frames

TYPE_CHECKING = False  # `typing` itself costs 10 ms of each start
if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from typing import Any

    from percall.run.broker import Broker
    from percall.run.loop import Loop, Timer

VARIABLE = "PERCALL_APPROVAL_WAIT"
"""Seconds, for clients whose patience is known better than by us."""
_LONGEST_SECONDS = 3600.0
_USUAL_SECONDS = 50.0
"""Many clients give a call up after a minute."""
_PATIENT_SECONDS = 290.0
_PATIENT_CLIENTS = ("claude-code",)
"""Clients whose time-out starts anew with each notification of progress, or is longer than we wait anyway."""
_PROGRESS_SECONDS = 5.0
_LOOK_SECONDS = 10.0


class Wait:
    """One request that waits. `again` asks the broker once more, `over` tells the client that it took too long."""

    __slots__ = ("again", "approval", "began", "end", "frame", "over", "timer")

    def __init__(
        self, frame: dict[str, Any], approval: wire.Asked, began: float, end: float, again: Callable[[], None],
        over: Callable[[], None],
    ) -> None:  # fmt: skip
        self.frame = frame
        self.approval = approval
        self.began = began
        self.end = end
        self.again = again
        self.over = over
        self.timer: Timer | None = None


class Approvals:
    """All requests of this shim that wait. `session` names this run of the shim; `write` gets lines for the client."""

    def __init__(self, loop: Loop, broker: Broker, write: Callable[[bytes], None]) -> None:
        self.session = os.urandom(12).hex()
        self._loop = loop
        self._broker = broker
        self._write = write
        self._waits: list[Wait] = []
        self._is_looking = False
        self._will_look = False

    def wait(
        self, frame: dict[str, Any], client: str, began: float, asked: wire.Asked,
        again: Callable[[], None], over: Callable[[], None],
    ) -> Wait | None:  # fmt: skip
        """Hold a request of a client's that came at `began` (monotonic); None when its client's patience is at an end.

        `client` is the client's name and version. Exactly one of `again` and `over` is called, unless it is cancelled.
        """
        end = began + patience(client, can_hear=_token(frame) is not None)
        if time.monotonic() >= end:
            return None
        wait = Wait(frame, asked, began, end, again, over)
        self._waits.append(wait)
        self._tick(wait)
        if not self._will_look:
            self._will_look = True
            self._loop.later(_LOOK_SECONDS, self._look_again)
        return wait

    def cancel(self, wait: Wait) -> None:
        """Nobody waits for it any more."""
        if wait in self._waits:
            self._waits.remove(wait)
        if wait.timer is not None:
            wait.timer.cancel()

    def answered(self, ids: Collection[str]) -> None:
        """Somebody has answered these approvals: what waits for them asks the broker again."""
        for wait in [wait for wait in self._waits if wait.approval.id in ids]:
            self.cancel(wait)
            wait.again()

    def look(self) -> None:
        """Ask the broker what has become of what is waited for."""
        if not self._waits or self._is_looking:
            return
        self._is_looking = True
        asked = {wait.approval.id for wait in self._waits}

        def came(body: bytes) -> None:
            self._is_looking = False
            try:
                own = wire.decode(wire.OwnApprovals, wire.strict_json(body))
            except WireError:
                return
            self.answered(asked - {one.id for one in own.approvals if one.state == "pending"})

        def failed(_error: PercallError) -> None:
            self._is_looking = False  # the broker is away: it is asked again

        self._broker.request("GET", wire.PATH_APPROVALS, b"", came, failed)

    def _look_again(self) -> None:
        self._will_look = bool(self._waits)
        if self._waits:
            self._loop.later(_LOOK_SECONDS, self._look_again)
        self.look()

    def _tick(self, wait: Wait) -> None:
        """Progress, again and again, until the client's patience is at an end."""
        now = time.monotonic()
        if now >= wait.end:
            self.cancel(wait)
            wait.over()
            return
        token = _token(wait.frame)
        if token is not None:
            self._write(_progress(token, now - wait.began, wait.approval))
        wait.timer = self._loop.later(min(_PROGRESS_SECONDS, wait.end - now), lambda: self._tick(wait))


def patience(client: str, *, can_hear: bool) -> float:
    """How many seconds a request may wait, by its client's name; `can_hear`: it hears of progress."""
    told = os.environ.get(VARIABLE, "")
    if told.isascii() and told.isdigit():
        return min(float(told), _LONGEST_SECONDS)
    name = client.partition(" ")[0].lower()
    return _PATIENT_SECONDS if can_hear and name in _PATIENT_CLIENTS else _USUAL_SECONDS


def _token(frame: dict[str, Any]) -> str | int | None:
    token = frames.meta(frame).get("progressToken")
    return token if type(token) in {str, int} else None


def _progress(token: str | int, waited: float, approval: wire.Asked) -> bytes:
    """A notification. Its values rise, and stay below the server's own first one, which must rise above them."""
    who = " and ".join(approval.groups)
    params = {
        "progressToken": token,
        "progress": round((waited + 0.001) / 1_000_000, 9),
        "message": f"Waits for approval by {who}: {approval.url}",
    }
    return wire.dump({"jsonrpc": "2.0", "method": "notifications/progress", "params": params}) + b"\n"
