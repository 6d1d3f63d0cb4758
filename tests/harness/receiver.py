"""An endpoint for webhooks on loopback, which verifies what it gets with the standard's own library."""

from __future__ import annotations

import json
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import TYPE_CHECKING, Any

from standardwebhooks.webhooks import Webhook

from harness.loopback import Listening, Quiet
from harness.processes import PATIENCE_SECONDS

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass
class Receiver(Listening):
    """Answers with `status` while `key` is the endpoint's; remembers what it accepted, in order of arrival.

    While `hang` is set, it reads a request and never answers. What holds `refuses` is answered with 400.
    """

    key: str = ""
    status: int = 204
    hang: bool = False
    refuses: str = ""
    ids: list[str] = field(default_factory=list)
    events: list[dict[str, Any]] = field(default_factory=list)
    attempts: int = 0

    def __post_init__(self) -> None:
        self._changed = threading.Condition()
        self._over = threading.Event()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        return type("Handler", (_Handler,), {"receiver": self})

    def _ending(self) -> None:
        self._over.set()

    @property
    def url(self) -> str:
        return f"{super().url}/hook/a-secret-path"

    def take(self, headers: dict[str, str], body: bytes) -> int:
        """One request; the status of its answer, 0 for none."""
        with self._changed:
            self.attempts += 1
            self._changed.notify_all()
        if self.hang:
            self._over.wait(PATIENCE_SECONDS)
            return 0
        Webhook(self.key).verify(body, headers)
        if self.refuses and self.refuses.encode() in body:
            return 400
        if self.status >= 300:
            return self.status
        with self._changed:
            self.ids.append(headers["webhook-id"])
            self.events.append(json.loads(body))
            self._changed.notify_all()
        return self.status

    def wait(self, condition: Callable[[], bool], what: str) -> None:
        with self._changed:
            assert self._changed.wait_for(condition, PATIENCE_SECONDS), f"{what}: {self.events}"

    def next(self, kind: str, **data: Any) -> dict[str, Any]:
        """The first event of a kind whose data holds these members."""

        def found() -> dict[str, Any] | None:
            for event in self.events:
                if event["type"] == kind and data.items() <= event["data"].items():
                    return event
            return None

        self.wait(lambda: found() is not None, f"no {kind} {data}")
        event = found()
        assert event is not None
        return event


class _Handler(Quiet, BaseHTTPRequestHandler):
    receiver: Receiver

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        status = self.receiver.take({name.lower(): value for name, value in self.headers.items()}, body)
        if not status:
            self.close_connection = True
            return
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.end_headers()
