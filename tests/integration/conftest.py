"""A served broker over signed requests alone: no shim, no command line but `init` and `serve`."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import sqlite3
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Self

import psycopg
import pytest

from harness import database
from harness.processes import Line, automation_invite, command, first_broker, keyed_entry, serving
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
    server: str = ""
    """The PostgreSQL server where its database will be; empty for the embedded store."""
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
        if self.settings or self.extra:  # which hold from its first command on
            self._install()
        else:
            self._copy()
        return self

    def _install(self) -> None:
        self.database = database.new(self.server) if self.server else ""
        more = ("--database", self.database) if self.server else ()
        command("percall-broker", "init", *more, environment=self.environment)
        self.start()
        try:
            self.administrator = SigningLaptop.enrolled(self.url, automation_invite(self.environment))
        except BaseException:
            self.stop(signal.SIGKILL)
            raise

    def _copy(self) -> None:
        installed = first_broker(self.server)
        shutil.copytree(installed.folder / "broker", self.folder / "broker")
        if self.server:
            self.database = database.new(self.server, like=installed.database)
            file = self.folder / "broker" / "settings.toml"
            file.write_text(file.read_text().replace(installed.database, self.database))
        self.start()
        self.administrator = SigningLaptop(self.url, installed.automation.key, installed.automation.token)

    def start(self) -> None:
        """A restart keeps the port, and so the public URL."""
        listen = self.url.removeprefix("http://") or "127.0.0.1:0"
        self.process = serving(listen, environment=self.environment)
        self.stdout, self.stderr = Line(self.process.stdout), Line(self.process.stderr)
        self.url = self.stdout.until(b"listening on ").decode().split("listening on ", 1)[1].strip()

    def stop(self, how: signal.Signals = signal.SIGTERM) -> int:
        self.process.send_signal(how)
        code = self.process.wait(20)
        self.stdout.join(5)
        self.stderr.join(5)
        return code

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

    @cached_property
    def person(self) -> SigningLaptop:
        """An administrator who is a person, and there."""
        return SigningLaptop.of_person(self.url, self.local_invite("warden"))

    def lift(self, kind: str = "all", name: str = "") -> None:
        """Lifts a freeze; that of everything as a person, since no automation does."""
        administrator = self.person if kind == "all" else self.administrator
        administrator.administer("POST", "/v1/admin/freezes/lift", {"kind": kind, "name": name})

    def past_the_broker(self, statement: str) -> None:
        """Changes its records, and has it look: as if time had passed, for which no test waits."""
        self._execute(statement, "UPDATE epoch SET value = value + 1")

    def unheard(self, statement: str) -> None:
        """Changes its records as another replica does of which it has not heard yet."""
        self._execute(statement)

    @contextlib.contextmanager
    def meanwhile(self, statement: str, on: str = "UPDATE ON epoch") -> Iterator[None]:
        """Has that happen in each change's own transaction, before the rest of it: after all that was decided on.

        `on` is what in the transaction it comes after.
        """
        made: tuple[str, ...]
        gone: tuple[str, ...]
        if self.database:
            body = f"RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {statement}; RETURN NULL; END $$"
            made = (f"CREATE FUNCTION meanwhile() {body}", "{} FOR EACH STATEMENT EXECUTE FUNCTION meanwhile()")
            gone = (f"DROP TRIGGER meanwhile {on[on.index('ON') :]}", "DROP FUNCTION meanwhile")
        else:
            made, gone = (f"{{}} BEGIN {statement}; END",), ("DROP TRIGGER meanwhile",)
        self._execute(*(one.format(f"CREATE TRIGGER meanwhile AFTER {on}") for one in made))
        try:
            yield
        finally:
            self._execute(*gone)

    def recorded(self, query: str) -> list[Any]:
        """What is in its records, where no door tells."""
        with self._records() as connection:
            return [row[0] for row in connection.execute(query)]

    def _execute(self, *statements: str) -> None:
        with self._records() as connection:
            for one in statements:
                connection.execute(one)

    @contextlib.contextmanager
    def _records(self) -> Iterator[Any]:
        connection: Any = (
            psycopg.connect(self.database)
            if self.database
            else sqlite3.connect(self.folder / "broker" / "store.sqlite3")
        )
        with contextlib.closing(connection), connection:
            yield connection

    def change(self, grant: str, verb: str) -> None:
        self.administrator.administer("POST", f"/v1/admin/grants/{grant}/{verb}")


@pytest.fixture(scope="module")
def upstream() -> Iterator[Upstream]:
    with Upstream(CANARY) as running:
        yield running


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def server(request: pytest.FixtureRequest) -> str:
    """Where the broker keeps its records: empty for the embedded store."""
    return str(request.getfixturevalue("postgresql")) if request.param == "postgresql" else ""


@pytest.fixture(scope="module")
def served(server: str, upstream: Upstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with Served(tmp_path_factory.mktemp("served"), server) as running:
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
