"""One request to a remote MCP server, from a client's bytes to the upstream's answer.

    1  read the message strictly, and the headers that repeat it
    2  who: whose grant, which device key, a nonce of ours; a replay is caught by the unique id
    3  decide: gated methods by the grant's patterns, the policies and, where those ask, a person's approval; the others
       when the grant names the server; the default is no
    4  record it durably, on condition that grant, entry and key are still those decided on; a call's refusal too
    5  unseal the key, and put it into its slots; as in pipeline.request, grant and server must still stand then
    6  forward the very bytes that were decided on
    7  stream the answer at the client's pace
    8  settle the outcome

Deciding and forwarding are one request, so nothing that opens anything leaves the broker. Steps 6 and 7 are the
door's, which knows HTTP.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Protocol

from percall import wire
from percall.rpc import frames, gate, refusals
from percall.rpc.http_headers import METHOD, NAME, PARAMETER, RESUME, SESSION
from percall.rpc.tools import METHOD as TOOLS_LIST
from percall_broker.crypto.seals import SealBroken
from percall_broker.model.errors import BrokerError, Conflict, Forbidden, NotFound, Unavailable, forbidden, refusal
from percall_broker.model.keys import barred_key, gone_key, key_of
from percall_broker.model.standing import barred, closed, require, unusable
from percall_broker.outbound.streams import Use
from percall_broker.pipeline.call import calling
from percall_broker.pipeline.deciding import Attempt, another_door
from percall_broker.pipeline.signed import naming, renewed, replayed
from percall_broker.stages import approval, message
from percall_broker.stages.inject import keyed
from percall_broker.stages.pins import NO_PINS

if TYPE_CHECKING:
    from percall_broker.crypto.seals import Seals
    from percall_broker.model.records import Decision, Grant, Identity, Scope, Server
    from percall_broker.model.rules import Target
    from percall_broker.pipeline.deciding import Deciding
    from percall_broker.pipeline.outcomes import Outcomes
    from percall_broker.pipeline.signed import Signed
    from percall_broker.pipeline.tools import Tools
    from percall_broker.stages.authenticate import SignedRequest
    from percall_broker.stages.frame import Frame
    from percall_broker.stages.lookup import Lookup
    from percall_broker.stages.message import Message
    from percall_broker.stages.pins import Definition, Pins
    from percall_broker.stages.record import Recorder
    from percall_broker.stages.tasks import Tasks
    from percall_broker.telemetry.metrics import Metrics
    from percall_broker.telemetry.steps import Steps, Tracing

_NEVER_SENT = frozenset({
    "relay.many", "upstream.name", "upstream.address", "upstream.connect", "upstream.tls", "upstream.busy",
    "upstream.request",
})  # fmt: skip
"""Why the door sent nothing to the upstream: such a call has failed, and nothing about it is unknown."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A request at the door: `headers` are MCP's own, in lower case, each once; `body` the client's exact bytes.

    `client` and `session` are what the laptop says of who calls. `traceparent` is the header of that name, whatever it
    says; a message's own is in its `_meta`.
    """

    signed: SignedRequest
    server: str
    headers: dict[str, str]
    body: bytes
    client: str
    session: str
    at: float
    traceparent: str | None = None


@dataclass(frozen=True, slots=True)
class Place:
    """A place in a stream of the upstream's that a client may resume: the upstream's own event id, and what for."""

    event: str
    method: str = ""
    id: Any = None
    call: str = ""
    began_ms: int = 0


class Bound:
    """Seals what the upstream's sessions and streams are known by, for one grant and server at one address."""

    def __init__(self, seals: Seals, identity: Identity, server: Server) -> None:
        self._seals = seals
        self._to = (identity.grant.id, identity.grant.device, server.name, server.entry.url)

    def session(self, upstreams: str) -> str:
        """The session's id as the client knows it."""
        return self._seals.seal(upstreams, "session", *self._to)

    def open_session(self, clients: str) -> str:
        """The session's id as the upstream knows it. Raises NotFound."""
        try:
            return self._seals.open(clients, "session", *self._to)
        except SealBroken:
            raise NotFound(
                "session.unknown", "This grant has no such session with this server.", "Begin anew."
            ) from None

    def place(self, place: Place, session: str) -> str:
        """An event's id as the client knows it."""
        text = json.dumps([place.event, place.method, place.id, place.call, place.began_ms])
        return self._seals.seal(text, "event", session, *self._to)

    def open_place(self, clients: str, session: str) -> Place:
        """Where to resume. Raises NotFound."""
        try:
            return Place(*json.loads(self._seals.open(clients, "event", session, *self._to)))
        except SealBroken:
            raise NotFound("session.event", "There is no such event in this session.", "Begin anew.") from None


@dataclass(slots=True)
class Seen:
    """What becomes of a call. `outcome` empty: its stream ended and may be resumed, so it is not over.

    `observed` counts the server's requests to the client that passed.
    """

    call: str = ""
    began_ms: int = 0
    outcome: str = "unknown"
    observed: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Permitted:
    """A request that may be forwarded. `target` and `headers` have the key in them: SECRET, never log.

    `method` and `id` name the request whose answer will come; `deadline` is in seconds since the epoch, None for as
    long as the client likes; `call` is empty where it belongs to none; `session` is the upstream's own id; `tasks` are
    those that a list of tasks may show, `pins` what is accepted of the server's tools, where it is asked for them.
    """

    identity: Identity
    server: Server
    scope: Scope
    bound: Bound
    message: Message | None
    method: str
    id: Any
    deadline: float | None
    call: str
    session: str
    tasks: frozenset[str]
    pins: Pins
    body: bytes = field(repr=False)
    target: Target = field(repr=False)
    headers: tuple[tuple[str, str], ...] = field(repr=False)
    key: bytes = field(repr=False)

    @property
    def use(self) -> Use:
        """What it is a use of."""
        return Use.of(self.identity.grant, self.server)

    def answering(self, body: bytes) -> Permitted:
        """The same for an answer of ours to a request of the upstream's, in the same session."""
        about_the_request = (METHOD, NAME, RESUME)
        headers = tuple(
            pair for pair in self.headers if pair[0] not in about_the_request and not pair[0].startswith(PARAMETER)
        )
        return replace(self, body=body, headers=headers)


class Forward(Protocol):
    """Steps 6 and 7, which the door does."""

    async def __call__(self, permitted: Permitted, seen: Seen, /) -> None:
        """Forwards and streams; says in `seen` what became of it. Raises BrokerError where no answer has begun."""


class Unsealer(Protocol):
    """What step 5 asks of the vault."""

    async def unseal_for_call(self, name: str, version: int) -> bytes:
        """The secret. Raises Unavailable, whose words the caller reads."""


class RelayPipeline:
    """Decides and forwards what clients ask of remote MCP servers."""

    def __init__(
        self,
        signed: Signed,
        lookup: Lookup,
        deciding: Deciding,
        recorder: Recorder,
        outcomes: Outcomes,
        vault: Unsealer,
        seals: Seals,
        tasks: Tasks,
        tools: Tools,
        metrics: Metrics,
        tracing: Tracing,
    ) -> None:
        self._signed = signed
        self._lookup = lookup
        self._deciding = deciding
        self._recorder = recorder
        self._outcomes = outcomes
        self._vault = vault
        self._seals = seals
        self._tasks = tasks
        self._tools = tools
        self._metrics = metrics
        self._tracing = tracing

    def admit(self, request: SignedRequest) -> None:
        """Refuse whoever shows no grant token of ours, before the body is read. Raises Unauthenticated."""
        self._signed.admit(request)

    def read(self, asked: Asked) -> Message | None:
        """1: the message of a POST, strictly. Raises InvalidInput."""
        return message.read(asked.body) if asked.signed.method == "POST" else None

    async def observed(self, permitted: Permitted, method: str) -> None:
        """A request to the client on a session's own stream, which is no call's: recorded before it passes.

        Those of a call are counted in its outcome. Raises Unavailable.
        """
        if not permitted.call:
            await self._recorder.observation(permitted.identity, permitted.server.name, method, time.time())

    async def tools_seen(self, permitted: Permitted, news: tuple[Definition, ...]) -> None:
        """What the server says some tools are, where that is news: recorded before the client hears of it.

        Raises Unavailable, Conflict.
        """
        await self._tools.seen(permitted.identity, permitted.server, permitted.pins, news, time.time())

    async def became_task(self, permitted: Permitted, task: str) -> None:
        """A call has become a task, which is this grant's alone: recorded before the client hears of it.

        Raises Unavailable.
        """
        await self._tasks.made(permitted.server.name, task, permitted.identity.grant.id, time.time())

    def begun(self, permitted: Permitted, seen: Seen) -> None:
        """The answer begins. A subscription is settled by that: it lasts as long as the client likes."""
        if permitted.method == gate.LONG_LIVED:
            seen.outcome = "done"
            self._settled(permitted.identity, seen)

    async def why_cut(self, permitted: Permitted, *, is_ending: bool) -> BrokerError:
        """Why what was permitted may not go on, by a fresh reading: the grant, the server, a broker that ends, else the
        deadline.
        """
        try:
            grant = await self._lookup.grant(permitted.identity.grant.id, fresh=True)
            server = await self._lookup.server(permitted.server.name, fresh=True)
        except Unavailable as error:
            return error
        refused = closed(permitted.server.name, server)
        if grant is not None and server is not None:
            refused = refused or barred(grant, time.time()) or barred_key(grant, server)
            refused = refused or gone_key(grant, server, permitted.use.owner)
        if refused is not None:
            return forbidden(refused)
        ending = "The broker is ending, so this was cut off."
        if permitted.deadline is None:
            return Unavailable("broker.ending", ending, "Try again in a moment.")
        if is_ending:
            return Unavailable("broker.ending", f"{ending} {refusals.UNKNOWN}", refusals.LOOK)
        return forbidden(refusals.DEADLINE_PASSED)

    async def __call__(self, asked: Asked, said: Message | None, forward: Forward) -> None:
        """The rest. Raises BrokerError where no answer has begun."""
        if said is not None:
            message.check_headers(said, asked.headers)  # 1
        if said is not None and said.frame is not None:
            with self._tracing.begin("percall.call", frames.traceparent(said.value) or asked.traceparent) as steps:
                identity = await self._signed.identify(asked.signed, asked.at)  # 2
                steps.done("authenticate")
                with naming(identity):
                    identity, server = await self._decide_and_record(asked, identity, said.frame, steps)  # 3, 4
                self._metrics.decided(steps.seconds())
                await self._forwarded(asked, said, identity, server, Seen(identity.jti, int(asked.at * 1000)), forward)
                steps.done("upstream")
        else:
            identity = await self._signed.identify(asked.signed, asked.at)  # 2
            with naming(identity):
                identity, server = await self._stand_and_record(asked, said, identity)  # 3, 4
            await self._forwarded(asked, said, identity, server, Seen(), forward)

    async def _forwarded(
        self, asked: Asked, said: Message | None, identity: Identity, server: Server, seen: Seen, forward: Forward
    ) -> None:
        permitted = None
        try:
            permitted = await self._permitted(asked, said, identity, server, seen)  # 5
            await forward(permitted, seen)  # 6, 7
        except BrokerError as error:
            # Of a call whose stream is resumed, nobody knows by this request: it was sent by another one.
            if said is not None and (permitted is None or error.code in _NEVER_SENT):
                seen.outcome = "failed"
            if (told := of_open_call(error, seen)) is not error:
                raise told from error
            raise
        finally:
            self._settled(identity, seen)  # 8

    async def _decide_and_record(
        self, asked: Asked, identity: Identity, frame: Frame, steps: Steps
    ) -> tuple[Identity, Server]:
        attempt = Attempt(asked.server, frame, calling(asked.client, asked.session), steps, asked.at)
        self._outcomes.go()
        decided = await self._deciding(identity, attempt)
        if decided.server is None:
            refused = decided.decision
            raise Forbidden(refused.code, refused.message, refused.next_step, approval=approval.told(refused))
        return decided.identity, decided.server

    async def _stand_and_record(
        self, asked: Asked, said: Message | None, identity: Identity
    ) -> tuple[Identity, Server]:
        """A message that is no call: the grant may use the server at all, and that its key is used is on record.

        Raises Forbidden, Unauthenticated for a replay, Conflict.
        """
        method = (said.method or "response") if said is not None else asked.signed.method
        for fresh in (False, True, True):  # as in pipeline.deciding
            grant = await self._lookup.grant(identity.grant.id, fresh=fresh) or identity.grant
            server = await self._lookup.server(asked.server, fresh=fresh)
            identity = renewed(identity, grant)
            shut = _shut(grant, asked.server, server, asked.at)
            if shut is None and server is not None:
                if await self._recorder.message(identity, server, method, key_of(grant, server), asked.at):
                    return identity, server
            elif fresh:
                require(shut)
        if await self._recorder.is_recorded(identity, "request"):
            raise replayed(identity)
        raise Conflict("request.changing", "The grant or the server keeps changing.", "Try again.")

    async def _permitted(
        self, asked: Asked, said: Message | None, identity: Identity, server: Server, seen: Seen
    ) -> Permitted:
        """5, and all that the door needs for 6 and 7. Where a call's stream is resumed, `seen` is of that call from now
        on. Raises NotFound, Forbidden, Unavailable.
        """
        bound = Bound(self._seals, identity, server)
        headers = dict(asked.headers)
        session = ""
        method, awaited = (said.method, said.id) if said is not None else ("", None)
        if SESSION in headers:
            session = headers[SESSION] = bound.open_session(headers[SESSION])
        if RESUME in headers:
            place = bound.open_place(headers[RESUME], session)
            headers[RESUME] = place.event
            method, awaited = place.method, place.id
            seen.call, seen.began_ms, seen.outcome = place.call, place.began_ms, ""
        # The rest of a call's answer has the call's own deadline; a session's standing stream has none.
        endless = method == gate.LONG_LIVED or (asked.signed.method == "GET" and not seen.call)
        began = seen.began_ms / 1000 if seen.call else asked.at
        carried = key_of(identity.grant, server)
        key = await self._vault.unseal_for_call(carried.secret, carried.version) if carried.version else b""  # 5
        latest = await self._lookup.grant(identity.grant.id) or identity.grant
        require(_shut(latest, server.name, await self._lookup.server(server.name), asked.at))
        target, sent = keyed(server.entry, key, headers)
        return Permitted(
            identity=identity,
            server=server,
            scope=identity.grant.servers[server.name],
            bound=bound,
            message=said,
            method=method,
            id=awaited,
            deadline=None if endless else began + server.entry.deadline_seconds,
            call=seen.call,
            session=session,
            pins=await self._lookup.pins(server, identity.grant) if method == TOOLS_LIST else NO_PINS,
            tasks=await self._tasks.of(server.name, identity.grant.id) if method == gate.TASKS else frozenset(),
            body=asked.body,
            target=target,
            headers=sent,
            key=key,
        )

    def _settled(self, identity: Identity, seen: Seen) -> None:
        if seen.call and seen.outcome:
            duration_ms = max(0, int(time.time() * 1000) - seen.began_ms)
            self._outcomes.add(identity, wire.Settlement(seen.call, seen.outcome, duration_ms, seen.observed))


def _shut(grant: Grant, name: str, server: Server | None, now: float) -> Decision | None:
    """Why a grant may not use a server by this door; None when it may."""
    refused = unusable(grant, name, server, now)
    if refused is None and server is not None:
        refused = another_door(server, relayed=True) or barred_key(grant, server)
    return refused


def of_open_call(error: BrokerError, seen: Seen) -> BrokerError:
    """The error that ends a request; of a call that the upstream may have looked at, it says that nobody knows."""
    if not seen.call or seen.outcome != "unknown" or refusals.UNKNOWN in error.message:
        return error
    told = refusals.of_open_call(refusal(error))
    return type(error)(told.code, told.message, told.next_step)
