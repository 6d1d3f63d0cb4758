"""The command tree."""

from __future__ import annotations

import subprocess
import sys

_ENGINE = ("cedarpy", "fastapi", "percall_broker.pipeline", "percall_broker.stages", "structlog", "uvicorn")


def test_a_command_that_only_asks_a_broker_loads_none_of_the_brokers_engine() -> None:
    looking = "import sys, percall_broker.cli.root; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", looking], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert "percall_broker.cli.pin" in loaded
    assert loaded.isdisjoint(_ENGINE)
