"""Puts the doors on one ASGI application, and serves it.

The doors on the path of a call are plain ASGI callables, chosen by their exact path; FastAPI serves the rest. In
front of all of them stands the check of Host, so that no page of another site reaches the broker by a name of its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import sys
import time
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response

from percall import wire
from percall_broker import chores, http_server, sealed, watching
from percall_broker.api import admin, inbox
from percall_broker.api.approvals import OwnApprovalsDoor, RequestDoor
from percall_broker.api.calls import CallDoor, OwnCallsDoor, SettlementsDoor
from percall_broker.api.claims import ClaimDoor, DepartureDoor, WaitingDoor
from percall_broker.api.console import LinkDoor as ConsoleLinkDoor
from percall_broker.api.events import EventsDoor
from percall_broker.api.keys import KeyChangeDoor, KeysDoor
from percall_broker.api.nonce import NonceDoor
from percall_broker.api.own import PassphraseDoor
from percall_broker.api.probes import (
    PATH_METRICS,
    PATH_READY,
    HealthDoor,
    MetricsDoor,
    OpenCounts,
    ProbeApplication,
    ReadyDoor,
)
from percall_broker.api.session import EnrolmentDoor, InvitationDoor, SessionDoor
from percall_broker.api.sign_in import SignInDoor, SignInOfferDoor
from percall_broker.api.tools import ToolsDoor
from percall_broker.asgi import ClientGone, ErrorAnswers, read_first, signed_request
from percall_broker.certificate import Certificate
from percall_broker.compose import open_broker
from percall_broker.console.door import PATH as PATH_CONSOLE
from percall_broker.console.door import ConsoleDoor
from percall_broker.console.security import token_of
from percall_broker.egress.door import EgressDoor
from percall_broker.listening import authority, host_names, listening, tls_context
from percall_broker.model.errors import BrokerError, InvalidInput, NotFound, Unavailable
from percall_broker.model.keys import barred_key, gone_key
from percall_broker.model.peers import TrustedProxies
from percall_broker.model.standing import barred, closed
from percall_broker.outbound.upstream import Upstream
from percall_broker.pipeline.console import origin_of
from percall_broker.relay.door import RelayDoor
from percall_broker.store.lock import alone
from percall_broker.strangers import Front, Strangers
from percall_broker.telemetry import logs
from percall_broker.telemetry.metrics import Metrics

if TYPE_CHECKING:
    import socket
    from collections.abc import AsyncIterator, Awaitable, Callable

    import uvicorn

    from percall_broker.asgi import Door, Message, Receive, Send
    from percall_broker.compose import Broker
    from percall_broker.model.records import Grant, Identity
    from percall_broker.outbound.streams import Use
    from percall_broker.settings import Settings
    from percall_broker.stages.lookup import Lookup

MAX_RELAY_CONNECTIONS = 4096
_MAX_FORM_BYTES = 1024 * 1024
USES_A_TURN = 20
"""How much of what is under way is looked at in one turn of the event loop."""
_LOOK_SECONDS = 0.5
"""How long what is under way is not looked at, where nothing changes."""

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Upstreams:
    """The ways out. Relay has one of its own: its streams stay open for hours, and must not take egress's places."""

    egress: Upstream
    relay: Upstream


class Application:
    """The ASGI application. `relay` answers every path below /mcp/, `console` those below /console."""

    def __init__(
        self,
        doors: dict[tuple[str, str], Door],
        relay: Door,
        console: Door,
        probes: dict[str, Door],
        rest: Door,
        errors: ErrorAnswers,
        hosts: set[bytes],
    ) -> None:
        self._doors = doors
        self._relay = relay
        self._console = console
        self._paths = {path for _, path in doors}
        self._probes = probes
        self._rest = rest
        self._errors = errors
        self._hosts = hosts

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http":
            return
        begun = False

        async def watched(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        try:
            await self._door(scope)(scope, receive, watched)
        except ClientGone:
            return
        except BrokerError as error:
            if not begun:
                await self._errors.send(send, error)
        except Exception as error:  # noqa: BLE001 - the outermost edge: the client learns that, the log what
            # Never the traceback, which may show values.
            log.error(  # noqa: TRY400
                "a request failed", path=scope["path"], error=type(error).__name__, where=logs.where(error)
            )
            if not begun:
                await self._errors.send(send, _fault())

    def _door(self, scope: Message) -> Door:
        if scope["path"] in self._probes and scope["method"] == "GET":
            # Before the check of Host: who balances load asks each replica by its address, and learns nothing private.
            return self._probes[scope["path"]]
        named = [value for name, value in scope["headers"] if name == b"host"]
        if len(named) != 1 or named[0].lower() not in self._hosts:
            raise InvalidInput("request.host", "The request names another host than this broker.")
        path = scope["path"]
        if path == PATH_CONSOLE or path.startswith(PATH_CONSOLE + "/"):
            return self._console
        door = self._relay if path.startswith(wire.PATH_RELAY) else self._doors.get((scope["method"], path))
        if door is None:
            if path in self._paths:
                raise InvalidInput("request.method", f"{scope['method'][:16]} is not answered here.")
            return self._rest
        if scope.get("raw_path", path.encode()) != path.encode():
            raise NotFound(wire.CODE_PATH, "There is nothing at this path.")
        return door


def _fault() -> BrokerError:
    return BrokerError("broker.failed", "The broker failed to answer this.")


@dataclass(frozen=True, slots=True)
class Doors:
    """What both listeners answer: the application for laptops, and the doors of those who watch."""

    public: Front
    watching: dict[str, Door]


def build(
    broker: Broker,
    upstreams: Upstreams,
    hosts: set[bytes],
    proxies: TrustedProxies,
    metrics_token: bytes = b"",
) -> Doors:
    """The applications over a broker that is open."""
    origin, sessions = broker.console.presence.origin.url, broker.console.sessions
    strangers = Strangers(broker.signed, proxies, lambda scope: sessions.name(token_of(scope, origin)))
    errors = ErrorAnswers(broker.nonces, time.time, broker.attacks.note, strangers.refused)
    events = EventsDoor(broker.signed, broker.sessions, broker.changes, broker.nonces, broker.approvals.requests)
    doors: dict[tuple[str, str], Door] = {
        ("POST", wire.PATH_CALLS): CallDoor(broker.call),
        ("GET", wire.PATH_CALLS): OwnCallsDoor(broker.signed, broker.administration.record),
        ("POST", wire.PATH_SETTLEMENTS): SettlementsDoor(broker.signed, broker.settle),
        ("POST", wire.PATH_EGRESS): EgressDoor(
            broker.request, upstreams.egress, broker.streams, broker.metrics, broker.tracing
        ),
        ("GET", wire.PATH_EVENTS): events,
        ("POST", wire.PATH_INVITATION): InvitationDoor(broker.enrol),
        ("POST", wire.PATH_ENROL): EnrolmentDoor(broker.enrol),
        ("PUT", wire.PATH_PRESENCE): PassphraseDoor(broker.own),
        ("GET", wire.PATH_KEYS): KeysDoor(broker.personal_keys),
        ("POST", wire.PATH_KEYS): KeyChangeDoor(broker.personal_keys),
        ("POST", wire.PATH_CONSOLE_LINK): ConsoleLinkDoor(broker.signed, broker.console, enrol=False),
        ("POST", wire.PATH_CONSOLE_ENROLMENT): ConsoleLinkDoor(broker.signed, broker.console, enrol=True),
        ("GET", wire.PATH_SIGN_IN): SignInOfferDoor(broker.sign_in),
        ("POST", wire.PATH_SIGN_IN): SignInDoor(broker.sign_in),
        ("GET", wire.PATH_NONCE): NonceDoor(broker.nonces, time.time),
        ("GET", wire.PATH_SESSION): SessionDoor(broker.signed, broker.sessions),
        ("GET", wire.PATH_APPROVALS): OwnApprovalsDoor(broker.signed, broker.approvals.requests),
        ("POST", wire.PATH_APPROVALS): RequestDoor(broker.signed, broker.approvals.requests),
        ("GET", wire.PATH_CLAIMS): WaitingDoor(broker.signed, broker.claims),
        ("POST", wire.PATH_CLAIMS): ClaimDoor(broker.signed, broker.claims),
        ("POST", wire.PATH_TOOLS): ToolsDoor(broker.tools),
        ("DELETE", wire.PATH_AGENT): DepartureDoor(broker.signed, broker.claims),
    }
    rest: Any = _rest(broker, errors)  # its types are wider than an ASGI server's messages
    relay = RelayDoor(broker.relay, upstreams.relay, broker.streams, broker.public_url)
    probes: dict[str, Door] = {wire.PATH_HEALTH: HealthDoor(), PATH_READY: ReadyDoor(broker.readiness)}
    counts = OpenCounts(broker.metrics, broker.store, lambda: (len(broker.streams), events.open))
    figures = MetricsDoor(broker.metrics, broker.readiness, metrics_token, counts.look_up)
    application = Application(
        doors, relay, ConsoleDoor(broker, errors), probes, read_first(rest, _MAX_FORM_BYTES), errors, hosts
    )
    return Doors(Front(application, strangers, broker.signed, errors), {**probes, PATH_METRICS: figures})


def _rest(broker: Broker, errors: ErrorAnswers) -> FastAPI:
    """What is not on the path of a call."""
    rest = FastAPI(title="Percall broker", docs_url=None, redoc_url=None, openapi_url=None, redirect_slashes=False)

    async def reader(request: Request) -> Identity:
        body = await request.body()
        return await broker.signed.administrator(signed_request(dict(request.scope), body), time.time())

    async def changer(request: Request, area: str) -> Identity:
        body = await request.body()
        return await broker.signed.changing(signed_request(dict(request.scope), body), area, time.time())

    @rest.exception_handler(BrokerError)
    async def refuse(_request: Request, error: BrokerError) -> Response:
        status, headers, body = errors.of(error)
        return Response(body, status, {name.decode(): value.decode() for name, value in headers})

    @rest.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> Response:
        # Where, never what: the value may be a key.
        places = ", ".join(".".join(map(str, one["loc"][1:])) or "body" for one in error.errors())
        return await refuse(request, InvalidInput("request.form", f"Not in the form that it must have: {places}."))

    @rest.exception_handler(HTTPException)
    async def unread(request: Request, _error: HTTPException) -> Response:
        # What the framework itself refuses, such as JSON that nests too deep for it.
        return await refuse(request, InvalidInput("request.form", "The request cannot be read."))

    @rest.exception_handler(Exception)
    async def failed(request: Request, _error: Exception) -> Response:
        return await refuse(request, _fault())  # which is logged at the outermost edge

    @rest.exception_handler(404)
    async def nothing(request: Request, _error: Exception) -> Response:
        advice = f"For people, the console is at {PATH_CONSOLE}/."
        return await refuse(request, NotFound(wire.CODE_PATH, "There is nothing at this path.", advice))

    @rest.exception_handler(405)
    async def otherwise(request: Request, _error: Exception) -> Response:
        return await refuse(request, InvalidInput("request.method", f"{request.method[:16]} is not answered here."))

    rest.include_router(inbox.router(broker.approvals, broker.signed))
    rest.include_router(
        admin.router(broker.administration, broker.webhooks, broker.status, broker.console.presence, reader, changer)
    )
    return rest


# --- serving ----------------------------------------------------------------------------------------------------------


def serve(settings: Settings) -> None:
    """Serves until SIGTERM or SIGINT, in an event loop of its own; prints `listening on URL` when ready.

    Raises InvalidInput for an address that cannot be, Unavailable when it is taken, the folder is in use, or the store
    cannot be opened.
    """

    def ready(url: str) -> None:
        sys.stdout.write(f"listening on {url}\n")
        sys.stdout.flush()

    try:
        import uvloop  # noqa: PLC0415 - not on every system
    except ImportError:
        asyncio.run(_serve(settings, ready))
    else:
        uvloop.run(_serve(settings, ready))


async def _serve(settings: Settings, ready: Callable[[str], None]) -> None:
    logs.configure()
    token, tls = watching.token(settings), tls_context(settings)
    config = partial(http_server.config, settings=settings, tls=tls)
    with alone(settings.home), listening(settings) as listener, watching.watched(settings) as watched:
        address = listener.getsockname()
        scheme = "http" if tls is None else "https"
        at = f"{scheme}://{authority(address[0], address[1])}"
        public_url = settings.public_url or at
        metrics = Metrics()
        probes = ProbeApplication({**sealed.PROBES, PATH_METRICS: MetricsDoor(metrics, sealed.NotYet(), token)})
        async with contextlib.AsyncExitStack() as stack:
            if watched is not None:  # from now on: it is while the broker cannot work that it is watched
                await stack.enter_async_context(chores.at_work({"watching": partial(watching.watch, probes, watched)}))
            opening = partial(open_broker, settings, public_url, metrics)
            broker = await sealed.opened(stack, opening, config, listener)
            if broker is None:
                return
            upstreams = await stack.enter_async_context(_upstreams())
            proxies = TrustedProxies(settings.trusted_proxies)
            doors = build(broker, upstreams, host_names(public_url, at, origin_of(public_url)), proxies, token)
            probes.opened(doors.watching)
            doing: dict[str, Callable[[], Awaitable[None]]] = {"cut streams": partial(cut_streams, broker)}
            if tls and settings.tls_cert and settings.tls_key:
                doing["certificate"] = Certificate(tls, settings.tls_cert, settings.tls_key).keep
            async with chores.at_work(doing):
                await _Server(config(doors.public), broker, lambda: ready(public_url)).serve([listener])


@contextlib.asynccontextmanager
async def _upstreams() -> AsyncIterator[Upstreams]:
    upstreams = Upstreams(Upstream(), Upstream(max_connections=MAX_RELAY_CONNECTIONS))
    try:
        yield upstreams
    finally:
        await upstreams.egress.close()
        await upstreams.relay.close()


class _Server(http_server.Server):
    """Says when it is ready, and ends its streams before itself."""

    def __init__(self, config: uvicorn.Config, broker: Broker, ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._broker = broker
        self._ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        # What was loaded until now stays: the collector need not walk through it again while calls wait.
        gc.collect()
        gc.freeze()
        self._ready()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._broker.changes.close()
        self._broker.streams.close()
        grace = asyncio.get_running_loop().call_later(http_server.GRACE_SECONDS, self._broker.streams.end)
        await super().shutdown(sockets)
        grace.cancel()


async def cut_streams(broker: Broker) -> None:
    """Cuts what is under way for grants and servers that no longer stand: on each change, and twice a second for what
    expires. What cannot be read counts as no longer standing.

    And what belongs to calls that were settled by way of another replica.
    """
    streams = broker.streams
    while True:
        generation = broker.changes.generation
        uses = streams.uses()
        for first in range(0, len(uses), USES_A_TURN):
            await asyncio.sleep(0)  # an embedded store reads in this very turn, and calls wait meanwhile
            few = uses[first : first + USES_A_TURN]
            grants: dict[str, Grant] = {}
            with contextlib.suppress(Unavailable):
                grants = await broker.lookup.grants({use.grant for use in few})
            for use in few:
                if await _has_ended(broker.lookup, use, grants.get(use.grant)):
                    streams.cut(use)
        if calls := streams.calls():
            with contextlib.suppress(Unavailable):
                for row in await broker.store.fetch("settled_of", calls=json.dumps(dict.fromkeys(calls))):
                    streams.settled(row["call"])
        await broker.changes.next(generation, _LOOK_SECONDS)


async def _has_ended(lookup: Lookup, use: Use, grant: Grant | None) -> bool:
    """Whether what uses a server by a grant, None where that cannot be read, may not go on."""
    try:
        server = await lookup.server(use.server) if grant is not None else None
    except Unavailable:
        server = None
    if grant is None or server is None:
        return True
    barring = barred(grant, time.time()) or closed(server.name, server) or barred_key(grant, server)
    return (barring or gone_key(grant, server, use.owner)) is not None
