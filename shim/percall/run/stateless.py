"""What a client of the stateless era (MCP 2026-07-28) needs on its way to a remote server: headers for each request.

Nothing is kept between requests but which revision the client speaks, and which arguments its tools want in headers.
"""

from __future__ import annotations

from percall import wire
from percall.rpc import frames, http_headers
from percall.run.errands import Question

TYPE_CHECKING = False  # `typing` itself costs 10 ms of each start
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from percall.run.door import Door

_MOST_PAGES = 20


class Stateless:
    """The headers, and what has been learned for them. `version`: the revision that the client has stated, or empty."""

    def __init__(self, door: Door) -> None:
        self.version = ""
        self._door = door
        self._arguments = http_headers.MirroredArguments()

    def is_spoken(self, frame: dict[str, Any], *, has_session: bool) -> bool:
        """Whether a frame is of this era: it says so; or without a session, others before it did, or it asks first."""
        stated = frames.meta(frame).get(frames.MODERN)
        if isinstance(stated, str):
            self.version = stated
            return True
        return not has_session and (bool(self.version) or frame.get("method") == "server/discover")

    def headers(self, frame: dict[str, Any]) -> list[tuple[str, str]]:
        """The headers beside a frame of this era."""
        version = self.version or http_headers.FIRST_STATELESS
        return [*http_headers.stateless(frame, version), *self._arguments.headers(frame)]

    def must_learn(self, frame: dict[str, Any]) -> bool:
        """Whether the tools must be asked for before this request: their schemas may want headers of it."""
        return frame.get("method") == "tools/call" and not self._arguments.are_known

    def learn(self, frame: dict[str, Any], learned: Callable[[], None], cursor: str = "", pages: int = 0) -> None:
        """Ask for the tools once before the first call, where the client has not; then call back, whatever came."""
        params: dict[str, Any] = {"_meta": frames.meta(frame)}
        if cursor:
            params["cursor"] = cursor
        asked = {"jsonrpc": "2.0", "id": frames.own_id(), "method": "tools/list", "params": params}

        def heard(answer: dict[str, Any]) -> None:
            result = answer.get("result")
            self._arguments.learn(result)
            following = result.get("nextCursor") if isinstance(result, dict) else None
            if isinstance(following, str) and following and pages < _MOST_PAGES:
                self.learn(frame, learned, following, pages + 1)
            else:
                done()

        def done() -> None:
            self._arguments.are_known = True
            learned()

        question = Question(self._door, heard, lambda _refusal: done())
        self._door.fetch(question, "POST", wire.dump(asked), http_headers.stateless(asked, self.version)).start()

    def listed(self, answer: dict[str, Any]) -> None:
        """The client has asked for the tools itself."""
        self._arguments.learn(answer.get("result"))
