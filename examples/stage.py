"""A broker, people and their clients for the examples: real commands, in a folder that ends with them.

As a program, it tries a client's config: `stage.py AGENT CONFIG.json …` starts each server exactly as the config says.
"""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any


def ran(environment: dict[str, str], *words: str, wanted: int = 0) -> str:
    """A command that must end as wanted, and what it printed."""
    done = subprocess.run(
        words,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
        start_new_session=True,
    )
    if done.returncode != wanted:
        sys.exit(f"{' '.join(words)} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    return done.stdout


TIME = Path(__file__).resolve().parent / "time.toml"


class Client:
    """A plain MCP client over STDIO: it starts a server's command, lists its tools and calls them."""

    def __init__(self, command: list[str], environment: dict[str, str]) -> None:
        process = subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        if process.stdin is None or process.stdout is None:
            sys.exit("a pipe is missing")
        self._process, self._in, self._out = process, process.stdin, process.stdout
        self._number = 0
        info = {"name": "example", "version": "1"}
        self.ask("initialize", {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": info})
        self._send({"jsonrpc": "2.0", "method": "notifications/initialized"})

    def _send(self, message: dict[str, Any]) -> None:
        self._in.write(json.dumps(message).encode() + b"\n")
        self._in.flush()

    def ask(self, method: str, params: dict[str, Any]) -> dict[str, Any]:
        """A request, and its result."""
        self._number += 1
        self._send({"jsonrpc": "2.0", "id": self._number, "method": method, "params": params})
        for line in self._out:
            answer = json.loads(line)
            if answer.get("id") == self._number:
                return dict(answer["result"])
        sys.exit("the server ended")

    def tools(self) -> list[str]:
        """What the grant lets this client see."""
        return [str(tool["name"]) for tool in self.ask("tools/list", {})["tools"]]

    def call(self, tool: str, arguments: dict[str, Any]) -> str:
        """What a tool says, permitted or refused."""
        return str(self.ask("tools/call", {"name": tool, "arguments": arguments})["content"][0]["text"])

    def close(self) -> None:
        """Ends the server."""
        self._process.communicate()


class Stage:
    """A broker with an automation that administers it, and people's laptops."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack
        self.folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="percall-example-")))
        passphrase = self.folder / "passphrase"
        passphrase.touch(0o600)
        passphrase.write_text(secrets.token_urlsafe(24) + "\n")
        base = {"PATH": os.environ["PATH"], "HOME": str(self.folder), "LANG": "C.UTF-8"}
        self._base = {**base, "PERCALL_PASSPHRASE_FILE": str(passphrase)}
        central = {**base, "PERCALL_BROKER_HOME": str(self.folder / "broker")}
        ran(central, "percall-broker", "init")
        serving = ["percall-broker", "serve", "--listen", "127.0.0.1:0"]
        broker = subprocess.Popen(serving, env=central, stdout=subprocess.PIPE, text=True)
        stack.callback(broker.communicate)
        stack.callback(broker.terminate)
        self.url = broker.stdout.readline().split("listening on ")[1].strip() if broker.stdout else ""
        areas = "people,grants,servers,loopback"  # a program's grant, as far as the examples need it
        made = ran(central, "percall-broker", "invite", "stage", "--automation", "--may", areas, "--json")
        self._administrator = self.login("administrator", json.loads(made)["invite"])

    def administer(self, *words: str) -> Any:
        """An administrator's command, and its JSON."""
        return json.loads(ran(self._administrator, "percall-broker", *words, "--json").splitlines()[-1])

    def login(self, name: str, invite: str, agent: str = "default") -> dict[str, str]:
        """A person's laptop, logged in: the environment of its commands."""
        laptop = {**self._base, "PERCALL_HOME": str(self.folder / name)}
        login = ["percall", "login", self.url, "--invite", invite, "--agent", agent, "--keyring", "file"]
        ran(laptop, *login)
        return laptop

    def client(self, command: list[str], laptop: dict[str, str]) -> Client:
        """A client on a laptop, that ends with the stage."""
        client = Client(command, laptop)
        self._stack.callback(client.close)
        return client


def main(agent: str, *configs: str) -> None:
    """Tries a client's configs."""
    with ExitStack() as stack:
        stage = Stage(stack)
        stage.administer("server", "add", "time", "--from", str(TIME))
        grant = stage.administer("grant", "create", "robin", "--server", "time", "--tools", "get_*", "--expires", "1d")
        laptop = stage.login("robin", grant["invite"], agent)
        for config in configs:
            for name, server in json.loads(Path(config).read_text())["mcpServers"].items():
                client = stage.client([server["command"], *server["args"]], laptop)
                print(f"{config}: {name} offers {', '.join(client.tools())}")
                print("  get_current_time:", " ".join(client.call("get_current_time", {"timezone": "UTC"}).split()))
                print(f"  convert_time: {client.call('convert_time', {})}")


if __name__ == "__main__":
    main(*sys.argv[1:])
