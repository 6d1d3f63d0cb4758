"""The broker's figures, for Prometheus. One object for each process, handed to whoever counts something.

Labels are bounded: servers of the catalogue and our own stable codes, never a person, a grant, a tool or what a
stranger sent. A name that is not in the catalogue counts as `unknown`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest

from percall import __version__

if TYPE_CHECKING:
    from collections.abc import Container, Iterable

    from percall_broker.model.records import Decision, Server

CONTENT_TYPE = b"text/plain; version=0.0.4; charset=utf-8"
PROBLEMS = ("store", "schema", "keys")
_OWN = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
_UPSTREAM = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0)


class Metrics:
    """Counts and times. Figures of the whole store (`percall_open_…`, `percall_webhook_queue`) are set when read."""

    def __init__(self) -> None:
        registry = self._registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        Gauge("percall_build_info", "The version that runs.", ["version"], registry=registry).labels(__version__).set(1)
        self._calls = Counter("percall_calls", "Calls decided.", ["server", "decision"], registry=registry)
        self._requests = Counter("percall_requests", "API requests decided.", ["server", "decision"], registry=registry)
        self._refusals = Counter("percall_refusals", "What was refused, by reason.", ["reason"], registry=registry)
        self._outcomes = Counter("percall_outcomes", "Calls settled.", ["server", "outcome"], registry=registry)
        self._attacks = Counter("percall_attacks", "Refused attacks, by reason.", ["reason"], registry=registry)
        self._store_errors = Counter(
            "percall_store_errors", "What the store could not do.", ["code"], registry=registry
        )
        self._swept = Counter("percall_swept_calls", "Calls that nobody settled in time.", registry=registry)
        self._webhook_attempts = Counter(
            "percall_webhook_attempts", "Attempts to send an event.", ["result"], registry=registry
        )
        self._decision = Histogram(
            "percall_decision_seconds", "A call, from its arrival to its recorded decision.", buckets=_OWN,
            registry=registry,
        )  # fmt: skip
        self._commit = Histogram(
            "percall_commit_seconds", "A writing, until it is durable.", buckets=_OWN, registry=registry
        )
        self._upstream = Histogram(
            "percall_upstream_seconds", "An API request, until the head of its answer.", ["server"], buckets=_UPSTREAM,
            registry=registry,
        )  # fmt: skip
        self._not_ready = Gauge(
            "percall_not_ready", "1 where this keeps the broker from deciding calls.", ["problem"], registry=registry
        )
        self.open_calls = Gauge(
            "percall_open_calls", "Permitted calls without outcome, whole store.", registry=registry
        )
        self.open_windows = Gauge("percall_open_windows", "Calls whose window is open, whole store.", registry=registry)
        self.webhook_queue = Gauge(
            "percall_webhook_queue", "Events waiting to be sent, whole store.", registry=registry
        )
        self.streams = Gauge("percall_open_streams", "Upstream answers on their way.", registry=registry)
        self.event_streams = Gauge("percall_event_streams", "Shims that listen for changes.", registry=registry)

    def may_come(self, *, attacks: Iterable[str] = (), store_errors: Iterable[str] = ()) -> None:
        """Serves these with 0 from now on: of a series that begins with its first event, `increase()` sees nothing."""
        for reason in attacks:
            self._attacks.labels(reason)
        for code in store_errors:
            self._store_errors.labels(code)

    def call_decided(self, server: Server | None, decision: Decision) -> None:
        """A call was decided and recorded."""
        self._calls.labels(server.name if server else "unknown", decision.effect).inc()
        if decision.effect == "forbid":
            self._refusals.labels(decision.code).inc()

    def request_permitted(self, server: Server) -> None:
        """An API request was permitted and recorded."""
        self._requests.labels(server.name, "permit").inc()

    def request_refused(self, server: Server | None, reason: str) -> None:
        """An API request was forbidden and recorded."""
        self._requests.labels(server.name if server else "unknown", "forbid").inc()
        self._refusals.labels(reason).inc()

    def settled(self, server: str, outcome: str) -> None:
        """An outcome was recorded, of a call of the catalogue's server."""
        self._outcomes.labels(server, outcome).inc()

    def swept(self, calls: int) -> None:
        """So many calls were swept to unknown."""
        self._swept.inc(calls)

    def attack(self, reason: str) -> None:
        """An attack was refused."""
        self._attacks.labels(reason).inc()

    def decided(self, seconds: float) -> None:
        """How long a call took us."""
        self._decision.observe(seconds)

    def committed(self, seconds: float) -> None:
        """How long a writing took until it was durable."""
        self._commit.observe(seconds)

    def store_failed(self, code: str) -> None:
        """The store could not."""
        self._store_errors.labels(code).inc()

    def answered(self, server: Server, seconds: float) -> None:
        """How long an upstream took to begin its answer."""
        self._upstream.labels(server.name).observe(seconds)

    def webhook_attempted(self, result: str) -> None:
        """An event was sent (`delivered`) or not (`failed`)."""
        self._webhook_attempts.labels(result).inc()

    def not_ready(self, problems: Container[str]) -> None:
        """What keeps the broker from its work now, by name."""
        for name in PROBLEMS:
            self._not_ready.labels(name).set(name in problems)

    def text(self) -> bytes:
        """All of it, in Prometheus' text format."""
        return generate_latest(self._registry)
