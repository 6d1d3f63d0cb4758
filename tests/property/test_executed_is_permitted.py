"""Whatever happens to grants, credentials and windows, and in which order: what the upstream executed was permitted.

A real broker is driven over HTTP by a state machine, beside a model of what must hold. After each step the requests
that came to the upstream are exactly those that the model permitted, each with the key that the model names.
"""

from __future__ import annotations

import http.client
import itertools
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    initialize,
    invariant,
    multiple,
    precondition,
    rule,
    run_state_machine_as_test,
)

from harness.processes import keyed_entry
from harness.signing import SigningLaptop, call_message, egress_message
from harness.upstream import CANARY, Upstream
from integration.conftest import Served
from percall import wire

if TYPE_CHECKING:
    from collections.abc import Iterator

    from hypothesis.stateful import MultipleResults

    from harness.signing import Answer

SCOPES = {"reads": ("get_*",), "writes": ("create_item",), "both": ("get_*", "create_*")}
COVERED = {
    "reads": {"get_item"},
    "writes": {"create_item"},
    "both": {"get_item", "create_item"},
}
"""What each scope covers, written out, so that the model shares no pattern matching with the product."""
STATE_AFTER = {"suspend": "suspended", "resume": "active", "revoke": "revoked"}
METHOD_OF = {"get_item": "GET", "create_item": "POST"}
TOOLS = st.sampled_from(["get_item", "create_item", "delete_item"])
METHODS = st.sampled_from(["GET", "POST", "DELETE"])
AT_ONCE = 4
MOST_GRANTS = 3

_examples = itertools.count()


@dataclass
class Captured:
    """A signed request as it went over the wire."""

    path: str
    message: bytes = field(repr=False)
    headers: dict[str, str] = field(repr=False)


@dataclass
class World:
    """What concerns more than one grant: freezes by kind and name, and the server: its state, and where its keys go."""

    frozen: set[tuple[str, str]] = field(default_factory=set)
    server: str = "active"
    place: int = 0
    asks: bool = False
    version: int = 0
    nevers: set[str] = field(default_factory=set)


@dataclass
class Grant:
    """A grant as the model knows it, its person, and the laptop that holds it. `group`: where it came from, if so.

    `own_key` is the person's, empty where they have none; `own_place` where the server sent it when they gave it.
    """

    laptop: SigningLaptop = field(repr=False)
    id: str
    scope: str
    world: World
    person: str
    group: str = ""
    person_state: str = "active"
    state: str = "active"
    decisions: list[tuple[str, str]] = field(default_factory=list)
    captured: list[Captured] = field(default_factory=list, repr=False)
    own_key: str = ""
    own_place: int = 0

    @property
    def key(self) -> str:
        """What each request carries."""
        return self.own_key or CANARY

    @property
    def key_stop(self) -> str:
        """Why no key may be used, where the rest permits."""
        return "key.moved" if self.own_key and self.own_place != self.world.place else ""

    @property
    def never(self) -> str:
        """Why this person's agents may create nothing, where the rest permits."""
        return "approval.never" if self.person in self.world.nevers else ""

    @property
    def stop(self) -> str:
        """Why nothing is permitted: the code that each refusal must name, the first that holds; empty for nothing."""
        frozen = self.world.frozen
        reasons = [
            (self.person_state == "removed", "person.removed"),
            (self.state == "revoked", "grant.revoked"),
            (self.person_state == "suspended", "person.suspended"),
            (("person", self.person) in frozen, "person.frozen"),
            (("all", "") in frozen, "broker.frozen"),
            (self.state == "suspended", "grant.suspended"),
            (("server", "keyed") in frozen, "server.frozen"),
            (self.world.server == "suspended", "server.suspended"),
        ]
        return next((code for holds, code in reasons if holds), "")


@dataclass
class Question:
    """A call that asked, and what has become of that. `version` is of the policies that it was asked under."""

    grant: Grant
    number: int
    approval: str
    version: int
    state: str = "pending"


@dataclass
class Call:
    """A permitted call, and its window."""

    grant: Grant
    id: str
    tool: str
    credential: str = field(repr=False)
    redeemed: bool = False
    settled: bool = False

    def permits(self, method: str, *, presented: bool) -> bool:
        """Whether a request may be made: the one definition of what may be executed."""
        return (
            not self.grant.stop
            and not self.grant.key_stop
            and not self.settled
            and presented is not self.redeemed
            and method == METHOD_OF[self.tool]
        )


class Permissions(RuleBasedStateMachine):
    """Grants and their calls, in the model and in the broker."""

    grants: Bundle[Grant] = Bundle("grants")
    calls: Bundle[Call] = Bundle("calls")

    def __init__(self, served: Served, upstream: Upstream, lead: SigningLaptop) -> None:
        super().__init__()
        self._lead = lead
        self._questions: list[Question] = []
        self._served = served
        self._upstream = upstream
        self._example = next(_examples)
        self._requests = itertools.count()
        self._permitted: list[tuple[str, str]] = []
        self._in_flight: list[tuple[str, str]] = []
        """Requests as the upstream sees them, each with its key."""
        self._grants: list[Grant] = []
        self._world = World()

    # --- grants -------------------------------------------------------------------------------------------------------

    @initialize(target=grants, own_key=st.booleans())
    def first_grant(self, own_key: bool) -> Grant:
        grant = self._enrol("both")
        if own_key:
            self.change_the_own_key(grant, "add")
        return grant

    @precondition(lambda self: len(self._grants) < MOST_GRANTS and ("all", "") not in self._world.frozen)
    @rule(target=grants, scope=st.sampled_from(sorted(SCOPES)))
    def create_grant(self, scope: str) -> Grant:
        return self._enrol(scope)

    @precondition(lambda self: len(self._grants) < MOST_GRANTS and ("all", "") not in self._world.frozen)
    @rule(target=grants, scope=st.sampled_from(sorted(SCOPES)))
    def join_a_group(self, scope: str) -> Grant:
        """A member's own grant of what the group is granted, picked up by their device."""
        laptop, _ = self._served.enrol()
        person = f"person{self._served.people}"
        group = f"g-{person}"
        self._change(f"/groups/{group}/join", {"people": [person]})
        self._change(f"/groups/{group}/grants", {"servers": {"keyed": {"tools": list(SCOPES[scope])}}})
        (claimed,) = laptop.claimed()
        identifier = claimed.send("GET", wire.PATH_SESSION).json["grant"]
        return self._added(Grant(claimed, identifier, scope, self._world, person, group))

    def _enrol(self, scope: str) -> Grant:
        made = self._served.invite(tools=list(SCOPES[scope]))
        laptop, identifier = SigningLaptop.of_person(self._served.url, made["invite"]), made["grant"]
        laptop.send("GET", wire.PATH_SESSION)  # for a nonce: what is sent from now on is complete, and worth capturing
        return self._added(Grant(laptop, identifier, scope, self._world, f"person{self._served.people}"))

    def _added(self, grant: Grant) -> Grant:
        self._grants.append(grant)
        return grant

    def _change(self, path: str, form: object = None, *, may_be_so: str = "") -> bool:
        """Whether the administrator's change was made; `may_be_so` is the code that says it was so already."""
        body = b"" if form is None else wire.dump(form)
        answer = self._served.administrator.send("POST", f"/v1/admin{path}", body)
        if answer.status != 200:
            assert answer.code == may_be_so, answer.body
        return answer.status == 200

    @precondition(lambda self: any(grant.group for grant in self._grants))
    @rule(grant=grants)
    def leave_the_group(self, grant: Grant) -> None:
        if grant.group and grant.person_state != "removed":
            self._change(f"/groups/{grant.group}/leave", {"people": [grant.person]})
            grant.group, grant.state = "", "revoked"

    @rule(grant=grants, verb=st.sampled_from(["suspend", "resume", "resume", "remove"]))
    def change_the_person(self, grant: Grant, verb: str) -> None:
        state = {"suspend": "suspended", "resume": "active", "remove": "removed"}[verb]
        done = self._change(f"/people/{grant.person}/{verb}", may_be_so="person.state")
        assert done is (grant.person_state not in {state, "removed"})
        if done:
            grant.person_state = state
        if grant.person_state == "removed":
            grant.state = "revoked"
            self._world.frozen.discard(("person", grant.person))

    @rule(grant=grants, kind=st.sampled_from(["person", "server", "all"]))
    def freeze(self, grant: Grant, kind: str) -> None:
        named = (kind, {"person": grant.person, "server": "keyed", "all": ""}[kind])
        if kind == "person" and grant.person_state == "removed":
            return
        done = self._change("/freezes", {"kind": kind, "name": named[1]}, may_be_so="freeze.state")
        assert done is (named not in self._world.frozen)
        self._world.frozen.add(named)

    @precondition(lambda self: self._world.frozen)
    @rule(which=st.integers(0, 1000))
    def lift(self, which: int) -> None:
        kind, name = sorted(self._world.frozen)[which % len(self._world.frozen)]
        self._served.lift(kind, name)
        self._world.frozen.remove((kind, name))

    @rule(verb=st.sampled_from(["suspend", "resume", "resume"]))
    def change_the_server(self, verb: str) -> None:
        state = STATE_AFTER[verb]
        assert self._change(f"/servers/keyed/{verb}", may_be_so="server.state") is (self._world.server != state)
        self._world.server = state

    @rule(grant=grants, verb=st.sampled_from(["suspend", "resume", "resume", "revoke"]))
    def change(self, grant: Grant, verb: str) -> None:
        state = STATE_AFTER[verb]
        answer = self._served.administrator.send("POST", f"/v1/admin/grants/{grant.id}/{verb}")
        if grant.state in {state, "revoked"}:
            assert answer.code == "grant.state"
        else:
            assert answer.status == 200, answer.body
            grant.state = state

    # --- keys ---------------------------------------------------------------------------------------------------------

    @rule(grant=grants, verb=st.sampled_from(["add", "add", "rotate", "confirm", "remove"]))
    def change_the_own_key(self, grant: Grant, verb: str) -> None:
        given = f"test_own_{next(self._requests):08}" if verb in {"add", "rotate"} else ""
        binding = self._seen(grant) if verb == "confirm" else ""
        message = wire.join(wire.encode(wire.KeyChange("keyed", verb, binding)), given.encode())
        answer = self._send(grant, wire.PATH_KEYS, message)
        stop = grant.stop if not grant.stop.startswith("server.") else ""
        if stop or grant.laptop.presence is None:
            assert answer.code == (stop or "presence.unset")
        elif bool(grant.own_key) is (verb == "add"):
            assert answer.code == ("key.exists" if verb == "add" else "key.unknown")
        else:
            assert answer.status == 200, answer.body
            grant.own_key = "" if verb == "remove" else given or grant.own_key
            grant.own_place = self._world.place

    def _seen(self, grant: Grant) -> str:
        """Of where the person is told that a key goes; some other place where they are told nothing."""
        keys = wire.decode(wire.PersonalKeys, grant.laptop.send("GET", wire.PATH_KEYS).json)
        return next((place.binding for place in keys.places), "nowhere")

    @rule()
    def send_keys_elsewhere(self) -> None:
        """Or back: the entry is changed by an administrator."""
        place = 1 - self._world.place
        self._put_entry(place)
        self._world.place = place

    def _put_entry(self, place: int) -> None:
        text = keyed_entry(self._upstream.url)
        more = f'hosts = ["{self._upstream.url}", "https://elsewhere.example"]'
        entry = text.replace(f'hosts = ["{self._upstream.url}"]', more) if place else text
        self._served.administrator.administer("PUT", "/v1/admin/servers/keyed", {"entry": entry})

    # --- calls --------------------------------------------------------------------------------------------------------

    @rule(target=calls, grant=grants, tool=TOOLS)
    def call(self, grant: Grant, tool: str) -> Call | MultipleResults[Call]:
        return self._call(grant, tool) or multiple()

    @rule(target=calls, grant=grants, tool=TOOLS)
    def call_with_a_request(self, grant: Grant, tool: str) -> Call | MultipleResults[Call]:
        """As a shim and its child do: the credential is used soon."""
        call = self._call(grant, tool)
        if call is None:
            return multiple()
        self._request(call, METHOD_OF[tool], presented=True)
        return call

    def _call(self, grant: Grant, tool: str, known: Question | None = None) -> Call | None:
        number = known.number if known else next(self._requests)
        params = {"name": tool, "arguments": {"n": number}}
        answer = self._send(grant, wire.PATH_CALLS, call_message("keyed", "tools/call", params))
        assert answer.status == 200, answer.body
        decided = wire.decode(wire.CallAnswer, answer.json)
        grant.decisions.append((tool, decided.decision))
        stop = grant.stop or ("grant.tool" if tool not in COVERED[grant.scope] else grant.key_stop)
        if not stop and tool == "create_item":
            stop = grant.never
            if not stop and self._world.asks and self._is_asked(grant, number, known, decided):
                return None
        if not stop:
            assert decided.decision == "permit"
            assert decided.credential
            return Call(grant, decided.call, tool, decided.credential)
        assert decided.decision == "forbid"
        assert decided.credential is None
        assert decided.refusal is not None
        assert decided.refusal.code == stop
        return None

    # --- approvals ----------------------------------------------------------------------------------------------------

    def _is_asked(self, grant: Grant, number: int, known: Question | None, decided: wire.CallAnswer) -> bool:
        """Whether the call does not pass under policies that ask; an approval of this very call lets it, once."""
        is_open = known is not None and known.version == self._world.version
        if known is not None and is_open and known.state == "allowed":
            known.state = "used"
            return False
        if known is not None and is_open and known.state == "denied":
            assert decided.decision == "forbid"
            assert decided.refusal is not None
            assert decided.refusal.code == "approval.denied"
            return True
        assert decided.decision == "ask"
        assert decided.credential is None
        assert decided.approval is not None
        if known is not None and is_open and known.state == "pending":
            assert decided.approval.id == known.approval
        elif known is not None:
            assert decided.approval.id != known.approval
            known.approval, known.version, known.state = decided.approval.id, self._world.version, "pending"
        else:
            self._questions.append(Question(grant, number, decided.approval.id, self._world.version))
        return True

    @rule(asks=st.booleans())
    def change_policies(self, asks: bool) -> None:
        everything = "permit(principal, action, resource)"
        creates = '{ resource is Tool && resource.name == "create_item" }'
        asking = f'{everything} unless {creates};\n@ask("leads") {everything} when {creates};'
        files = {"rules.cedar": asking if asks else f"{everything};"}
        assert self._change("/policies", {"files": files, "message": "", "expected": -1})
        self._world.asks, self._world.version = asks, self._world.version + 1

    @precondition(lambda self: self._questions)
    @rule(which=st.integers(0, 1000))
    def attempt_again(self, which: int) -> None:
        self._attempt(self._questions[which % len(self._questions)])

    @precondition(lambda self: self._questions and ("all", "") not in self._world.frozen)
    @rule(which=st.integers(0, 1000), verb=st.sampled_from(["allow", "allow", "allow", "deny", "never"]))
    def answer(self, which: int, verb: str) -> None:
        self._answer(self._questions[which % len(self._questions)], verb)

    @precondition(lambda self: ("all", "") not in self._world.frozen)
    @rule(grant=grants, verb=st.sampled_from(["allow", "allow", "deny"]))
    def ask_and_answer(self, grant: Grant, verb: str) -> None:
        """As people do; and then once more than was allowed."""
        if not self._world.asks:
            self.change_policies(asks=True)
        known = len(self._questions)
        self._call(grant, "create_item")
        for question in self._questions[known:]:
            self._answer(question, verb)
            self._attempt(question)
            self._attempt(question)

    def _attempt(self, question: Question) -> None:
        call = self._call(question.grant, "create_item", question)
        if call is not None:
            self._request(call, "POST", presented=True)

    def _answer(self, question: Question, verb: str) -> None:
        path = f"{wire.PATH_INBOX}/{question.approval}"
        digest = self._lead.send("GET", path).json["digest"]
        answer = self._lead.send("POST", f"{path}/answer", wire.dump({"answer": verb, "digest": digest}))
        ended = question.grant.state == "revoked" or question.version != self._world.version
        if question.state != "pending" or ended:
            assert (answer.status, answer.code) == (409, "approval.answered")
            return
        assert answer.status == 200, answer.body
        question.state = "allowed" if verb == "allow" else "denied"
        if verb == "never":
            self._world.nevers.add(question.grant.person)

    @rule(call=calls, outcome=st.sampled_from(["done", "failed", "unknown"]))
    def settle(self, call: Call, outcome: str) -> None:
        message = wire.dump(wire.encode(wire.Settlements((wire.Settlement(call.id, outcome, 1),))))
        assert self._send(call.grant, wire.PATH_SETTLEMENTS, message).status == 204
        call.settled = True

    @rule(call=calls, other=grants)
    def settle_anothers_call(self, call: Call, other: Grant) -> None:
        message = wire.dump(wire.encode(wire.Settlements((wire.Settlement(call.id, "done", 1),))))
        assert self._send(other, wire.PATH_SETTLEMENTS, message).status == 204
        call.settled |= other is call.grant

    # --- requests -----------------------------------------------------------------------------------------------------

    @rule(call=calls)
    def redeem(self, call: Call) -> None:
        """Also a credential that was used, of a call that was settled, of a grant that was revoked."""
        self._request(call, METHOD_OF[call.tool], presented=True)

    @rule(call=calls, method=METHODS, presented=st.booleans())
    def request(self, call: Call, method: str, presented: bool) -> None:
        self._request(call, method, presented=presented)

    def _request(self, call: Call, method: str, *, presented: bool) -> None:
        window = wire.Window(call.id, call.credential if presented else None)
        line, message = self._api_request(method, window)
        is_permitted = call.permits(method, presented=presented)
        if is_permitted:
            self._permitted.append((line, call.grant.key))
            call.redeemed = True
        answer = self._send(call.grant, wire.PATH_EGRESS, message)
        if is_permitted:
            head, _ = wire.split(answer.body)
            assert (answer.status, head["status"]) == (200, 401 if call.grant.own_key else 200)
        else:
            assert (answer.status, answer.code) == (403, self._why(call, method, presented=presented))

    @staticmethod
    def _why(call: Call, method: str, *, presented: bool) -> str:
        """The reason that the refusal must name: the first that holds."""
        reasons = [
            (bool(call.grant.stop), call.grant.stop),
            (bool(call.grant.key_stop), call.grant.key_stop),
            (method != METHOD_OF[call.tool], "request.rule"),
            (call.settled, "window.closed"),
            (presented, "credential.used"),
            (not presented, "window.unopened"),
        ]
        return next(code for holds, code in reasons if holds)

    @rule(call=calls)
    def redeem_in_parallel(self, call: Call) -> None:
        window = wire.Window(call.id, call.credential)
        method = METHOD_OF[call.tool]
        line, message = self._api_request(method, window)
        is_permitted = call.permits(method, presented=True)
        signed = [self._capture(call.grant, wire.PATH_EGRESS, message) for _ in range(AT_ONCE)]
        with ThreadPoolExecutor(AT_ONCE) as pool:
            answers = list(pool.map(lambda request: self._exchange(call.grant, request), signed))
        assert [answer.status for answer in answers].count(200) == int(is_permitted)
        if is_permitted:
            self._permitted.append((line, call.grant.key))
            call.redeemed = True

    @rule(call=calls, what=st.sampled_from(["grant", "person", "freeze", "server"]))
    def stop_while_it_requests(self, call: Call, what: str) -> None:
        """Each request may come before the stop or after it; one whose answer came was permitted."""
        method, window = METHOD_OF[call.tool], wire.Window(call.id)
        is_permitted = call.permits(method, presented=False)
        asked = [self._api_request(method, window) for _ in range(AT_ONCE)]
        signed = [self._capture(call.grant, wire.PATH_EGRESS, message) for _, message in asked]
        with ThreadPoolExecutor(AT_ONCE) as pool:
            came = pool.map(lambda request: self._exchange_or_cut(call.grant, request), signed)
            if what == "grant":
                self.change(call.grant, "suspend")
            elif what == "person":
                self.change_the_person(call.grant, "suspend")
            elif what == "server":
                self.change_the_server("suspend")
            else:
                self.freeze(call.grant, "all")
            answers = list(came)
        for (line, _), answer in zip(asked, answers, strict=True):
            if answer is not None and answer.status == 200:
                assert is_permitted
                self._permitted.append((line, call.grant.key))
            elif answer is None or answer.code == "request.cut":
                assert is_permitted
                self._in_flight.append((line, call.grant.key))
            else:
                assert answer.status == 403

    @rule(call=calls, thief=grants)
    def use_anothers_window(self, call: Call, thief: Grant) -> None:
        if thief is call.grant:
            return
        _, message = self._api_request(METHOD_OF[call.tool], wire.Window(call.id, call.credential))
        answer = self._send(thief, wire.PATH_EGRESS, message)
        expected = thief.stop or thief.key_stop or "window.unknown"
        assert (answer.status, answer.code) == (403, expected)

    @rule(call=calls, other=calls)
    def use_anothers_credential(self, call: Call, other: Call) -> None:
        """The windows of one grant are not exchangeable either."""
        if other is call:
            return
        _, message = self._api_request(METHOD_OF[call.tool], wire.Window(call.id, other.credential))
        answer = self._send(call.grant, wire.PATH_EGRESS, message)
        expected = call.grant.stop or call.grant.key_stop or "credential.binding"
        assert (answer.status, answer.code) == (403, expected)

    @rule(grant=grants, method=METHODS)
    def request_without_a_call(self, grant: Grant, method: str) -> None:
        _, message = self._api_request(method)
        answer = self._send(grant, wire.PATH_EGRESS, message)
        expected = grant.stop or grant.key_stop or "request.no_call"
        assert (answer.status, answer.code) == (403, expected)

    @rule(grant=grants, which=st.integers(0, 1000))
    def replay_a_proof(self, grant: Grant, which: int) -> None:
        if grant.captured:
            answer = self._exchange(grant, grant.captured[which % len(grant.captured)])
            assert (answer.status, answer.code) == (401, "proof.replayed")

    @rule(grant=grants, thief=grants, which=st.integers(0, 1000))
    def sign_with_another_key(self, grant: Grant, thief: Grant, which: int) -> None:
        """A stolen grant without its device key."""
        if thief is grant or not grant.captured:
            return
        taken = grant.captured[which % len(grant.captured)]
        headers = thief.laptop.headers("POST", taken.path, taken.message)
        headers["Authorization"] = taken.headers["Authorization"]
        answer = self._exchange(thief, Captured(taken.path, taken.message, headers))
        assert answer.status == 401

    # --- what must hold -----------------------------------------------------------------------------------------------

    @invariant()
    def executed_is_what_was_permitted(self) -> None:
        """Nothing reaches the upstream without permission, and each request carries the key that it may carry."""
        came = Counter(
            (f"{seen.method} {seen.path}", seen.headers["authorization"].removeprefix("Bearer "))
            for seen in self._upstream.seen
            if self._mark in seen.path
        )
        permitted = Counter(self._permitted)
        assert permitted <= came, "what is permitted succeeds"
        assert came - permitted <= Counter(self._in_flight), "what was executed was permitted"

    def teardown(self) -> None:
        """The record tells the same story. What stops others is lifted."""
        for kind, name in sorted(self._world.frozen):
            self._served.lift(kind, name)
        self._change("/servers/keyed/resume", may_be_so="server.state")
        self._put_entry(0)
        if self._world.asks:
            self.change_policies(asks=False)
        for grant in self._grants:
            rows = self._served.administrator.administer("GET", f"/v1/admin/calls?grant={grant.id}")
            assert sorted((row["tool"], row["decision"]) for row in rows) == sorted(grant.decisions)

    # --- the wire -----------------------------------------------------------------------------------------------------

    @property
    def _mark(self) -> str:
        return f"?example={self._example}&"

    def _api_request(self, method: str, *windows: wire.Window) -> tuple[str, bytes]:
        """A request like no other: as the upstream would see it, and the message to the broker."""
        path = f"/items{self._mark}n={next(self._requests)}"
        message = egress_message("keyed", self._upstream.url + path, *windows, method=method)
        return f"{method} {path}", message

    def _capture(self, grant: Grant, path: str, message: bytes) -> Captured:
        request = Captured(path, message, grant.laptop.headers("POST", path, message))
        grant.captured.append(request)
        return request

    def _send(self, grant: Grant, path: str, message: bytes) -> Answer:
        return self._exchange(grant, self._capture(grant, path, message))

    @staticmethod
    def _exchange(grant: Grant, request: Captured) -> Answer:
        return grant.laptop.exchange("POST", request.path, request.message, request.headers)

    def _exchange_or_cut(self, grant: Grant, request: Captured) -> Answer | None:
        """None where the answer was cut: a suspension ends what is under way."""
        try:
            return self._exchange(grant, request)
        except (http.client.HTTPException, ConnectionError):
            return None


@pytest.fixture(scope="module")
def upstream() -> Iterator[Upstream]:
    with Upstream(CANARY) as running:
        yield running


@pytest.fixture(scope="module")
def served(upstream: Upstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with Served(tmp_path_factory.mktemp("served")) as running:
        running.add_server("keyed", keyed_entry(upstream.url), CANARY)
        yield running


@pytest.mark.timeout(600)  # finding the shortest story of a failure takes minutes
def test_what_is_executed_is_what_was_permitted(served: Served, upstream: Upstream) -> None:
    made = served.administrator.administer("POST", "/v1/admin/people/lea/invite")
    lead = SigningLaptop.of_person(served.url, made["invite"])
    served.administrator.administer("POST", "/v1/admin/groups/leads/join", {"people": ["lea"]})

    def machine() -> Permissions:
        return Permissions(served, upstream, lead)

    run_state_machine_as_test(
        machine,  # type: ignore[arg-type]  # it is called; any factory will do
        settings=settings(
            max_examples=30,
            stateful_step_count=50,
            deadline=None,
            suppress_health_check=[HealthCheck.too_slow],
        ),
    )
