"""Starting the real commands, and waiting for what they say."""

from __future__ import annotations

import atexit
import contextlib
import functools
import json
import os
import queue
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import urlencode

import psutil

from harness.forking import Forked, can_run, forking
from harness.signing import SigningLaptop
from percall.identity import kernel_keyring
from percall_broker.cli.times import end_of
from percall_broker.model.records import AREAS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from types import TracebackType

COMMANDS = Path(sys.executable).parent
SERVERS = Path(__file__).parent.parent / "servers"
PATIENCE_SECONDS = 30.0
ALL_AREAS = ",".join(AREAS)


class Line(threading.Thread):
    """Reads a pipe line by line into a queue, so that a test can wait for one without sleeping."""

    def __init__(self, pipe: Any) -> None:
        super().__init__(daemon=True)
        self._pipe = pipe
        self.lines: queue.Queue[bytes | None] = queue.Queue()
        self.text: list[bytes] = []
        self.start()

    def run(self) -> None:
        for line in self._pipe:
            self.text.append(line)
            self.lines.put(line)
        self.lines.put(None)
        self._pipe.close()

    def next(self, patience: float = PATIENCE_SECONDS) -> bytes | None:
        return self.lines.get(timeout=patience)

    def until(self, wanted: bytes, patience: float = PATIENCE_SECONDS) -> bytes:
        end = time.monotonic() + patience
        while True:
            line = self.lines.get(timeout=max(0.001, end - time.monotonic()))
            if line is None:
                raise AssertionError(f"ended before {wanted!r} came: {b''.join(self.text)!r}")
            if wanted in line:
                return line


def is_alive(process: psutil.Process) -> bool:
    """A process that nobody has waited for yet is none any more."""
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])


def wait_for(condition: Callable[[], bool], what: str, patience: float = PATIENCE_SECONDS) -> None:
    """Asks again until it holds: for states of other processes that send no event."""
    end = time.monotonic() + patience
    pause = threading.Event()
    while not condition():
        assert time.monotonic() < end, f"not within {patience} s: {what}"
        pause.wait(0.02)


@dataclass
class Client:
    """A raw MCP client over a command's stdio: every byte of a frame is the test's own."""

    command: list[str]
    environment: Mapping[str, str]
    frames: list[dict[str, Any]] = field(default_factory=list)

    def __enter__(self) -> Self:
        self.process = subprocess.Popen(
            self.command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=dict(self.environment),
            start_new_session=True,
        )
        self.stdout = Line(self.process.stdout)
        self.stderr = Line(self.process.stderr)
        self._next_id = 0
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> int:
        if self.process.stdin and not self.process.stdin.closed:
            with contextlib.suppress(BrokenPipeError):
                self.process.stdin.close()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
        self.stdout.join(5)
        self.stderr.join(5)
        return self.process.returncode

    def send_bytes(self, frame: bytes) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(frame + b"\n")
        self.process.stdin.flush()

    def send(self, method: str, params: Any = None, *, era: str = "") -> int:
        self._next_id += 1
        message: dict[str, Any] = {"jsonrpc": "2.0", "id": self._next_id, "method": method}
        if params is not None:
            message["params"] = params
        if era:
            meta = {
                "io.modelcontextprotocol/protocolVersion": era,
                "io.modelcontextprotocol/clientCapabilities": {},
                "io.modelcontextprotocol/clientInfo": {"name": "test", "version": "1"},
            }
            message.setdefault("params", {})["_meta"] = meta
        self.send_bytes(json.dumps(message).encode())
        return self._next_id

    def notify(self, method: str, params: Any = None) -> None:
        message: dict[str, Any] = {"jsonrpc": "2.0", "method": method}
        if params is not None:
            message["params"] = params
        self.send_bytes(json.dumps(message).encode())

    def receive(self, identifier: object, patience: float = PATIENCE_SECONDS) -> dict[str, Any]:
        for frame in self.frames:
            if frame.get("id") == identifier and "method" not in frame:
                self.frames.remove(frame)
                return frame
        end = time.monotonic() + patience
        while True:
            line = self.stdout.next(max(0.001, end - time.monotonic()))
            if line is None:
                raise AssertionError(f"stdout ended; stderr said: {b''.join(self.stderr.text).decode()}")
            frame = json.loads(line)
            if frame.get("id") == identifier and "method" not in frame:
                return dict(frame)
            self.frames.append(frame)

    def request(self, method: str, params: Any = None, *, era: str = "") -> dict[str, Any]:
        return self.receive(self.send(method, params, era=era))

    def initialize(self, version: str = "2025-06-18") -> dict[str, Any]:
        answer = self.request(
            "initialize",
            {"protocolVersion": version, "capabilities": {}, "clientInfo": {"name": "test", "version": "1"}},
        )
        self.notify("notifications/initialized")
        return answer

    def call(self, tool: str, arguments: Any = None) -> dict[str, Any]:
        """The result of a tools/call."""
        answer = self.request("tools/call", {"name": tool, "arguments": arguments or {}})
        assert "result" in answer, answer
        return dict(answer["result"])

    def call_text(self, tool: str, arguments: Any = None) -> str:
        return str(self.call(tool, arguments)["content"][0]["text"])


@dataclass
class Laptop:
    """One person's side: a PERCALL_HOME of its own, and the keyring file under a passphrase."""

    home: Path
    extra: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.home.mkdir(parents=True, exist_ok=True)
        passphrase = self.home / "passphrase"
        if not passphrase.exists():
            passphrase.touch(0o600)
            passphrase.write_text("a passphrase for the tests\n")

    @property
    def environment(self) -> dict[str, str]:
        return {
            "PATH": f"{COMMANDS}:/usr/local/bin:/usr/bin:/bin:{os.environ.get('PATH', '')}",
            "HOME": str(self.home),
            "LANG": "C.UTF-8",
            "PERCALL_HOME": str(self.home / "percall"),
            "PERCALL_PASSPHRASE_FILE": str(self.home / "passphrase"),
            **self.extra,
        }

    def run(self, *arguments: str, stdin: str = "", check: bool = True) -> subprocess.CompletedProcess[str]:
        return command("percall", *arguments, environment=self.environment, stdin=stdin, check=check)

    def administer(self, *arguments: str, stdin: str = "", check: bool = True) -> subprocess.CompletedProcess[str]:
        return command("percall-broker", *arguments, environment=self.environment, stdin=stdin, check=check)

    def login(self, url: str, invite: str, *more: str) -> subprocess.CompletedProcess[str]:
        return self.run("login", url, "--invite", invite, "--keyring", "file", *more)

    def client(self, server: str, *more: str) -> Client:
        return Client([str(COMMANDS / "percall"), "run", server, *more], self.environment)


def automation_invite(environment: Mapping[str, str], *, may: str = ALL_AREAS) -> str:
    """An automation's invite, made on the broker's machine."""
    done = command("percall-broker", "invite", "admin", "--automation", "--may", may, "--json", environment=environment)
    return str(json.loads(done.stdout)["invite"])


def command(
    name: str, *arguments: str, environment: Mapping[str, str], stdin: str = "", check: bool = True
) -> subprocess.CompletedProcess[str]:
    if can_run(arguments, environment):
        done = forking().run(COMMANDS / name, arguments, environment, stdin)
    else:
        done = subprocess.run(
            [str(COMMANDS / name), *arguments],
            input=stdin,
            capture_output=True,
            text=True,
            env=dict(environment),
            timeout=60,
            check=False,
            start_new_session=True,  # without a terminal, wherever the tests are run
        )
    assert not check or done.returncode == 0, f"{name} {arguments}: {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done


def serving(listen: str, *arguments: str, environment: Mapping[str, str]) -> subprocess.Popen[bytes] | Forked:
    """A broker, from its first line on."""
    command = ["serve", "--listen", listen, *arguments]
    if can_run(command, environment):
        return forking().start(COMMANDS / "percall-broker", command, environment)
    return subprocess.Popen(
        [str(COMMANDS / "percall-broker"), *command],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=dict(environment),
    )


@dataclass
class Broker:
    """A broker of its own: folder, process, and an automation that administers, by commands and by signed requests.

    It is made on the broker's machine, as one is for a program. What only a person may do is for a test's own person.
    """

    folder: Path
    database: str = ""
    serve_arguments: tuple[str, ...] = ()
    login_arguments: tuple[str, ...] = ()
    url: str = ""
    extra: dict[str, str] = field(default_factory=dict)
    """Variables for the broker's processes, and at first for those of its laptops."""

    @property
    def environment(self) -> dict[str, str]:
        return {
            "PATH": f"{COMMANDS}:/usr/bin:/bin",
            "HOME": str(self.folder),
            "LANG": "C.UTF-8",
            "PERCALL_BROKER_HOME": str(self.folder / "broker"),
            **self.extra,
        }

    def __enter__(self) -> Self:
        installed = first_broker()
        shutil.copytree(installed.folder, self.folder, dirs_exist_ok=True)
        self.start()
        for path in (self.folder / "administrator").rglob("*.json"):
            text = path.read_text()
            path.write_text(text.replace(installed.url, self.url).replace(str(installed.folder), str(self.folder)))
        self.administrator = Laptop(self.folder / "administrator")
        self.automation: SigningLaptop = SigningLaptop(self.url, installed.automation.key, installed.automation.token)
        return self

    def install(self) -> None:
        """Makes it from nothing, by the commands, and starts it."""
        self.folder.mkdir(parents=True, exist_ok=True)
        more = ("--database", self.database) if self.database else ()
        command("percall-broker", "init", "--administrator", "root", *more, environment=self.environment)
        self.start()
        self.administrator = Laptop(self.folder / "administrator", dict(self.extra))
        self.administrator.login(self.url, automation_invite(self.environment), *self.login_arguments)

    def start(self) -> None:
        """Starts `serve`; a restart keeps the port, so that the public URL stays."""
        listen = self.url.removeprefix("http://").removeprefix("https://") or "127.0.0.1:0"
        self.process = serving(listen, *self.serve_arguments, environment=self.environment)
        self.stdout = Line(self.process.stdout)
        self.stderr = Line(self.process.stderr)
        try:
            self.url = self.stdout.until(b"listening on ").decode().split("listening on ", 1)[1].strip()
        except AssertionError as error:
            raise AssertionError(f"{error}: {b''.join(self.stderr.text).decode()}") from None

    def stop(self, how: signal.Signals = signal.SIGTERM) -> None:
        self.process.send_signal(how)
        self.process.wait(20)
        self.stdout.join(5)
        self.stderr.join(5)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.process.poll() is None:
            self.stop()

    def add_server(self, name: str, entry: str, key: str) -> None:
        self.automation.administer("POST", "/v1/admin/servers", {"name": name, "entry": entry, "secret": key})

    def invite(self, person: str, *servers: str, expires: str = "", **scope: str) -> str:
        """An invite to a new grant. `scope`: patterns by commas for `tools`, `prompts`, `resources`."""
        allowed = {kind: patterns.split(",") for kind, patterns in scope.items()}
        form = {
            "person": person,
            "servers": dict.fromkeys(servers, allowed),
            "expires_at": end_of(expires),
        }
        return str(self.automation.administer("POST", "/v1/admin/grants", form)["invite"])

    def enrol(self, person: str, *servers: str, tools: str = "get_*", expires: str = "30d") -> Laptop:
        laptop = Laptop(self.folder / f"laptop-{person}", dict(self.extra))
        laptop.login(self.url, self.invite(person, *servers, expires=expires, tools=tools), *self.login_arguments)
        return laptop

    def rows(self, *arguments: str) -> list[dict[str, Any]]:
        """What a command lists."""
        done = self.administrator.administer(*arguments, "--json")
        return [json.loads(line) for line in done.stdout.splitlines() if line.strip()]

    def log(self, **which: str) -> list[dict[str, Any]]:
        """The calls, newest first; `which` as the options of `log list`."""
        return list(self.automation.administer("GET", f"/v1/admin/calls?{urlencode(which)}"))


class UnusualBroker(Broker):
    """One with settings of its own, which hold from its first command on: made and asked by commands alone."""

    def __enter__(self) -> Self:
        self.install()
        return self

    def add_server(self, name: str, entry: str, key: str) -> None:
        path = self.folder / f"{name}.toml"
        path.write_text(entry)
        secret = ("--secret-stdin",) if key else ()
        self.administrator.administer("server", "add", name, "--from", str(path), *secret, stdin=key)

    def invite(self, person: str, *servers: str, expires: str = "", **scope: str) -> str:
        options = [*(("server", server) for server in servers), ("expires", expires), *scope.items()]
        words = [word for name, value in options if value for word in (f"--{name}", value)]
        done = self.administrator.administer("grant", "create", person, *words, "--json")
        return str(json.loads(done.stdout)["invite"])

    def log(self, **which: str) -> list[dict[str, Any]]:
        return self.rows("log", "list", *(word for name, value in which.items() for word in (f"--{name}", value)))


@functools.cache
def first_broker(database: str = "") -> Broker:
    """One that was made by the commands, and has stopped. Every usual broker begins as a copy of it, which is quick."""
    folder = Path(tempfile.mkdtemp(prefix="percall-first-broker-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    broker = Broker(folder, database)
    broker.install()
    if kernel_keyring.is_there():  # else each of its commands spends a tenth of a second on the passphrase
        broker.administrator.run("unlock", "--for", "1h")
        atexit.register(broker.administrator.run, "lock")
    broker.automation = SigningLaptop.enrolled(broker.url, automation_invite(broker.environment))
    broker.stop()
    return broker


def keyed_entry(
    api_url: str,
    *,
    attribution: str = "exact",
    script: Path = SERVERS / "keyed.py",
    launched: Sequence[str] = (),
) -> str:
    """An entry for a script such as tests/servers/keyed.py, whose API is at `api_url` on loopback.

    `launched` is the whole command where the script is not one for this Python.
    """
    return f"""
[server]
title = "A keyed test server"
delivery = "egress"
attribution = "{attribution}"
command = {json.dumps(list(launched) or [sys.executable, str(script)])}
[server.environment]
API_KEY = "{{key}}"
API_URL = "{{listener:{api_url}}}"
[key]
placeholder = "test_{{random:24}}"
[[key.slot]]
header = "Authorization"
format = "Bearer {{key}}"
[egress]
ways = ["base-url"]
hosts = ["{api_url}"]
[[tool]]
match = ["get_*"]
requests = ["GET {api_url}/**"]
[[tool]]
match = ["create_*"]
requests = ["POST {api_url}/items"]
"""
