"""`make bench`: no wrapper, Percall, mcp-proxy and aegis-sandbox side by side in one run; ratios, not absolutes."""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import threading
import venv
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import trustme
from driver import Candidate, Measured, Session, measure, median, percentile

sys.path.insert(0, str(Path(__file__).parent.parent))
from harness.processes import Broker, Laptop, keyed_entry

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
PLAIN = {"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/"), "LANG": "C.UTF-8"}
ECHO = [sys.executable, str(HERE / "echo_stdio.py")]
KEY = "the-key-of-the-bench"
DOWNLOAD_BYTES = 100_000_000


def installed(package: str) -> Path:
    """A competitor's commands, in an environment of its own, from a lock of hashes."""
    folder, lock = ROOT / ".cache" / package, ROOT / "requirements" / f"{package}.txt"
    ready = folder / ".ready"
    if not ready.exists() or ready.read_text() != lock.read_text():
        venv.create(folder, with_pip=True, clear=True)
        pip = [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, "--require-hashes", "--no-deps", "-r", str(lock)], check=True)
        ready.write_text(lock.read_text())
    return folder / "bin"


def echo_entry(command: list[str], ways: str = "") -> str:
    delivery = "egress" if ways else "none"
    egress = f"""
[server.environment]
API_KEY = "{{key}}"
[key]
placeholder = "test_{{random:24}}"
[[key.slot]]
header = "Authorization"
format = "Bearer {{key}}"
[egress]
ways = ["{ways}"]
hosts = ["api.example.com"]
"""
    return f"""
[server]
title = "Echo"
delivery = "{delivery}"
attribution = "shared"
command = {json.dumps(command)}
{egress if ways else ""}"""


class Api(BaseHTTPRequestHandler):
    """A small answer on /small and 100 MB on /large."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    chunk = b"x" * 1_000_000

    def log_message(self, *_: object) -> None:
        """Nothing to say."""

    def do_GET(self) -> None:
        size = DOWNLOAD_BYTES if self.path == "/large" else 20
        self.send_response(200)
        self.send_header("Content-Length", str(size))
        self.end_headers()
        while size:
            self.wfile.write(self.chunk[:size])
            size -= min(size, len(self.chunk))


def aegis(folder: Path) -> Candidate:
    home = folder / "aegis"
    policy = home / ".config" / "aegis" / "policy.json"
    policy.parent.mkdir(parents=True)
    (home / "work").mkdir()
    rules = {"version": 1, "workspace_roots": [str(home / "work")], "deny_paths": [], "allowed_domains": []}
    policy.write_text(json.dumps({**rules, "sandbox_domains": [], "tool_rules": {"echo": {"effect": "allow"}}}))
    policy.chmod(0o600)
    command = [str(installed("aegis-sandbox") / "aegis"), "proxy", "--", *ECHO]
    return Candidate("aegis-sandbox", command, {**PLAIN, "HOME": str(home)})


def mcp_proxy(stack: ExitStack) -> Candidate:
    process = subprocess.Popen([sys.executable, str(HERE / "echo_http.py")], stdout=subprocess.PIPE, text=True)
    stack.callback(process.wait)
    stack.callback(process.terminate)
    assert process.stdout is not None
    url = process.stdout.readline().strip()
    command = [str(installed("mcp-proxy") / "mcp-proxy"), "--transport", "streamablehttp", url]
    return Candidate("mcp-proxy", command, PLAIN)


def percall(laptop: Laptop, server: str, name: str) -> Candidate:
    return Candidate(name, [str(Path(sys.executable).parent / "percall"), "run", server], laptop.environment)


def table(results: dict[str, Measured]) -> None:
    base = results["no wrapper"]
    heads = "candidate init +init p50 +p50 p99 +p99 100K +100K struct +struct 16x/s MB"
    print("".join(f"{head:>16}" if i == 0 else f"{head:>9}" for i, head in enumerate(heads.split())))
    for name, m in results.items():
        if not m.small:
            print(f"{name:>16}{median(m.initialize):9.1f}{median(m.initialize) - median(base.initialize):9.1f}")
            continue
        row = [
            median(m.initialize),
            median(m.initialize) - median(base.initialize),
            percentile(m.small, 0.5),
            percentile(m.small, 0.5) - percentile(base.small, 0.5),
            percentile(m.small, 0.99),
            percentile(m.small, 0.99) - percentile(base.small, 0.99),
            percentile(m.big, 0.5),
            percentile(m.big, 0.5) - percentile(base.big, 0.5),
            percentile(m.structured, 0.5),
            percentile(m.structured, 0.5) - percentile(base.structured, 0.5),
            median(m.in_flight),
            median(m.memory),
        ]
        print(f"{name:>16}" + "".join(f"{value:9.2f}" for value in row))


def egress(candidate: Candidate, direct: Candidate) -> None:
    """One API request through listener, broker and back, and a large download, beside the same child going direct."""
    figures = {}
    for name, which in (("direct", direct), ("egress", candidate)):
        session = Session(which)
        session.initialize()
        for _ in range(20):
            session.call("/small", "get_path")
        small = [session.call("/small", "get_path") for _ in range(300)]
        large = [session.call("/large", "get_path") for _ in range(3)]
        figures[name] = (percentile(small, 0.5), percentile(small, 0.99), DOWNLOAD_BYTES / 1e3 / median(large))
        session.close()
    print(f"\none API request in a call, p50 and p99 ms: {figures}")
    print(f"100 MB download, egress/direct rate: {figures['egress'][2] / figures['direct'][2]:.2f}")


def main() -> None:
    """Measures, and prints the machine with the figures."""
    options = argparse.ArgumentParser()
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--calls", type=int, default=300)
    options.add_argument("--starts", type=int, default=5)
    given = options.parse_args()
    print(f"{platform.platform()}, {os.cpu_count()} cores, Python {platform.python_version()}")
    with tempfile.TemporaryDirectory(prefix="percall-bench-") as name, ExitStack() as stack:
        folder = Path(name)
        authority = trustme.CA()
        certificate = authority.issue_cert("127.0.0.1")
        authority.cert_pem.write_to_path(str(folder / "ca.pem"))
        certificate.private_key_pem.write_to_path(str(folder / "key.pem"))
        certificate.cert_chain_pems[0].write_to_path(str(folder / "cert.pem"))
        api = ThreadingHTTPServer(("127.0.0.1", 0), Api)
        threading.Thread(target=api.serve_forever, daemon=True).start()
        stack.callback(api.shutdown)
        url = f"http://127.0.0.1:{api.server_address[1]}"

        broker = stack.enter_context(Broker(folder / "http"))
        for server, entry, key in (
            ("echo", echo_entry(ECHO), ""),
            ("echo-proxy", echo_entry(ECHO, "proxy"), KEY),
            ("fetch", keyed_entry(url, script=HERE / "fetching.py"), KEY),
        ):
            broker.add_server(server, entry, key)
        tls_arguments = ("--tls-cert", str(folder / "cert.pem"), "--tls-key", str(folder / "key.pem"))
        over_tls = stack.enter_context(
            Broker(folder / "tls", serve_arguments=tls_arguments, login_arguments=("--ca-file", str(folder / "ca.pem")))
        )
        over_tls.add_server("echo", echo_entry(ECHO), "")
        laptops = {
            server: broker.enrol(f"bench-{server}", server, tools="*") for server in ("echo", "echo-proxy", "fetch")
        }
        gone = Broker(folder / "gone")
        with gone:
            gone.add_server("echo", echo_entry(ECHO), "")
            unreachable = gone.enrol("bench", "echo", tools="*")
        candidates = [
            Candidate("no wrapper", ECHO, PLAIN),
            percall(laptops["echo"], "echo", "percall"),
            percall(over_tls.enrol("bench", "echo", tools="*"), "echo", "percall, TLS"),
            mcp_proxy(stack),
            aegis(folder),
        ]
        results = {candidate.name: Measured() for candidate in candidates}
        for number in range(given.rounds):
            turn = number % len(candidates)
            for candidate in candidates[turn:] + candidates[:turn]:
                measure(candidate, results[candidate.name], calls=given.calls, starts=given.starts)
        for candidate in (
            percall(laptops["echo-proxy"], "echo-proxy", "way in: proxy"),
            percall(unreachable, "echo", "broker away"),
        ):
            into = results[candidate.name] = Measured()
            for _ in range(given.starts * given.rounds):
                session = Session(candidate)
                into.initialize.append(session.initialize())
                session.close()
        table(results)
        direct = Candidate(
            "direct", [sys.executable, str(HERE / "fetching.py")], {**PLAIN, "API_URL": url, "API_KEY": "x"}
        )
        egress(percall(laptops["fetch"], "fetch", "egress"), direct)
        authorise = [sys.executable, str(HERE / "authorise.py")]
        subprocess.run(authorise, check=True)
        subprocess.run([*authorise, "--postgresql"], check=True)


if __name__ == "__main__":
    main()
