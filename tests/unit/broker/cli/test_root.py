"""The command tree."""

from __future__ import annotations

import subprocess
import sys

_ENGINE = ("cedarpy", "fastapi", "percall_broker.pipeline", "percall_broker.stages", "structlog", "uvicorn")


_ONLY_WHERE_CONFIGURED = ("authlib", "botocore", "httpx", "joserfc", "opentelemetry.sdk", "psycopg")


def loaded_with(*modules: str) -> set[str]:
    looking = f"import sys, {', '.join(modules)}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", looking], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_a_command_that_only_asks_a_broker_loads_none_of_the_brokers_engine() -> None:
    loaded = loaded_with("percall_broker.cli.root")
    assert "percall_broker.cli.pin" in loaded
    assert loaded.isdisjoint(_ENGINE)


def test_a_plain_broker_loads_no_library_of_what_it_is_not_configured_for() -> None:
    loaded = loaded_with("percall_broker.cli.root", "percall_broker.app")
    assert loaded.issuperset(_ENGINE)
    assert loaded.isdisjoint(_ONLY_WHERE_CONFIGURED)
