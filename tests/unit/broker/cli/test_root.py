"""The command tree."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from percall.errors import UsageError
from percall_broker import cli

if TYPE_CHECKING:
    from pathlib import Path

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


@pytest.mark.parametrize(
    ("words", "code"),
    [
        ("serve --listen 8711", "serve.listen"),
        ("serve --tls-cert /nope --tls-key /nope", "serve.tls"),
        ("serve --public-url http://x.example", "settings.form"),
        ("server add x --recipe githb", "recipe.unknown"),
        ("server add x --recipe atlassian", "recipe.parameter"),
        ("policy check /nope", "policy.folder"),
        ("init", "init.exists"),
    ],
)
def test_a_mistake_on_the_command_line_ends_as_one_also_where_the_broker_finds_it(
    words: str, code: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "keys").mkdir()
    monkeypatch.setenv("PERCALL_BROKER_HOME", str(tmp_path))
    monkeypatch.setattr(sys, "argv", ["percall-broker", *words.split()])
    with pytest.raises(UsageError) as refused:
        cli.main()
    assert (refused.value.code, refused.value.exit_code) == (code, 2)
