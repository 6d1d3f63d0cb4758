"""Whatever happens to an old-era session, and in which order: no call is done twice, and every request is answered.

The bridge itself is driven by a state machine, beside a server that forgets, a network that cuts, a broker that starts
anew, a grant that is suspended, and answers that come late, break off or wait for an approval.
"""

from __future__ import annotations

import itertools
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test

from harness.bridged import SUSPENDED, Laptop
from percall import wire

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.bridged import Sent

VERSION = "2025-11-25"
REQUESTS: dict[str, dict[str, Any]] = {
    "tools/call": {"name": "make", "arguments": {}},
    "resources/read": {"uri": "a:b"},
    "tools/list": {},
}
CALLS = ("tools/call", "resources/read")
"""What must not be done twice."""
WHICH = st.integers(0, 7)
T = TypeVar("T")


@dataclass
class Server:
    """A server that keeps sessions, until it starts anew. `sessions`: whether the client has confirmed each."""

    sessions: dict[str, bool] = field(default_factory=dict)
    done: Counter[Any] = field(default_factory=Counter)
    taken: list[Sent] = field(default_factory=list)
    numbers: Any = field(default_factory=lambda: itertools.count(1))

    def take(self, sent: Sent) -> None:
        """Look at a request: refuse it, or do it, which is not to answer it yet."""
        method = sent.message.get("method", sent.method)
        if method == "initialize":
            assert not sent.session
            self.taken.append(sent)
        elif sent.session not in self.sessions:
            sent.status(404, "session.ended")
        elif method == "notifications/initialized":
            self.sessions[sent.session] = True
            sent.status(202)
        elif method == "DELETE":
            del self.sessions[sent.session]
            sent.status(202)
        elif "id" not in sent.message and sent.method == "POST":
            sent.status(202)
        else:
            assert self.sessions[sent.session], "a request came before the session was confirmed"
            if sent.method == "POST":
                self.done[sent.message["id"]] += 1
            self.taken.append(sent)

    def answer(self, sent: Sent, *, breaks_off: bool) -> None:
        """Answer a request that was taken, or only say where the answer will go on."""
        self.taken.remove(sent)
        if sent.message.get("method") == "initialize":
            session = f"s{next(self.numbers)}"
            self.sessions[session] = False
            result = {"protocolVersion": VERSION, "capabilities": {}, "serverInfo": {"name": "far", "version": "1"}}
            answer = {"jsonrpc": "2.0", "id": sent.message["id"], "result": result}
            sent.answer(answer, mcp_session_id=session)
            return
        request = sent.message.get("id") or sent.headers.get("last-event-id")
        if request is None:
            self.taken.append(sent)  # the session's own stream
            sent.event({"jsonrpc": "2.0", "method": "notifications/message", "params": {}}, "place")
        elif breaks_off and sent.session in self.sessions:
            sent.event(None, str(request))
            sent.end()
        elif request == "place":
            self.taken.append(sent)  # the same, opened again
            sent.event(None, "place")
        else:
            sent.answer({"jsonrpc": "2.0", "id": request, "result": {"content": [], "did": self.done[request]}})

    def forget(self) -> None:
        """Start anew: what was open breaks off, and no session is known."""
        self.sessions.clear()
        taken, self.taken = self.taken, []
        for sent in taken:
            sent.cut()


def one_of(those: Sequence[T], which: int) -> Sequence[T]:
    """One of them, unless there is none."""
    return those[which % len(those) :][:1] if those else ()


class Sessions(RuleBasedStateMachine):
    """One client, one bridge, one server."""

    def __init__(self) -> None:
        super().__init__()
        self.laptop = Laptop()
        self.server = Server()
        self.ids = (f"r{number}" for number in itertools.count(1))
        self.asked: dict[str, str] = {}
        self.cancelled: set[str] = set()
        self.opening = ""
        self.is_confirmed = False
        self.is_suspended = False
        self.approvals: list[str] = []
        self.client_opens()

    @initialize(is_open=st.booleans())
    def may_be_open(self, is_open: bool) -> None:
        if is_open:
            self.all_goes_well()

    # --- The client ---------------------------------------------------------------------------------------------------

    def client_opens(self) -> None:
        self.opening = next(self.ids)
        self.is_confirmed = False
        self.asked[self.opening] = "initialize"
        params = {"protocolVersion": VERSION, "capabilities": {}, "clientInfo": {"name": "c", "version": "1"}}
        self.laptop.says("initialize", params, id=self.opening)

    def answers(self) -> dict[str, dict[str, Any]]:
        found = [frame for frame in self.laptop.client.frames() if "method" not in frame]
        answers = {frame["id"]: frame for frame in found}
        assert len(answers) == len(found), "a request was answered twice"
        return answers

    @precondition(lambda self: self.is_confirmed or self.opening in self.answers())
    @rule(said=st.lists(st.sampled_from([*REQUESTS, "a notification", "a cancellation"]), max_size=4))
    def client_says(self, said: list[str]) -> None:
        if not self.is_confirmed:
            self.is_confirmed = True
            self.laptop.says("notifications/initialized")
        for what in said:
            if what in REQUESTS:
                self.client_asks(what)
            elif what == "a notification":
                self.laptop.says("notifications/roots/list_changed")
            else:
                self.client_cancels()

    def client_asks(self, method: str) -> None:
        request = next(self.ids)
        self.asked[request] = method
        self.laptop.says(method, REQUESTS[method], id=request)

    def client_cancels(self) -> None:
        open_ones = [one for one in self.asked if one not in self.answers() and one != self.opening]
        for request in open_ones[:1]:
            self.cancelled.add(request)
            self.laptop.says("notifications/cancelled", {"requestId": request})

    # --- The network and the broker -----------------------------------------------------------------------------------

    def on_the_way(self) -> list[Sent]:
        return [sent for sent in self.laptop.broker.under_way if sent not in self.server.taken]

    @precondition(lambda self: self.on_the_way())
    @rule(which=WHICH)
    def request_arrives(self, which: int) -> None:
        for sent in one_of(self.on_the_way(), which):
            self.arrives(sent)

    @precondition(lambda self: self.on_the_way())
    @rule()
    def all_requests_arrive(self) -> None:
        for sent in self.on_the_way():
            self.arrives(sent)

    def arrives(self, sent: Sent) -> None:
        if sent.path == wire.PATH_APPROVALS:
            sent.answer({"approvals": []})  # none waits: whoever does asks again
        elif self.is_suspended:
            sent.status(403, SUSPENDED.code)
        else:
            self.server.take(sent)

    @precondition(lambda self: not self.is_suspended)
    @rule(which=WHICH)
    def request_waits_for_an_approval(self, which: int) -> None:
        calls = [sent for sent in self.on_the_way() if sent.message.get("method") in CALLS]
        for sent in one_of(calls, which):
            asked = wire.Asked(f"a{sent.message['id']}", 2**40, ("managers",), "https://b.example/a")
            self.approvals.append(asked.id)
            result = {"content": [{"type": "text", "text": "It waits."}], "isError": True}
            approval = wire.dump(wire.encode(asked)).decode()
            sent.answer({"jsonrpc": "2.0", "id": sent.message["id"], "result": result}, percall_approval=approval)

    @precondition(lambda self: self.approvals)
    @rule()
    def somebody_approves(self) -> None:
        approved, self.approvals = self.approvals, []
        self.laptop.approvals.answered(approved)

    @rule(
        what=st.sampled_from(["cut", "broker starts anew", "server starts anew", "suspended", "opened again"]),
        which=WHICH,
    )
    def something_goes_wrong(self, what: str, which: int) -> None:
        under_way = tuple(self.laptop.broker.under_way)
        if what == "server starts anew":
            self.server.forget()
        elif what == "opened again" and self.is_confirmed:
            self.client_opens()
        elif what == "suspended":
            self.is_suspended = True
            under_way = tuple(self.taken())
        for sent in {"cut": one_of(under_way, which), "opened again": (), "server starts anew": ()}.get(
            what, under_way
        ):
            sent.cut()

    @precondition(lambda self: self.is_suspended)
    @rule(is_resumed=st.booleans())
    def laptop_hears_of_its_grant(self, is_resumed: bool) -> None:
        if is_resumed:
            self.is_suspended = False
            if not self.laptop.bridge.is_running:
                self.laptop.bridge.resume()
        elif self.laptop.bridge.is_running:
            self.laptop.bridge.refuse_all(SUSPENDED)

    @precondition(lambda self: self.laptop.loop.timers)
    @rule()
    def time_passes(self) -> None:
        self.laptop.loop.passes()

    # --- The server ---------------------------------------------------------------------------------------------------

    def taken(self) -> list[Sent]:
        self.server.taken = [sent for sent in self.server.taken if not sent.is_over]
        return self.server.taken

    @precondition(lambda self: self.taken())
    @rule(which=WHICH, breaks_off=st.booleans())
    def server_answers(self, which: int, breaks_off: bool) -> None:
        for sent in one_of(self.taken(), which):
            self.server.answer(sent, breaks_off=breaks_off)

    @precondition(lambda self: self.taken())
    @rule()
    def server_answers_all(self) -> None:
        for sent in tuple(self.taken()):
            self.server.answer(sent, breaks_off=False)

    # --- What must hold -----------------------------------------------------------------------------------------------

    def all_goes_well(self) -> None:
        """From now on nothing fails, until nothing is left to do."""
        unanswered = set(self.asked)
        if self.is_suspended:
            self.laptop_hears_of_its_grant(is_resumed=True)
        for _ in range(200):
            if self.approvals:
                self.somebody_approves()
            for sent in self.on_the_way():
                self.arrives(sent)
            for sent in tuple(self.taken()):
                self.server.answer(sent, breaks_off=False)
            if not self.is_confirmed and self.opening in self.answers():
                self.client_says([])
            self.laptop.loop.passes()
            unanswered = set(self.asked) - set(self.answers()) - self.cancelled
            if not unanswered and not self.on_the_way() and self.is_confirmed:
                return
        raise AssertionError(f"never answered: {unanswered}")

    def teardown(self) -> None:
        self.all_goes_well()
        for _ in range(2):  # a session that is gone by now is found to be so by the first
            self.client_asks("tools/call")
            self.all_goes_well()
        answers = self.answers()
        last = list(self.asked)[-1]
        assert answers[last]["result"].get("did") == 1, answers[last]
        for request, method in self.asked.items():
            answer = str(answers.get(request))
            if method in CALLS:
                assert self.server.done[request] <= 1, f"{method} was done twice"
                assert "session.ended" not in answer or not self.server.done[request], "it was done, and said not to be"
            assert "'did'" not in answer or self.server.done[request]
        streams = [sent for sent in self.taken() if sent.method == "GET" and sent.session in self.server.sessions]
        assert len(streams) == 1, "the session's own stream is open"
        assert self.laptop.bridge.is_settled
        assert not self.laptop.bridge.is_behind


@pytest.mark.timeout(600)  # finding the shortest story of a failure takes minutes
def test_no_call_is_done_twice_and_every_request_is_answered_in_any_order_of_what_goes_wrong() -> None:
    run_state_machine_as_test(
        Sessions,
        settings=settings(
            max_examples=300, stateful_step_count=60, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )
