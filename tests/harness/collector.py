"""An OpenTelemetry collector on loopback: takes spans by OTLP over HTTP, in protobuf, as a real one does."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import TYPE_CHECKING

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from harness.loopback import Listening, Quiet
from harness.processes import PATIENCE_SECONDS

if TYPE_CHECKING:
    from collections.abc import Callable

    from opentelemetry.proto.trace.v1.trace_pb2 import Span


@dataclass
class Collector(Listening):
    """Remembers the spans, and the very bytes. `status` other than 200: takes none."""

    status: int = 200
    spans: list[Span] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._changed = threading.Condition()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        return type("Handler", (_Handler,), {"collector": self})

    def take(self, path: str, content_type: str, body: bytes) -> int:
        assert (path, content_type) == ("/v1/traces", "application/x-protobuf")
        with self._changed:
            self.bodies.append(body)
            if self.status == 200:
                for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
                    for scope in resource.scope_spans:
                        self.spans += scope.spans
            self._changed.notify_all()
        return self.status

    def wait(self, condition: Callable[[], bool], what: str) -> None:
        with self._changed:
            assert self._changed.wait_for(condition, PATIENCE_SECONDS), f"{what}: {[one.name for one in self.spans]}"

    def named(self, name: str, trace: str) -> Span:
        """The first span of a name in a trace that came as far as a decision: a shim's first request lacks a nonce."""

        def found() -> list[Span]:
            alike = [one for one in self.spans if one.name == name and one.trace_id.hex() == trace]
            return [one for one in alike if "percall.call" in attributes(one)]

        self.wait(lambda: bool(found()), f"no {name} in {trace}")
        return found()[0]

    def below(self, parent: Span) -> list[str]:
        """The names of a span's children, in the order that they began. Children are sent before their parent."""
        children = [one for one in self.spans if one.parent_span_id == parent.span_id]
        return [
            one.name for one in sorted(children, key=lambda one: (one.start_time_unix_nano, one.end_time_unix_nano))
        ]


def attributes(span: Span) -> dict[str, str]:
    return {one.key: one.value.string_value for one in span.attributes}


class _Handler(Quiet, BaseHTTPRequestHandler):
    collector: Collector

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(self.collector.take(self.path, self.headers["Content-Type"], body))
        self.send_header("Content-Length", "0")
        self.end_headers()
