"""The gated calls: each waits for its turn and for the broker's decision, goes to the child, and is settled.

With attribution `exact` one call of a child is open at a time, so that an API request belongs to one call; otherwise
all run side by side. One that waits for a person's approval holds up no other. A call whose outcome nobody saw is
settled as unknown and never repeated.
"""

from __future__ import annotations

import time
from collections import deque

from percall import wire
from percall.errors import PercallError, WireError
from percall.rpc import frames, gate, inputs, refusals
from percall.run import trace

TYPE_CHECKING = False  # `typing` itself costs 10 ms of each start
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from percall.run.approvals import Approvals, Wait
    from percall.run.broker import Broker
    from percall.run.loop import Loop
    from percall.run.settle import Settlements
    from percall.run.windows import Windows

_SWEEP_SECONDS = 1.0
_MOST_WAITING = 1000
_MOST_WAITING_BYTES = 32 * 1024 * 1024


class Call:
    """One gated request, from its arrival to its answer. `call` is its id at the broker once that has decided.

    It `began` when it arrived, or when a person had answered: how long they took is not how long a call takes.
    """

    __slots__ = (
        "arrived",
        "began",
        "by_page",
        "call",
        "deadline",
        "frame",
        "is_cancelled",
        "key",
        "line",
        "observed",
        "wait",
    )

    def __init__(self, frame: dict[str, Any], line: bytes) -> None:
        self.frame = frame
        self.line = line
        self.key = frames.id_key(frame["id"])
        self.arrived = self.began = time.monotonic()
        self.call = ""
        self.deadline = 0.0
        self.is_cancelled = False
        self.observed: dict[str, int] = {}
        self.wait: Wait | None = None
        self.by_page = False


class Calls:
    """All gated calls of one child. `forward` gets lines for the child without, `answer` lines for the client with
    their line ends; `grant_ended` a refusal that concerns every call.
    """

    def __init__(
        self,
        *,
        loop: Loop,
        broker: Broker,
        approvals: Approvals,
        settlements: Settlements,
        windows: Windows,
        server: str,
        one_at_a_time: bool,
        forward: Callable[[bytes], None],
        answer: Callable[[bytes], None],
        grant_ended: Callable[[wire.Refusal], None],
    ) -> None:
        self.client = ""
        self._loop = loop
        self._broker = broker
        self._approvals = approvals
        self._settlements = settlements
        self._windows = windows
        self._server = server
        self._one_at_a_time = one_at_a_time
        self._forward = forward
        self._answer = answer
        self._grant_ended = grant_ended
        self._waiting: deque[Call] = deque()
        self._waiting_bytes = 0
        self._deciding: dict[Any, Call] = {}
        self._held: dict[Any, Call] = {}
        self._open: dict[Any, Call] = {}
        self._listening: dict[Any, dict[str, Any]] = {}
        self._sweeping = False

    @property
    def is_idle(self) -> bool:
        """Whether no call waits, is being decided, or is open."""
        return not (self._waiting or self._deciding or self._held or self._open)

    @property
    def is_full(self) -> bool:
        """Whether so much waits that no more should be read."""
        waiting = len(self._waiting) + len(self._deciding) + len(self._held)
        return waiting > _MOST_WAITING or self._waiting_bytes > _MOST_WAITING_BYTES

    def knows(self, key: Any) -> bool:
        """Whether a call with this id has not been answered yet."""
        known = key in self._open or key in self._deciding or key in self._held or key in self._listening
        return known or any(call.key == key for call in self._waiting)

    def submit(self, frame: dict[str, Any], line: bytes) -> None:
        """A gated request of the client's."""
        call = Call(*inputs.resumed(frame, line))
        call.by_page = inputs.can_open(frame)
        self._waiting_bytes += len(call.line)
        if self._one_at_a_time and (self._deciding or self._open):
            self._waiting.append(call)
        else:
            self._decide(call)

    def cancel(self, key: Any) -> bool:
        """The client waits no longer. Whether the child should be told."""
        for call in self._waiting:
            if call.key == key:
                self._waiting.remove(call)
                self._waiting_bytes -= len(call.line)
                return False
        if key in self._deciding:
            self._deciding[key].is_cancelled = True
            return False
        if key in self._held:
            self._release(self._held[key])
            return False
        if key in self._open:
            self._end(key, "unknown")
            self._next()
        self._listening.pop(key, None)
        return True

    def answered(self, key: Any, frame: dict[str, Any], *, allow_sampling: bool) -> bytes | None:
        """The child's answer to an open call has come; when the client must get another line instead, that line."""
        result = frame.get("result")
        asked = gate.requested_by_server(result) if isinstance(result, dict) and "inputRequests" in result else []
        for method in asked:
            if method in gate.OBSERVED:
                self._open[key].observed[method] = self._open[key].observed.get(method, 0) + 1
        if gate.SAMPLING in asked and not allow_sampling:
            call = self._end(key, "refused")
            self._next()
            return refusals.answer(call.frame, refusals.SAMPLING_REFUSED)
        is_failure = "error" in frame or (isinstance(result, dict) and result.get("isError") is True)
        self._end(key, "failed" if is_failure else "done")
        self._next()
        return None

    def is_open(self, key: Any) -> bool:
        """Whether the child owes an answer to a call with this id."""
        return key in self._open

    def heard_out(self, key: Any) -> dict[str, Any] | None:
        """The request of the subscription with this id, which an answer ends; None where there is none."""
        return self._listening.pop(key, None)

    def answer_instead(self, key: Any, refusal: wire.Refusal) -> None:
        """The child's answer cannot be passed on: answer in its place; whether the call did anything is unknown."""
        self._answer(refusals.answer(self._end(key, "unknown").frame, refusal))
        self._next()

    def observe(self, method: str) -> None:
        """A request of the child's to the client has passed."""
        for call in self._open.values():
            call.observed[method] = call.observed.get(method, 0) + 1

    def refuse_all(self, refusal: wire.Refusal) -> None:
        """The child is gone or must go: answer everything with the refusal."""
        self._windows.close_all()
        listening, self._listening = self._listening, {}
        for frame in listening.values():
            self._answer(refusals.answer(frame, refusal))
        for key in tuple(self._open):
            self._answer(refusals.answer(self._end(key, "unknown").frame, refusals.of_open_call(refusal)))
        for call in self._deciding.values():
            if not call.is_cancelled:
                call.is_cancelled = True
                self._answer(refusals.answer(call.frame, refusal))
        held = tuple(self._held.values())
        for call in held:
            self._release(call)
        waiting, self._waiting = tuple(self._waiting), deque()
        self._waiting_bytes -= sum(len(call.line) for call in waiting)
        for call in (*held, *waiting):
            self._answer(refusals.answer(call.frame, refusal))

    def _decide(self, call: Call) -> None:
        self._deciding[call.key] = call
        settled = self._settlements.take()

        def done(body: bytes) -> None:
            self._settlements.gone(settled)
            try:
                answer = wire.decode(wire.CallAnswer, wire.strict_json(body))
            except WireError as error:
                self._refuse(call, refusals.of_error(error))
                return
            self._decided(call, answer)

        def failed(error: PercallError) -> None:
            self._settlements.put_back(settled)
            self._refuse(call, refusals.of_error(error))

        head = wire.CallRequest(self._server, self.client, settled, trace.parent(call.frame), self._approvals.session)
        message = wire.join(wire.encode(head), call.line)
        self._broker.request("POST", wire.PATH_CALLS, message, done, failed)

    def _decided(self, call: Call, answer: wire.CallAnswer) -> None:
        if answer.decision != "permit":
            refusal = answer.refusal or wire.Refusal("call.refused", "The broker refused this call.")
            if answer.approval is None or not self._hold(call, answer.approval, refusal):
                self._refuse(call, refusal)
            return
        call.call = answer.call
        if self._forget(call):
            self._settle(call, "refused")  # nobody waits any more, so it never reached the child
            self._next()
            return
        if call.frame["method"] == gate.LONG_LIVED:
            self._listening[call.key] = call.frame
            self._forward(call.line)
            self._settle(call, "done")  # a stream for as long as the client likes; no window, no deadline
            self._next()
            return
        call.deadline = time.monotonic() + answer.deadline_seconds if answer.deadline_seconds else float("inf")
        self._open[call.key] = call
        self._windows.open(answer.call, answer.credential, answer.traceparent)
        self._forward(call.line)
        call.line = b""
        if not self._sweeping:
            self._sweeping = True
            self._loop.later(_SWEEP_SECONDS, self._sweep)

    def _hold(self, call: Call, asked: wire.Asked, refusal: wire.Refusal) -> bool:
        """The call waits for an approval, and the others go on. False: its client would not wait so long."""
        if call.is_cancelled:
            return False
        if call.by_page:
            self._forget(call)
            self._answer(inputs.required(call.frame, asked))
            self._next()
            return True

        def again() -> None:
            del self._held[call.key]
            call.wait = None
            call.began = time.monotonic()
            self._waiting.appendleft(call)
            self._next()

        def over() -> None:
            self._release(call)
            self._answer(refusals.answer(call.frame, refusal))

        call.wait = self._approvals.wait(call.frame, self.client, call.arrived, asked, again, over)
        if call.wait is None:
            return False
        del self._deciding[call.key]
        self._held[call.key] = call
        self._next()
        return True

    def _release(self, call: Call) -> None:
        """The call waits for no approval any more, and will not be made."""
        del self._held[call.key]
        self._waiting_bytes -= len(call.line)
        if call.wait is not None:
            self._approvals.cancel(call.wait)

    def _refuse(self, call: Call, refusal: wire.Refusal) -> None:
        if not self._forget(call):
            self._answer(refusals.answer(call.frame, refusal))
        if refusal.code in wire.CODES_OF_STANDING:
            self._grant_ended(refusal)
        self._next()

    def _forget(self, call: Call) -> bool:
        """The call is no longer being decided. Whether nobody waits for it any more."""
        if self._deciding.get(call.key) is call:
            del self._deciding[call.key]
        self._waiting_bytes -= len(call.line)
        return call.is_cancelled

    def _next(self) -> None:
        while self._waiting and not (self._one_at_a_time and (self._deciding or self._open)):
            self._decide(self._waiting.popleft())

    def _end(self, key: Any, outcome: str) -> Call:
        call = self._open.pop(key)
        self._windows.close(call.call)
        self._settle(call, outcome)
        return call

    def _settle(self, call: Call, outcome: str) -> None:
        duration = int((time.monotonic() - call.began) * 1000)
        self._settlements.add(wire.Settlement(call.call, outcome, duration, call.observed))

    def _sweep(self) -> None:
        """End the calls whose deadline has passed: the client hears so, the child is told that nobody waits."""
        now = time.monotonic()
        for key, call in tuple(self._open.items()):
            if call.deadline < now:
                self._end(key, "unknown")
                self._answer(refusals.answer(call.frame, refusals.DEADLINE_PASSED))
                self._forward(refusals.cancelled(call.frame["id"], "The call's deadline has passed."))
        self._sweeping = bool(self._open)
        if self._sweeping:
            self._loop.later(_SWEEP_SECONDS, self._sweep)
        self._next()
