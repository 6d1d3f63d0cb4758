"""What policies cost: a decision by 10, 100 and 1,000 of them for 1,000 people, and a call with them against without.

    python tests/bench/policy.py [--calls 2000]

`evaluated`: each call is another one, so no verdict is remembered; it is what policies that read arguments cost.
`remembered`: what they cost when none reads arguments, after each person's first call. Prints one JSON object.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parent.parent))

from authorise import ENTRY, prepare, send

from harness.processes import COMMANDS, Line, automation_invite, command
from harness.signing import SigningLaptop
from harness.statements import SEEDS, seeds
from percall_broker.policy import Asked, Evaluator, read
from percall_broker.store import Statement, migrate, open_store

if TYPE_CHECKING:
    from collections.abc import Callable

COUNTS = (10, 100, 1000)
PEOPLE = 1000
LISTING: dict[str, Any] = {
    "viewer": "alice", "sees_all": 0, "state": "pending", "kind": "", "person": "", "agent": "", "server": "",
    "mine": 1, "before": 0, "limit": 100, "now": 10,
}  # fmt: skip


def rules(count: int, *, arguments: bool) -> dict[str, str]:
    """So many policies: one that permits, and others that are each about a group and a tool."""
    reads = '&& context.arguments.hasTag("repo") && context.arguments.getTag("repo") == "acme/{n}"' if arguments else ""
    others = [
        f'@id("p{n}") forbid(principal in Group::"g{n}", action == Action::"tools/call", resource)\n'
        f'when {{ resource.name == "delete_{n}" {reads.format(n=n)} }};'
        for n in range(count - 1)
    ]
    return {"rules.cedar": "\n".join(['@id("all") permit(principal, action, resource);', *others])}


def asked(number: int) -> Asked:
    person = number % PEOPLE
    return Asked(
        person=f"person{person}", agent="claude", device="laptop", groups=(f"g{person % 50}", "everyone"),
        server="github", delivery="egress", method="tools/call", kind="tool", subjects=("get_issue",), client="bench 1",
        digest=str(number), arguments=b'{"repo":"acme/site","number":%d,"labels":["a","b"]}' % number,
    )  # fmt: skip


def figures(seconds: list[float]) -> dict[str, float]:
    ordered = sorted(seconds)
    return {
        "p50_us": round(ordered[len(ordered) // 2] * 1e6, 1),
        "p99_us": round(ordered[len(ordered) * 99 // 100] * 1e6, 1),
    }


def each(calls: int, run: Callable[[int], object]) -> dict[str, float]:
    seconds = []
    for number in range(calls):
        start = time.perf_counter()
        run(number)
        seconds.append(time.perf_counter() - start)
    return figures(seconds)


def decisions(calls: int) -> dict[str, Any]:
    told: dict[str, Any] = {}
    for count in COUNTS:
        reading, plain = read(rules(count, arguments=True), 1), read(rules(count, arguments=False), 1)
        evaluate, remember = Evaluator(), Evaluator()
        for number in range(PEOPLE):
            remember(plain, asked(number), 0.0)
        told[str(count)] = {
            "evaluated": each(calls, lambda n, e=evaluate, p=reading: e(p, asked(n), 0.0)),
            "remembered": each(calls, lambda n, e=remember, p=plain: e(p, asked(n), 0.0)),
        }
    return told


def calls_with_and_without(folder: Path, calls: int) -> dict[str, Any]:
    """One call after another at one broker, first under what ships with it, then under 100 policies."""
    environment = {"PATH": os.environ["PATH"], "PERCALL_BROKER_HOME": str(folder / "broker")}
    command("percall-broker", "init", environment=environment)
    arguments = [str(COMMANDS / "percall-broker"), "serve", "--listen", "127.0.0.1:0"]
    told: dict[str, Any] = {}
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, env=environment) as process:
        try:
            url = Line(process.stdout).until(b"listening on ").decode().split("listening on ", 1)[1].strip()
            administrator = SigningLaptop.enrolled(url, automation_invite(environment))
            administrator.administer("POST", "/v1/admin/servers", {"name": "plain", "entry": ENTRY})
            form = {"person": "bench", "servers": {"plain": {"tools": ["get_*"]}}}
            grant = administrator.administer("POST", "/v1/admin/grants", form)
            laptop = SigningLaptop.enrolled(url, grant["invite"])
            for name, files in (("without", None), ("with_100", rules(100, arguments=True))):
                if files is not None:
                    form = {"files": files, "message": "", "expected": -1}
                    administrator.administer("POST", "/v1/admin/policies", form)
                send(url, prepare(laptop, 200), 1)
                told[name] = figures(send(url, prepare(laptop, calls), 1))
        finally:
            process.terminate()
    told["added_p50_us"] = round(told["with_100"]["p50_us"] - told["without"]["p50_us"], 1)
    return told


async def listing(folder: Path) -> dict[str, float]:
    """A page of the inbox while 10,000 questions wait."""
    location = str(folder / "store.db")
    await migrate(location)
    store = await open_store(location, SEEDS)
    await store.transact(
        *seeds(),
        Statement("add_group", {"name": "leads", "created_at": 1}),
        Statement("add_member", {"group_name": "leads", "person": "alice", "id": "m", "created_at": 1}),
        Statement("seed_approvals", {"most": 10_000}),
        Statement("seed_approval_groups", {"group_name": "leads"}),
    )
    seconds = []
    for _ in range(50):
        start = time.perf_counter()
        assert len(await store.fetch("list_approvals", **LISTING)) == LISTING["limit"]
        seconds.append(time.perf_counter() - start)
    await store.close()
    return figures(seconds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--calls", type=int, default=2000)
    calls = parser.parse_args().calls
    with tempfile.TemporaryDirectory() as folder:
        told = {
            "decision_by_policies": decisions(calls),
            "call": calls_with_and_without(Path(folder), calls),
            "inbox_page_of_10000": asyncio.run(listing(Path(folder))),
        }
    print(json.dumps(told))


if __name__ == "__main__":
    main()
