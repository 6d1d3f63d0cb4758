"""A remote server: straight over HTTP, by `percall run` and the broker, by mcp-proxy, by mcp-remote; in one run.

The device key is in a sealed file, in one that was unlocked (where the kernel has keyrings), and in the system's
keyring (under tests/with_keyring.sh).
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

from driver import SMALL, Candidate, Direct, Session, median, percentile

sys.path.insert(0, str(Path(__file__).parent.parent))
import streaming
from candidates import installed

from harness import npm
from harness.processes import COMMANDS, Broker, Laptop
from harness.signing import SigningLaptop
from harness.terminal import at_a_terminal
from percall.identity import kernel_keyring

HERE = Path(__file__).resolve().parent
PLAIN = {"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/"), "LANG": "C.UTF-8"}
KEY = "the-key-of-the-bench"
MCP_REMOTE = "mcp-remote@0.15.1"


def mcp_remote(url: str) -> Candidate:
    """npm's, installed once under .cache."""
    program = npm.packages([MCP_REMOTE], "mcp-remote") / ".bin" / "mcp-remote"
    return Candidate("mcp-remote", [npm.NODE, str(program), url, "--allow-http", "--transport", "http-only"], PLAIN)


def main() -> None:
    """Measures, and prints the machine with the figures."""
    options = argparse.ArgumentParser()
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--calls", type=int, default=300)
    options.add_argument("--starts", type=int, default=3)
    options.add_argument("--streams", action=argparse.BooleanOptionalAction, default=True)
    given = options.parse_args()
    print(f"{platform.platform()}, {os.cpu_count()} cores, Python {platform.python_version()}: a remote server")
    with tempfile.TemporaryDirectory(prefix="percall-bench-") as name, ExitStack() as stack:
        server = subprocess.Popen([sys.executable, str(HERE / "echo_http.py")], stdout=subprocess.PIPE, text=True)
        stack.callback(server.wait)
        stack.callback(server.terminate)
        assert server.stdout is not None
        url = server.stdout.readline().strip()
        broker = stack.enter_context(Broker(Path(name)))
        entry = f'[server]\ntitle = "Echo"\ndelivery = "relay"\nurl = "{url}"\n[[key.slot]]\nheader = "X-Api-Key"\n'
        broker.add_server("echo", entry, KEY)
        laptops = {"sealed file": broker.enrol("bench", "echo", tools="*")}
        if kernel_keyring.is_there():
            laptops["unlocked file"] = unlocked(broker)
        if os.environ.get("PERCALL_TEST_KEYRING"):
            laptops["keyring"] = with_keyring(broker, Path(name))
        proxy = str(installed("mcp-proxy") / "mcp-proxy")
        candidates: dict[str, Candidate | None] = {
            "direct": None,
            **{
                f"percall, {kept}": Candidate(kept, [str(COMMANDS / "percall"), "run", "echo"], laptop.environment)
                for kept, laptop in laptops.items()
            },
            "mcp-proxy": Candidate("mcp-proxy", [proxy, "--transport", "streamablehttp", url], PLAIN),
        }
        candidates["mcp-remote"] = mcp_remote(url)
        initialize: dict[str, list[float]] = {name: [] for name in candidates}
        small: dict[str, list[float]] = {name: [] for name in candidates}
        for _ in range(given.rounds):
            for which, candidate in candidates.items():
                for start in range(given.starts):
                    session = Session(candidate) if candidate else Direct(url)
                    initialize[which].append(session.initialize())
                    if start == 0:
                        for _ in range(30):
                            session.call(SMALL)
                        small[which] += [session.call(SMALL) for _ in range(given.calls)]
                    session.close()
        print_table(initialize, small)
        if given.streams:
            streaming.measure(
                broker, lambda server: SigningLaptop.enrolled(broker.url, invite(broker, f"uses-{server}", server))
            )


def invite(broker: Broker, person: str, server: str) -> str:
    """An invite of a new person's to a grant for all of a server's tools."""
    made = broker.administrator.administer("grant", "create", person, "--server", server, "--tools", "*", "--json")
    return str(json.loads(made.stdout)["invite"])


def unlocked(broker: Broker) -> Laptop:
    """A laptop whose keyring file a person has unlocked."""
    laptop = broker.enrol("unlocked", "echo", tools="*")
    passphrase = Path(laptop.environment["PERCALL_PASSPHRASE_FILE"]).read_text().strip()
    said, code = at_a_terminal("percall", ["unlock", "--for", "1h"], laptop.environment, [passphrase])
    assert code == 0, said
    return laptop


def with_keyring(broker: Broker, folder: Path) -> Laptop:
    """A laptop whose device key is in the system's keyring."""
    bus = {name: os.environ[name] for name in ("DBUS_SESSION_BUS_ADDRESS",) if name in os.environ}
    laptop = Laptop(folder / "laptop-keyring", bus)
    laptop.run("login", broker.url, "--invite", invite(broker, "keyring", "echo"))
    return laptop


def print_table(initialize: dict[str, list[float]], small: dict[str, list[float]]) -> None:
    """Milliseconds; `+` is what comes on top of direct."""
    print(f"{'candidate':>24}{'init':>10}{'+init':>10}{'p50':>10}{'+p50':>10}{'p99':>10}{'+p99':>10}")
    for which, starts in initialize.items():
        row = [median(starts), median(starts) - median(initialize["direct"])]
        for share in (0.5, 0.99):
            row += [
                percentile(small[which], share),
                percentile(small[which], share) - percentile(small["direct"], share),
            ]
        print(f"{which:>24}" + "".join(f"{value:10.2f}" for value in row))


if __name__ == "__main__":
    main()
