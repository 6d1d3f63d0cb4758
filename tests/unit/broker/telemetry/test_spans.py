"""Spans on their way to a collector: the end of a broker waits for none that takes nothing."""

from __future__ import annotations

import contextlib
import socket
import threading
from typing import TYPE_CHECKING

from percall_broker.telemetry.spans import Spans

if TYPE_CHECKING:
    import pytest


def test_a_collector_that_hangs_is_not_sent_batch_after_batch_at_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "3600000")
    monkeypatch.setenv("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "10")
    monkeypatch.setattr("percall_broker.telemetry.spans.EXPORT_SECONDS", 0.2)
    taken: list[socket.socket] = []
    with socket.create_server(("127.0.0.1", 0)) as collector:

        def take() -> None:
            with contextlib.suppress(OSError):
                while True:
                    taken.append(collector.accept()[0])

        taking = threading.Thread(target=take)
        taking.start()
        spans = Spans(f"http://127.0.0.1:{collector.getsockname()[1]}")
        for _ in range(209):
            with spans.begin("call", None):
                pass
        spans.close()
        collector.shutdown(socket.SHUT_RDWR)
        taking.join()
    for connection in taken:
        connection.close()
    assert 0 < len(taken) < 10, "of more than twenty batches"
