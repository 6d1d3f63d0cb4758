"""Spans of calls and requests, by OpenTelemetry: the one module that imports it, and only where spans are asked for.

They are made from stopwatches when all is over, and sent by a thread of the SDK's; a collector that is away or hangs
loses spans and holds up nothing. Attributes are stable codes, ids of the record, and names of the catalogue.
"""

from __future__ import annotations

import logging
import math
import time
from typing import TYPE_CHECKING

import structlog
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, SERVICE_VERSION, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExportResult
from opentelemetry.trace import SpanKind, Status, StatusCode, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from percall import __version__
from percall_broker.model.errors import BrokerError
from percall_broker.telemetry.steps import Steps

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from opentelemetry.sdk.trace import ReadableSpan
    from opentelemetry.trace import Span, Tracer

EXPORT_SECONDS = 3.0
"""How long the collector may take for one batch: the end of the broker waits for the last one."""
_PATH = "/v1/traces"
_SERVER_ERROR = 500
_NANOSECONDS = 1_000_000_000
_CONTEXT = TraceContextTextMapPropagator()

log = structlog.get_logger()


class Spans:
    """Stopwatches whose steps become spans, sent to an OTLP collector (HTTP, protobuf) at a URL.

    Everything else is as OpenTelemetry's own variables say: `OTEL_TRACES_SAMPLER`, `OTEL_EXPORTER_OTLP_HEADERS` …
    """

    def __init__(self, endpoint: str) -> None:
        # It would write lines of its own among ours; what they say, `_Exporter` says.
        logging.getLogger("opentelemetry").addHandler(logging.NullHandler())
        logging.getLogger("opentelemetry").propagate = False
        resource = Resource.create({SERVICE_NAME: "percall-broker", SERVICE_VERSION: __version__})
        self._provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        url = endpoint.rstrip("/").removesuffix(_PATH) + _PATH
        self._exporter = _Exporter(endpoint=url, timeout=EXPORT_SECONDS)
        self._provider.add_span_processor(BatchSpanProcessor(self._exporter))
        self._tracer = self._provider.get_tracer("percall_broker", __version__)

    def begin(self, name: str, parent: str | None) -> Steps:
        """A stopwatch whose block becomes a span."""
        return _TracedSteps(self._tracer, name, parent)

    def close(self) -> None:
        """Sends what is left, as far as the collector takes it soon: nobody waits for the end of a broker."""
        self._exporter.ends_at = time.monotonic() + EXPORT_SECONDS
        self._provider.shutdown()


class _TracedSteps(Steps):
    __slots__ = ("_span", "_tracer", "traceparent")

    def __init__(self, tracer: Tracer, name: str, parent: str | None) -> None:
        super().__init__()
        self._tracer = tracer
        # One that is malformed is as none.
        outside = _CONTEXT.extract({"traceparent": parent}) if parent else None
        self._span: Span = tracer.start_span(name, outside, SpanKind.SERVER, start_time=self.began_ns)
        carrier: dict[str, str] = {}
        _CONTEXT.inject(carrier, set_span_in_context(self._span))
        self.traceparent = carrier.get("traceparent")

    def note(self, attributes: Mapping[str, str]) -> None:
        self._span.set_attributes(dict(attributes))

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, BrokerError):
            self._span.set_attribute("percall.reason", error.code)
        if error is not None and getattr(error, "status", _SERVER_ERROR) >= _SERVER_ERROR:  # a refusal is no failure
            self._span.set_status(Status(StatusCode.ERROR))
        if self._span.is_recording():  # else the sampler left it out
            self._make_steps()
        self._span.end()

    def _make_steps(self) -> None:
        within = set_span_in_context(self._span)
        begins = self.began_ns
        for step, end in self.ends:
            ends = self.began_ns + int((end - self.began) * _NANOSECONDS)
            self._tracer.start_span(step, within, start_time=begins).end(ends)
            begins = ends


class _Exporter(OTLPSpanExporter):
    """Says in the broker's own log when spans are lost, once for as long as it lasts."""

    _failing = False
    ends_at = math.inf

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        is_over = time.monotonic() >= self.ends_at
        result = SpanExportResult.FAILURE if is_over else super().export(spans)
        failed = result is not SpanExportResult.SUCCESS
        if failed != self._failing:
            self._failing = failed
            if failed:
                log.warning("spans not sent", spans=len(spans), collector=self._endpoint)
            else:
                log.info("spans are sent again")
        return result
