"""`make bench`: no wrapper, Percall, mcp-proxy and aegis-sandbox side by side in one run; ratios, not absolutes."""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

import trustme
from driver import Candidate, Measured, Session, measure, median, percentile

sys.path.insert(0, str(Path(__file__).parent.parent))
import downloads
from candidates import ECHO, HERE, PLAIN, aegis, bare, echo_entry, echo_over_http, mcp_proxy, percall

from harness.processes import Broker, UnusualBroker, keyed_entry

KEY = "the-key-of-the-bench"


def durable_write(folder: Path) -> float:
    """Milliseconds of writing 4 KiB over what is there, down to the disk: what every durable record waits for."""
    with (folder / "block").open("w+b", buffering=0) as file:
        file.write(bytes(4096))
        os.fsync(file.fileno())
        taken = []
        for _ in range(200):
            begun = time.perf_counter()
            file.seek(0)
            file.write(os.urandom(4096))
            os.fdatasync(file.fileno())
            taken.append((time.perf_counter() - begun) * 1000)
    return median(taken)


def added(results: dict[str, Measured], name: str) -> dict[str, float]:
    """What a candidate adds to its base, in milliseconds."""
    m, base = results[name], results[results[name].base]
    return {
        "init": median(m.initialize) - median(base.initialize),
        "p50": percentile(m.small, 0.5) - percentile(base.small, 0.5),
        "p99": percentile(m.small, 0.99) - percentile(base.small, 0.99),
        "100K": percentile(m.big, 0.5) - percentile(base.big, 0.5),
        "struct": percentile(m.structured, 0.5) - percentile(base.structured, 0.5),
    }


def table(results: dict[str, Measured]) -> None:
    """Every candidate; `+` is what it adds to its base."""
    heads = "candidate init +init p50 +p50 p99 +p99 100K +100K struct +struct 16x/s MB"
    print("".join(f"{head:>16}" if i == 0 else f"{head:>9}" for i, head in enumerate(heads.split())))
    for name, m in results.items():
        more = added(results, name)
        own = (median(m.initialize), percentile(m.small, 0.5), percentile(m.small, 0.99), percentile(m.big, 0.5))
        row = [*own, percentile(m.structured, 0.5), median(m.in_flight), median(m.memory)]
        pairs = zip(row, (*more.values(), None, None), strict=True)
        cells = [value for pair in pairs for value in pair if value is not None]
        print(f"{name:>16}" + "".join(f"{'':9}" if value != value else f"{value:9.2f}" for value in cells))  # noqa: PLR0124


def bounds(
    results: dict[str, Measured], found: dict[str, downloads.Downloaded], alone: dict[str, dict[str, float]]
) -> None:
    """What was asked for, and what this run gave."""
    ours, tls = added(results, "percall"), added(results, "percall, TLS")
    rows = (
        ("initialize, added, ms", ours["init"], 60.0),
        ("initialize, broker away, added, ms", added(results, "broker away")["init"], 60.0),
        ("initialize, way in proxy, added, ms", added(results, "way in: proxy")["init"], 200.0),
        ("a small call, added, p50, ms", ours["p50"], 2.0),
        ("a small call, added, p99, ms", ours["p99"], 10.0),
        ("… a third of what mcp-proxy adds, ms", ours["p50"], added(results, "mcp-proxy")["p50"] / 3),
        ("… what aegis-sandbox adds, ms", ours["p50"], added(results, "aegis-sandbox")["p50"]),
        ("a 100 KB string, added, ms", ours["100K"], 3.0),
        ("a 100 KB string, TLS, added, ms", tls["100K"], 3.0),
        ("private memory over TLS, MB", median(results["percall, TLS"].memory), 20.0),
    )
    least = (
        ("sixteen in flight, a second", median(results["percall"].in_flight), 1500.0),
        ("sixteen in flight, TLS, a second", median(results["percall, TLS"].in_flight), 1500.0),
        ("authorisations, SQLite, a second and core", alone["sqlite"]["per_second_and_core"], 2500.0),
        ("authorisations, PostgreSQL, a second and core", alone["postgresql"]["per_second_and_core"], 1500.0),
        *(
            (f"100 MB with {reader}, share of the direct rate", downloads.share(found, f"{reader}, egress"), 0.5)
            for reader in downloads.READERS
        ),
    )
    print(f"{'bound':>50}{'wanted':>12}{'measured':>12}")
    for sign, group in (("≤", rows), ("≥", least)):
        for name, measured, wanted in group:
            holds = measured <= wanted if sign == "≤" else measured >= wanted
            print(f"{name:>50}{sign + f' {wanted:.2f}':>12}{measured:12.2f}  {'holds' if holds else 'does not hold'}")
    relays = downloads.share(found, f"{downloads.RAW}, two relays")
    bare_ones = added(results, "bare processes")["p50"]
    print(f"{'a small call through two bare processes, ms':>50}{bare_ones:24.2f}  (for comparison)")
    print(f"{'100 MB through two relays that do nothing':>50}{relays:24.2f}  (for comparison)")


def main() -> None:
    """Measures, and prints the machine with the figures."""
    options = argparse.ArgumentParser()
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--calls", type=int, default=300)
    options.add_argument("--starts", type=int, default=5)
    given = options.parse_args()
    with tempfile.TemporaryDirectory(prefix="percall-bench-") as name, ExitStack() as stack:
        folder = Path(name)
        print(f"{platform.platform()}, {os.cpu_count()} cores, Python {platform.python_version()}", end=", ")
        print(f"4 KiB on the disk in {durable_write(folder):.2f} ms")
        authority = trustme.CA()
        certificate = authority.issue_cert("127.0.0.1")
        authority.cert_pem.write_to_path(str(folder / "ca.pem"))
        certificate.private_key_pem.write_to_path(str(folder / "key.pem"))
        certificate.cert_chain_pems[0].write_to_path(str(folder / "cert.pem"))
        api = downloads.serve(stack)

        broker = stack.enter_context(Broker(folder / "http"))
        for server, entry, key in (
            ("echo", echo_entry(ECHO), ""),
            ("echo-proxy", echo_entry(ECHO, "proxy"), KEY),
            *(
                (f"fetch-{number}", keyed_entry(f"http://127.0.0.1:{api}", launched=command), KEY)
                for number, command in enumerate(downloads.READERS.values())
            ),
        ):
            broker.add_server(server, entry, key)
        tls_arguments = ("--tls-cert", str(folder / "cert.pem"), "--tls-key", str(folder / "key.pem"))
        over_tls = stack.enter_context(
            UnusualBroker(
                folder / "tls", serve_arguments=tls_arguments, login_arguments=("--ca-file", str(folder / "ca.pem"))
            )
        )
        over_tls.add_server("echo", echo_entry(ECHO), "")
        fetching = {reader: f"fetch-{number}" for number, reader in enumerate(downloads.READERS)}
        laptops = {
            server: broker.enrol(f"bench-{server}", server, tools="*")
            for server in ("echo", "echo-proxy", *fetching.values())
        }
        gone = Broker(folder / "gone")
        with gone:
            gone.add_server("echo", echo_entry(ECHO), "")
            unreachable = gone.enrol("bench", "echo", tools="*")
        http_url = echo_over_http(stack)
        candidates = [
            Candidate("no wrapper", ECHO, PLAIN),
            percall(laptops["echo"], "echo", "percall"),
            percall(over_tls.enrol("bench", "echo", tools="*"), "echo", "percall, TLS"),
            aegis(folder),
            bare(folder, stack),
            Candidate("HTTP, direct", [], base="HTTP, direct", url=http_url),
            mcp_proxy(http_url),
        ]
        results = {candidate.name: Measured(candidate.base) for candidate in candidates}
        for number in range(given.rounds):
            turn = number % len(candidates)
            order = candidates[turn:] + candidates[:turn]
            measure(order, results, calls=given.calls, starts=given.starts)
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
        through = {reader: percall(laptops[server], server, server) for reader, server in fetching.items()}
        found = downloads.measure(through, api, stack)
        downloads.print_table(found)
        alone = {}
        for more in ((), ("--postgresql",)):
            command = [sys.executable, str(HERE / "authorise.py"), *more]
            done = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
            print("the broker alone:", ", ".join(f"{name} {value}" for name, value in done.items()))
            alone[done["store"]] = done
        bounds(results, found, alone)


if __name__ == "__main__":
    main()
