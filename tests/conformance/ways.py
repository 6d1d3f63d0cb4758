"""The ways to the fixture server that are compared: direct, and through Percall."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

from harness.processes import COMMANDS, SERVERS, Broker, Laptop, Line
from harness.remote import entry
from harness.signing import SigningLaptop
from harness.signing_proxy import SigningProxy

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

FIXTURES = [sys.executable, str(SERVERS / "conformance_server.py")]
_FRONT = [sys.executable, str(SERVERS / "stdio_front.py")]


@contextmanager
def listening(command: Sequence[str], environment: Mapping[str, str] | None = None) -> Iterator[str]:
    """A server that prints its URL when it listens, for as long as the block lasts."""
    process = subprocess.Popen(
        list(command), stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=dict(environment or os.environ)
    )
    output, errors = Line(process.stdout), Line(process.stderr)
    try:
        url = output.until(b"http://")
        yield url.decode().strip()
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        output.join(5)
        errors.join(5)


@contextmanager
def direct(_folder: Path) -> Iterator[str]:
    """The fixture server itself, over HTTP."""
    with listening(FIXTURES) as url:
        yield url


@contextmanager
def spawned(folder: Path) -> Iterator[str]:
    """The fixture server over stdio, behind `percall run`, behind a front that makes it HTTP again."""
    with Broker(folder / "broker") as broker:
        broker.add_server("fixtures", spawned_entry(), "")
        with fronted(laptop(broker, "fixtures")) as url:
            yield url


@contextmanager
def bridged(folder: Path) -> Iterator[str]:
    """The fixture server over HTTP, behind the broker, behind `percall run`, behind the front."""
    with Broker(folder / "broker") as broker, direct(folder) as remote:
        broker.add_server("fixtures", remote_entry(remote), "")
        with fronted(laptop(broker, "fixtures")) as url:
            yield url


@contextmanager
def relayed(folder: Path) -> Iterator[str]:
    """The fixture server over HTTP, behind the broker, behind a front that signs for a client who cannot."""
    with Broker(folder / "broker") as broker, direct(folder) as remote:
        broker.add_server("fixtures", remote_entry(remote), "")
        with SigningProxy(SigningLaptop.enrolled(broker.url, invite(broker, "fixtures"))) as proxy:
            yield proxy.door("fixtures")


def invite(broker: Broker, server: str) -> str:
    """An invite to a grant that names all that the server has."""
    return broker.invite("someone", server, tools="*", prompts="*", resources="*")


def laptop(broker: Broker, server: str) -> Laptop:
    """A person's side whose grant names all that the server has."""
    enrolled = Laptop(broker.folder / "laptop")
    enrolled.login(broker.url, invite(broker, server))
    return enrolled


@contextmanager
def fronted(by: Laptop) -> Iterator[str]:
    """`percall run fixtures`, as an HTTP server."""
    with listening([*_FRONT, str(COMMANDS / "percall"), "run", "fixtures"], by.environment) as url:
        yield url


def spawned_entry() -> str:
    """The fixture server as a child."""
    return f"""
[server]
title = "Conformance fixtures"
delivery = "none"
command = {json.dumps([*FIXTURES, "--stdio"])}
sampling = true
"""


def remote_entry(url: str) -> str:
    """The fixture server as a remote one, without a key."""
    return entry(url.removesuffix("/mcp"), more="sampling = true", slots="")


ALL = {"direct": direct, "spawned": spawned, "bridged": bridged, "broker": relayed}
"""The columns of the table: through the shim, which starts the server or reaches a remote one; through the broker."""
