"""The one place that chooses concrete classes: a store, a vault and the pipelines over them, from settings."""

from __future__ import annotations

import asyncio
import contextlib
import time
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Self

import structlog

from percall_broker import chores
from percall_broker.crypto import base64url, sodium
from percall_broker.crypto.seals import Seals
from percall_broker.crypto.tokens import CallCredentials, ConsoleTokens, GrantTokens, Nonces
from percall_broker.log.arguments import SealedArguments
from percall_broker.model.errors import InvalidInput, Unavailable
from percall_broker.model.location import engine_at
from percall_broker.outbound.posting import Posting
from percall_broker.outbound.streams import OpenStreams
from percall_broker.pipeline.administration import Administration
from percall_broker.pipeline.administration.ledger import Ledger
from percall_broker.pipeline.administration.status import Running, Status
from percall_broker.pipeline.approvals import Approvals
from percall_broker.pipeline.attacks import Attacks
from percall_broker.pipeline.call import CallPipeline
from percall_broker.pipeline.changes import Changes
from percall_broker.pipeline.claims import Claims
from percall_broker.pipeline.console import Console
from percall_broker.pipeline.deciding import Deciding
from percall_broker.pipeline.enrol import Enrolment
from percall_broker.pipeline.expiries import Expiries
from percall_broker.pipeline.outcomes import Outcomes
from percall_broker.pipeline.own import Own
from percall_broker.pipeline.personal_keys import PersonalKeys
from percall_broker.pipeline.readiness import Readiness
from percall_broker.pipeline.relay import RelayPipeline
from percall_broker.pipeline.replicas import Replicas
from percall_broker.pipeline.request import RequestPipeline
from percall_broker.pipeline.retention import Retention
from percall_broker.pipeline.sessions import Sessions
from percall_broker.pipeline.settle import Settle
from percall_broker.pipeline.sign_in import SignIn
from percall_broker.pipeline.signed import Signed
from percall_broker.pipeline.tools import Tools
from percall_broker.pipeline.webhooks import Webhooks
from percall_broker.policy.language import LONGEST_LIMIT_SECONDS
from percall_broker.stages.approval import ApprovalStage
from percall_broker.stages.authenticate import Authenticator
from percall_broker.stages.lookup import Lookup
from percall_broker.stages.presence import Presence
from percall_broker.stages.record import Recorder
from percall_broker.stages.shape import Shapes
from percall_broker.stages.tasks import Tasks
from percall_broker.store import Statement, check_schema, open_store
from percall_broker.store.measured import MeasuredStore
from percall_broker.telemetry.metrics import Metrics
from percall_broker.telemetry.steps import NoTracing
from percall_broker.vault import Vault
from percall_broker.vault.sources.chosen import key_source

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from percall_broker.oidc import Client, Provider
    from percall_broker.settings import Settings
    from percall_broker.store import Store
    from percall_broker.telemetry.steps import Tracing

SWEEP_SECONDS = 10.0
NOW_AND_THEN_SECONDS = 600.0
DAY_SECONDS = 86400
_ISSUER_BYTES = 16

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Broker:
    """All that the doors need."""

    public_url: str
    store: Store
    lookup: Lookup
    nonces: Nonces
    signed: Signed
    changes: Changes
    sessions: Sessions
    call: CallPipeline
    request: RequestPipeline
    relay: RelayPipeline
    settle: Settle
    streams: OpenStreams
    tasks: Tasks
    tools: Tools
    outcomes: Outcomes
    enrol: Enrolment
    claims: Claims
    own: Own
    personal_keys: PersonalKeys
    sign_in: SignIn
    administration: Administration
    approvals: Approvals
    status: Status
    metrics: Metrics
    tracing: Tracing
    replicas: Replicas
    readiness: Readiness
    attacks: Attacks
    expiries: Expiries
    retention: Retention
    webhooks: Webhooks
    console: Console


@contextlib.asynccontextmanager
async def open_broker(settings: Settings, public_url: str, metrics: Metrics) -> AsyncIterator[Broker]:
    """A broker at work: its store is open, its keys are there, changes are watched for.

    Raises Unavailable; Sealed, which is one, where the source of its keys may answer later.
    """
    async with open_vault(settings, metrics) as (store, vault):
        broker = await compose(store, vault, settings, public_url, metrics, _tracing(settings))
        await broker.replicas.beat()
        running: dict[str, Callable[[], Awaitable[None]]] = {
            "poll": broker.changes.poll,
            "listen": broker.changes.listen,
            "sweep": partial(_sweep, broker),
            "webhooks": broker.webhooks.run,
        }
        # What ends soon is announced, what is long over forgotten: each by itself, so that none waits for another.
        regular: dict[str, Callable[[float], Awaitable[None]]] = {
            "expiries": broker.expiries.announce,
            "events": broker.webhooks.purge,
            "tasks": broker.tasks.forget,
            "approvals": broker.approvals.forget,
            "arguments": partial(_erase, broker),
        }
        running |= {name: partial(_now_and_then, name, work) for name, work in regular.items()}
        try:
            async with chores.at_work(running):
                yield broker
        finally:
            await broker.webhooks.close()
            await broker.outcomes.close()
            await broker.attacks.close()
            with contextlib.suppress(Unavailable):
                await broker.replicas.leave()
            await asyncio.to_thread(broker.tracing.close)


@contextlib.asynccontextmanager
async def open_vault(settings: Settings, metrics: Metrics | None = None) -> AsyncIterator[tuple[Store, Vault]]:
    """The store, and the vault over it. Raises Unavailable."""
    store: Store = await open_store(settings.location)
    if metrics is not None:
        store = MeasuredStore(store, metrics)
    try:
        vault = Vault(store, key_source(settings), settings.data_keys_kept_seconds)
        try:
            yield store, vault
        finally:
            await vault.close()
    finally:
        await store.close()


@dataclass(frozen=True, slots=True)
class _OwnKeys:
    """What is made and checked with the broker's own keys."""

    tokens: GrantTokens
    nonces: Nonces
    credentials: CallCredentials
    seals: Seals
    arguments: SealedArguments
    shapes: Shapes
    console: ConsoleTokens

    @classmethod
    async def of(cls, vault: Vault) -> Self:
        """Raises Unavailable."""
        signing = await vault.own_key("signing")
        # The issuer is the signing key itself, so that grants outlive a move to another URL.
        issuer = f"urn:percall:{base64url.encode(sodium.public_key(signing)[:_ISSUER_BYTES])}"
        return cls(
            tokens=GrantTokens(signing, issuer),
            nonces=Nonces(await vault.own_key("nonce")),
            credentials=CallCredentials(await vault.own_key("credential")),
            seals=Seals(await vault.own_key("sessions")),
            arguments=SealedArguments(await vault.own_key("arguments")),
            shapes=Shapes(await vault.own_key("shapes")),
            console=ConsoleTokens(await vault.own_key("console")),
        )


async def compose(
    store: Store,
    vault: Vault,
    settings: Settings,
    public_url: str,
    metrics: Metrics | None = None,
    tracing: Tracing | None = None,
) -> Broker:
    """A broker over an open store. Raises Unavailable."""
    metrics, tracing = metrics or Metrics(), tracing or NoTracing()
    keys = await _OwnKeys.of(vault)

    # What is known of grants and servers; what changes it, and who hears of that.
    lookup = Lookup(store)
    changes = Changes(store, lookup)
    ledger = Ledger(store, changes.announce)

    # A call, and a request, in the order of their steps: who asks, the decision, its record, the outcome.
    presence = Presence(store, public_url)
    signed = Signed(store, lookup, Authenticator(keys.tokens, keys.nonces, public_url), presence)
    approving = ApprovalStage(store, keys.shapes, public_url)
    recorder = Recorder(store, keys.arguments.seal)
    streams = OpenStreams()
    settle = Settle(store, metrics, streams.settled)
    deciding = Deciding(lookup, approving, recorder, metrics)
    call = CallPipeline(signed, deciding, keys.credentials, settle, metrics, tracing)
    request = RequestPipeline(store, signed, lookup, recorder, keys.credentials, settle, vault, metrics)

    # A call of a remote server is decided and made in one.
    tasks = Tasks(store)
    tools = Tools(ledger, lookup, signed)
    outcomes = Outcomes(settle)
    deciding_relayed = Deciding(lookup, approving, recorder, metrics, tasks)
    relay = RelayPipeline(
        signed, lookup, deciding_relayed, recorder, outcomes, vault, keys.seals, tasks, tools, metrics, tracing
    )

    # What people and administrators do.
    sessions = Sessions(store, lookup, presence)
    administration = Administration.over(ledger, vault, lookup, keys.arguments)
    approvals = Approvals.over(ledger, keys.arguments, keys.shapes, public_url)
    console = Console.over(store, ledger, lookup, keys.nonces, keys.console, administration, approvals, public_url)
    sign_in = SignIn(ledger, administration.people, administration.groups, *_provider(settings))

    # How the broker itself is.
    replicas = Replicas(store, public_url)
    readiness = Readiness(replicas.beat, partial(check_schema, store), vault)
    expiries = Expiries(store, settings.key_days * DAY_SECONDS)
    running = Running(engine_at(settings.location), settings.key_source)
    return Broker(
        public_url=public_url,
        store=store,
        lookup=lookup,
        nonces=keys.nonces,
        signed=signed,
        changes=changes,
        sessions=sessions,
        call=call,
        request=request,
        relay=relay,
        settle=settle,
        streams=streams,
        tasks=tasks,
        tools=tools,
        outcomes=outcomes,
        enrol=Enrolment(ledger, lookup, keys.tokens, sessions, presence, public_url),
        claims=Claims(ledger, keys.tokens, sessions, public_url),
        own=Own(ledger, signed),
        personal_keys=PersonalKeys(ledger, signed, lookup, vault),
        sign_in=sign_in,
        administration=administration,
        approvals=approvals,
        status=Status(store, vault, running, replicas, readiness, expiries, administration),
        metrics=metrics,
        tracing=tracing,
        replicas=replicas,
        readiness=readiness,
        attacks=Attacks(store, lookup, metrics, replicas.own_id),
        expiries=expiries,
        retention=Retention(store, settings.arguments_days * DAY_SECONDS),
        webhooks=Webhooks(store, vault, Posting(), metrics, replicas.own_id),
        console=console,
    )


def _tracing(settings: Settings) -> Tracing:
    """Raises InvalidInput where spans are asked for and the extra is not there."""
    if not settings.traces_endpoint:
        return NoTracing()
    try:
        from percall_broker.telemetry.spans import Spans  # noqa: PLC0415 - an extra, and none of its cost without it
    except ImportError:
        raise InvalidInput(
            "settings.traces",
            "Spans (`traces_endpoint`) need OpenTelemetry, which is not installed here.",
            "Install Percall's extra `otel` too: in a clone, `uv tool install '.[broker,otel]'`, or by pip.",
        ) from None
    return Spans(settings.traces_endpoint)


def _provider(settings: Settings) -> tuple[Provider | None, Client | None, dict[str, str], int]:
    """Where people sign in, where that is configured; which of its groups are groups here, and for how many days a
    sign-in holds.
    """
    if not settings.oidc_issuer:
        return None, None, {}, 1
    from percall_broker.oidc import Client, Provider  # noqa: PLC0415 - its libraries are a tenth of a start

    client = Client(
        settings.oidc_issuer,
        settings.oidc_client_id,
        settings.oidc_client_secret,
        settings.oidc_scope,
        settings.oidc_name_claim,
        settings.oidc_groups_claim,
    )
    return Provider(client), client, settings.oidc_groups, settings.oidc_days


async def _sweep(broker: Broker) -> None:
    """Calls that nobody settled become unknown; proofs that have expired anyway are forgotten."""
    while True:
        now = time.time()
        try:
            swept = await broker.settle.sweep(now)
            await broker.replicas.beat()
            await broker.attacks.flush(now)
            await broker.store.append(
                Statement("forget_proofs", {"now": int(now)}),
                Statement("forget_limit_uses", {"before_ms": int((now - LONGEST_LIMIT_SECONDS) * 1000)}),
            )
        except Unavailable as error:
            log.warning("sweep failed", code=error.code)
        else:
            if swept:
                log.info("calls swept to unknown", calls=swept)
        await asyncio.sleep(SWEEP_SECONDS)


async def _now_and_then(name: str, work: Callable[[float], Awaitable[None]]) -> None:
    """Does something from time to time; a store that cannot be asked is asked again the next time."""
    while True:
        try:
            await work(time.time())
        except Unavailable as error:
            log.warning("not done", chore=name, code=error.code)
        await asyncio.sleep(NOW_AND_THEN_SECONDS)


async def _erase(broker: Broker, now: float) -> None:
    if erased := await broker.retention.erase(now):
        log.info("arguments erased", calls=erased)
