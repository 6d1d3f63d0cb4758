"""A served broker over signed requests alone: no shim, no command line but `init` and `serve`."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

import pytest

from harness import database
from harness.processes import COMMANDS, Line, automation_invite, command, keyed_entry
from harness.remote import Remote, entry
from harness.signing import SigningLaptop
from harness.upstream import CANARY, Upstream

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@dataclass
class Served:
    """A broker process, and its administrator."""

    folder: Path
    database: str = ""
    people: int = 0
    url: str = ""
    settings: dict[str, str] = field(default_factory=dict)
    extra: dict[str, str] = field(default_factory=dict)
    """Further variables of its processes."""
    environment: dict[str, str] = field(default_factory=dict)

    def __enter__(self) -> Self:
        self.environment = {"PATH": os.environ["PATH"], "PERCALL_BROKER_HOME": str(self.folder / "broker")}
        self.environment |= self.extra
        self.environment |= {f"PERCALL_BROKER_{name.upper()}": value for name, value in self.settings.items()}
        more = ("--database", self.database) if self.database else ()
        command("percall-broker", "init", *more, environment=self.environment)
        self.start()
        try:
            self.administrator = SigningLaptop.enrolled(self.url, automation_invite(self.environment))
        except BaseException:
            self.stop(signal.SIGKILL)
            raise
        return self

    def start(self) -> None:
        """A restart keeps the port, and so the public URL."""
        listen = self.url.removeprefix("http://") or "127.0.0.1:0"
        self.process = subprocess.Popen(
            [str(COMMANDS / "percall-broker"), "serve", "--listen", listen],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=self.environment,
        )
        self.stdout, self.stderr = Line(self.process.stdout), Line(self.process.stderr)
        self.url = self.stdout.until(b"listening on ").decode().split("listening on ", 1)[1].strip()

    def stop(self, how: signal.Signals = signal.SIGTERM) -> int:
        self.process.send_signal(how)
        self.process.wait(20)
        self.stdout.join(5)
        self.stderr.join(5)
        return self.process.returncode

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.stop(signal.SIGKILL)

    def add_server(self, name: str, entry: str, key: str = "") -> None:
        self.administrator.administer("POST", "/v1/admin/servers", {"name": name, "entry": entry, "secret": key})

    def invite(self, server: str = "keyed", *, expires_at: int = 0, **scope: list[str]) -> dict[str, Any]:
        self.people += 1
        form = {"person": f"person{self.people}", "servers": {server: scope or {"tools": ["get_*"]}}}
        made = self.administrator.administer("POST", "/v1/admin/grants", {**form, "expires_at": expires_at})
        return dict(made)

    def enrol(self, server: str = "keyed", *, expires_at: int = 0, **scope: list[str]) -> tuple[SigningLaptop, str]:
        """A laptop of a new person, and its grant's id."""
        made = self.invite(server, expires_at=expires_at, **scope)
        return SigningLaptop.enrolled(self.url, made["invite"]), made["grant"]

    def local_invite(self, name: str) -> str:
        """An administrator's invite, made on the broker's machine."""
        done = command("percall-broker", "invite", name, "--json", environment=self.environment)
        return str(json.loads(done.stdout)["invite"])

    def change(self, grant: str, verb: str) -> None:
        self.administrator.administer("POST", f"/v1/admin/grants/{grant}/{verb}")


@pytest.fixture(scope="module")
def upstream() -> Iterator[Upstream]:
    with Upstream(CANARY) as running:
        yield running


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def location(request: pytest.FixtureRequest) -> Iterator[str]:
    """Where the broker keeps its records: empty for the embedded store."""
    with database.postgresql() if request.param == "postgresql" else contextlib.nullcontext("") as url:
        yield url


@pytest.fixture(scope="module")
def served(location: str, upstream: Upstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with Served(tmp_path_factory.mktemp("served"), location) as running:
        running.add_server("keyed", keyed_entry(upstream.url), CANARY)
        running.add_server("shared", keyed_entry(upstream.url, attribution="shared"), CANARY)
        yield running


@pytest.fixture(scope="module")
def shared_remote() -> Iterator[Remote]:
    with Remote() as running:
        yield running


@pytest.fixture(scope="module")
def relayed(served: Served, shared_remote: Remote) -> Served:
    served.add_server("remote", entry(shared_remote.url), CANARY)
    served.add_server("hasty", entry(shared_remote.url, more="deadline_seconds = 1"), CANARY)
    return served


@pytest.fixture
def remote(shared_remote: Remote) -> Remote:
    shared_remote.behaviours.clear()
    shared_remote.seen.clear()
    shared_remote.gone.clear()
    shared_remote.released.clear()
    shared_remote.anyone = False
    return shared_remote
