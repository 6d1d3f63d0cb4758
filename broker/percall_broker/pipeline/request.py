"""One API request of a child, from a signed request to the key that it may carry.

    1  authenticate: whose grant, which device key, a nonce of ours; a replay is caught by the unique id in step 4
    2  the windows it names: calls of this grant and server; with attribution exact there is one at most
    3  decide by the grant's state and by the request rules of the open calls' tools; the start-up rules without a call
    4  record it durably with the key that it will carry (the person's own, or the shared one), on condition that the
       window is open (redeeming the credential opens it, once), that grant, entry and key are still those decided on,
       and that the bound on requests is not passed; a refusal too
    5  unseal that key, which may take its source some seconds; grant and server must still stand then

The key is unsealed for this request alone, after step 4. Forwarding is the door's.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from percall import wire
from percall_broker.model import rules
from percall_broker.model.errors import BrokerError, Conflict, Forbidden, forbidden
from percall_broker.model.keys import barred_key, key_of
from percall_broker.model.records import Decision
from percall_broker.model.standing import require, unusable
from percall_broker.outbound.streams import Use
from percall_broker.pipeline.signed import naming, renewed, replayed
from percall_broker.stages import credential

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from percall_broker.crypto.tokens import CallCredentials
    from percall_broker.model.entry import Entry
    from percall_broker.model.keys import Key
    from percall_broker.model.records import Grant, Identity, Server
    from percall_broker.pipeline.settle import Settle
    from percall_broker.pipeline.signed import Signed
    from percall_broker.stages.authenticate import SignedRequest
    from percall_broker.stages.lookup import Lookup
    from percall_broker.stages.record import Recorder
    from percall_broker.store.protocol import Row, Store
    from percall_broker.telemetry.metrics import Metrics
    from percall_broker.telemetry.steps import Steps

_ATTEMPTS = 4
_MAX_WINDOWS = 1000
_REMEMBERED_CALLS = 10_000


class Unsealer(Protocol):
    """What step 5 asks of the vault."""

    async def unseal_for_call(self, name: str, version: int) -> bytes:
        """The secret. Raises Unavailable, whose words the caller reads."""


@dataclass(frozen=True, slots=True)
class Permitted:
    """An API request that may be forwarded with the key, until `deadline` (seconds since the epoch).

    `calls` are those that it is attributed to; it counts as the first one's.
    """

    identity: Identity
    server: Server
    calls: tuple[str, ...]
    deadline: float
    key: bytes = field(repr=False)  # SECRET, never log

    @property
    def use(self) -> Use:
        """What it is a use of."""
        return Use.of(self.identity.grant, self.server)


class RequestPipeline:
    """Decides the API requests of children."""

    def __init__(
        self,
        store: Store,
        signed: Signed,
        lookup: Lookup,
        recorder: Recorder,
        credentials: CallCredentials,
        settle: Settle,
        vault: Unsealer,
        metrics: Metrics,
    ) -> None:
        self._store = store
        self._signed = signed
        self._lookup = lookup
        self._recorder = recorder
        self._credentials = credentials
        self._settle = settle
        self._vault = vault
        self._metrics = metrics
        self._calls: dict[str, Row] = {}

    def admit(self, request: SignedRequest) -> None:
        """Refuse whoever shows no grant token of ours, before the body is read. Raises Unauthenticated."""
        self._signed.admit(request)

    async def __call__(
        self,
        request: SignedRequest,
        head: wire.EgressRequest,
        now: float,
        steps: Steps,
        objection: BrokerError | None,
        asks: Callable[[Entry], Awaitable[bool]],
    ) -> Permitted:
        """The permission to forward, with the key. Raises Forbidden, whose code is recorded, or another BrokerError.

        `objection` is what the door found wrong with the request's head: refused like the rest, so that it is recorded.
        `asks` tells whether the request asks for the key, in a slot of the entry; the record says where it does not.
        """
        identity = await self._signed.identify(request, now)  # 1
        steps.done("authenticate")
        with naming(identity):
            settling = self._settle.start(identity, head.settle, now)
            try:
                identity, server, calls, carried = await self._decide_and_record(
                    identity, head, objection, asks, steps, now
                )  # 2 to 4
            finally:
                await settling
        key = await self._vault.unseal_for_call(carried.secret, carried.version)  # 5
        await self._require_standing(identity.grant, server, now)
        steps.done("unseal")
        call = await self._call(calls[0]) if calls else None
        deadline = call["deadline_ms"] / 1000 if call else now + server.entry.deadline_seconds
        return Permitted(identity, server, calls, deadline, key)

    async def _require_standing(self, grant: Grant, server: Server, now: float) -> None:
        """What was revoked while a key source took its time to unseal gets no key. Raises Forbidden."""
        latest = await self._lookup.grant(grant.id) or grant
        _standing(latest, server.name, await self._lookup.server(server.name), now)

    async def _decide_and_record(
        self,
        identity: Identity,
        head: wire.EgressRequest,
        objection: BrokerError | None,
        asks: Callable[[Entry], Awaitable[bool]],
        steps: Steps,
        now: float,
    ) -> tuple[Identity, Server, tuple[str, ...], Key]:
        seen = None
        for attempt in range(_ATTEMPTS):
            # As in pipeline.deciding: what is remembered is good enough to permit on, never to refuse on.
            grant = await self._lookup.grant(identity.grant.id, fresh=attempt > 0) or identity.grant
            server = await self._lookup.server(head.server, fresh=attempt > 0)
            identity = renewed(identity, grant)
            attributed: tuple[Row, ...] = ()
            try:
                standing = _standing(grant, head.server, server, now)
                attributed = await self._windows(identity, standing, head, now)  # 2
                if objection is not None:
                    raise objection
                candidates = _decide(standing, attributed, head)  # 3
                steps.done("decide")
            except BrokerError as refusal:
                if attempt == 0:
                    continue
                await self._refuse(identity, head, attributed, refusal, now)
                self._metrics.request_refused(server, refusal.code)
                raise
            key = key_of(grant, standing)
            is_keyed = await asks(standing.entry)
            for calls, decision in candidates:
                recording = self._recorder.request(
                    identity, standing, head, calls, decision, key, now, is_keyed=is_keyed
                )
                if await recording:  # 4
                    self._metrics.request_permitted(standing)
                    steps.done("record")
                    _note(steps, identity, standing, calls, head)
                    return identity, standing, calls, key
            # Not recorded, though nothing has changed since the last look: then the window is why.
            if seen == (grant.version, standing.version, key):
                reason = await self._why_not(identity, head, candidates[0][0], now)
                await self._refuse(identity, head, attributed, reason, now)
                self._metrics.request_refused(standing, reason.code)
                raise reason
            seen = (grant.version, standing.version, key) if attempt else None
        raise Conflict("request.changing", "The grant or the server keeps changing.", "Try again.")

    async def _windows(
        self, identity: Identity, server: Server, head: wire.EgressRequest, now: float
    ) -> tuple[Row, ...]:
        """The calls that the request names, each one of this grant, device and server. Raises Forbidden."""
        if len(head.windows) > (1 if server.entry.attribution == "exact" else _MAX_WINDOWS):
            raise Forbidden("request.ambiguous", "The request names more open calls than this server's entry allows.")
        rows = []
        for window in head.windows:
            row = await self._call(window.call)
            bound = (identity.grant.id, identity.grant.device, server.name)
            if row is None or (row["grant_id"], row["device"], row["server"]) != bound:
                raise Forbidden("window.unknown", "The request names a call that is not one of this grant's.")
            if window.credential is not None:
                credential.check(
                    self._credentials,
                    window.credential,
                    identity=identity,
                    call=window.call,
                    server=server.name,
                    tool=row["tool"],
                    now=now,
                )
            rows.append(row)
        return tuple(rows)

    async def _call(self, call: str) -> Row | None:
        """What never changes of a permitted call, remembered."""
        known = self._calls.get(call)
        if known is None:
            rows = await self._store.fetch("read_call", call=call)
            if not rows:
                return None
            known = self._calls[call] = rows[0]
            if len(self._calls) > _REMEMBERED_CALLS:
                del self._calls[next(iter(self._calls))]
        return known

    async def _why_not(  # noqa: PLR0911 - one sentence for each condition of the statement
        self, identity: Identity, head: wire.EgressRequest, calls: tuple[str, ...], now: float
    ) -> BrokerError:
        if await self._store.fetch("is_recorded", kind="request", id=identity.jti):
            return replayed(identity)
        rows = await self._store.fetch("read_window", call=calls[0]) if calls else []
        if not rows:
            return Forbidden("window.unknown", "The request could not be recorded, so it was not made.")
        window = rows[0]
        if window["settled"]:
            return Forbidden("window.closed", "The call that this request belongs to has been answered.")
        if window["deadline_ms"] <= now * 1000:
            return Forbidden("window.deadline", "The deadline of the call that this request belongs to has passed.")
        presented = any(named.call == calls[0] and named.credential for named in head.windows)
        if presented and window["redeemed"]:
            return Forbidden(wire.CODE_CREDENTIAL_USED, "The call credential was used before; it works once.")
        if not window["redeemed"]:
            return Forbidden("window.unopened", "The call's credential was never redeemed.")
        return Forbidden("request.limit", "The call has made as many requests as this server's entry allows.")

    async def _refuse(
        self,
        identity: Identity,
        head: wire.EgressRequest,
        attributed: tuple[Row, ...],
        refusal: BrokerError,
        now: float,
    ) -> None:
        calls = tuple(row["call"] for row in attributed)
        tool = attributed[0]["tool"] if attributed else ""
        decision = Decision(permitted=False, code=refusal.code, message=refusal.message)
        if not await self._recorder.request_refusal(identity, head, calls, tool, decision, now):
            raise replayed(identity)


def _note(
    steps: Steps, identity: Identity, server: Server, calls: tuple[str, ...], permitted: wire.EgressRequest
) -> None:
    """What a permitted request's span shows: of its URL the host alone, for paths and queries may hold anything."""
    if steps.traceparent is None:
        return
    target = rules.parse_url(permitted.url)
    steps.note(
        {
            "percall.request": identity.jti,
            "percall.call": calls[0] if calls else "",
            "percall.server": server.name,
            "http.request.method": permitted.method,
            "server.address": target.host,
        }
    )


def _standing(grant: Grant, name: str, server: Server | None, now: float) -> Server:
    """The server, when the grant may use it at all. Raises Forbidden."""
    require(unusable(grant, name, server, now))
    assert server is not None  # noqa: S101 - what is not there is closed
    if not server.entry.slots:
        raise Forbidden("server.no_key", f"The server {name!r} has no key, so it makes no requests by this door.")
    require(barred_key(grant, server))
    return server


def _decide(
    server: Server, attributed: tuple[Row, ...], head: wire.EgressRequest
) -> list[tuple[tuple[str, ...], Decision]]:
    """The ways to record the request: under each open call whose tool may make it, or as a start-up request.

    Each is (calls, decision), with the call that it is counted under first. Raises Forbidden when there is none.
    """
    calls = tuple(row["call"] for row in attributed)
    ways: list[tuple[tuple[str, ...], Decision]] = []
    for row in attributed:
        others = tuple(call for call in calls if call != row["call"])
        ways.append(((row["call"], *others), rules.match(server.entry, (row["tool"],), head.method, head.url)))
    if not attributed:
        ways.append(((), rules.match(server.entry, (), head.method, head.url)))
    candidates = [(attributed_to, decision) for attributed_to, decision in ways if decision.permitted]
    if not candidates:
        _, refused = ways[0]
        raise forbidden(refused)
    return candidates
