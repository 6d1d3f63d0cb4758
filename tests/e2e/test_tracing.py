"""Spans of real calls, as a collector gets them; and a broker that has none to make."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from harness.collector import Collector, attributes
from harness.processes import Broker, UnusualBroker, command, keyed_entry
from harness.remote import Remote, entry
from harness.upstream import CANARY

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from harness.processes import Client
    from harness.upstream import Upstream

ARGUMENT = "an-argument-that-no-span-shows"


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    with Collector() as running:
        yield running


@pytest.fixture(scope="module")
def remote() -> Iterator[Remote]:
    with Remote() as running:
        yield running


@pytest.fixture(scope="module")
def broker(
    upstream: Upstream, remote: Remote, collector: Collector, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Broker]:
    # The laptops' own environment has it too, as that of a client that traces its session.
    extra = {"OTEL_BSP_SCHEDULE_DELAY": "50"}
    options = ("--traces-endpoint", collector.url)
    with UnusualBroker(tmp_path_factory.mktemp("traced"), extra=extra, serve_arguments=options) as running:
        running.add_server("keyed", keyed_entry(upstream.url), CANARY)
        running.add_server("remote", entry(remote.url), CANARY)
        yield running


def call(client: Client, trace: str, tool: str) -> dict[str, Any]:
    meta = {"traceparent": f"00-{trace}-00f067aa0ba902b7-01"} if trace else {}
    params = {"name": tool, "arguments": {"text": ARGUMENT}, "_meta": meta}
    return client.request("tools/call", params)


def test_the_steps_of_a_call_and_of_its_request_join_the_clients_trace(
    broker: Broker, collector: Collector, person: str
) -> None:
    trace = "4bf92f3577b34da6a3ce929d0e0e4736"
    laptop = broker.enrol(person, "keyed")
    with laptop.client("keyed") as client:
        client.initialize()
        assert "result" in call(client, trace, "get_item")
        request = collector.named("percall.request", trace)
        decided = collector.named("percall.call", trace)
        assert decided.parent_span_id.hex() == "00f067aa0ba902b7"
        assert collector.below(decided)[:5] == ["authenticate", "parse", "decide", "record", "issue"]
        assert request.parent_span_id == decided.span_id
        assert collector.below(request) == ["authenticate", "decide", "record", "unseal", "upstream", "answer"]
    (row,) = broker.log(person=person)
    told = attributes(decided)
    assert told["percall.call"] == row["call"] == attributes(request)["percall.call"]
    assert (told["percall.server"], told["percall.decision"]) == ("keyed", "permit")
    assert (told["mcp.method.name"], told["gen_ai.tool.name"]) == ("tools/call", "get_item")
    assert attributes(request)["server.address"] == "127.0.0.1"


def test_a_refusal_is_a_span_that_says_why_and_not_what_was_asked(
    broker: Broker, collector: Collector, person: str
) -> None:
    trace = "11f92f3577b34da6a3ce929d0e0e4736"
    laptop = broker.enrol(person, "keyed")
    with laptop.client("keyed") as client:
        client.initialize()
        assert call(client, trace, "drop_everything")["result"]["isError"] is True
    told = attributes(collector.named("percall.call", trace))
    assert (told["percall.decision"], told["percall.reason"]) == ("forbid", "grant.tool")
    assert not any(b"drop_everything" in body for body in collector.bodies)


def test_a_client_that_traces_its_session_alone_passes_it_by_its_environment(
    broker: Broker, collector: Collector, person: str
) -> None:
    trace = "22f92f3577b34da6a3ce929d0e0e4736"
    laptop = broker.enrol(person, "keyed")
    laptop.extra["TRACEPARENT"] = f"00-{trace}-00f067aa0ba902b7-01"
    with laptop.client("keyed") as client:
        client.initialize()
        assert "result" in call(client, "", "get_item")
        collector.named("percall.request", trace)


@pytest.mark.parametrize("kind", ["meta", "environment"])
def test_a_call_to_a_remote_server_is_traced_too(broker: Broker, collector: Collector, person: str, kind: str) -> None:
    trace = f"{3 if kind == 'meta' else 4}3f92f3577b34da6a3ce929d0e0e4736"
    laptop = broker.enrol(person, "remote", tools="*")
    if kind == "environment":
        laptop.extra["TRACEPARENT"] = f"00-{trace}-00f067aa0ba902b7-01"
    with laptop.client("remote") as client:
        client.initialize()
        assert "result" in call(client, trace if kind == "meta" else "", "get_item")
    decided = collector.named("percall.call", trace)
    assert collector.below(decided) == ["authenticate", "decide", "record", "upstream"]


def test_a_malformed_traceparent_begins_a_trace_of_its_own_and_fails_nothing(
    broker: Broker, collector: Collector, person: str
) -> None:
    laptop = broker.enrol(person, "keyed")
    with laptop.client("keyed") as client:
        client.initialize()
        for wrong in ("zz-x", "00-" + "g" * 32 + "-00f067aa0ba902b7-01", "00-" + "0" * 32 + "-00f067aa0ba902b7-01", 7):
            params = {"name": "get_item", "arguments": {}, "_meta": {"traceparent": wrong}}
            assert "result" in client.request("tools/call", params)
    calls = {row["call"] for row in broker.log(person=person)}
    collector.wait(
        lambda: calls <= {attributes(one).get("percall.call", "") for one in collector.spans}, "a span of each call"
    )


def test_no_span_holds_a_key_an_argument_or_a_name_of_a_person(
    broker: Broker, collector: Collector, person: str, upstream: Upstream
) -> None:
    trace = "55f92f3577b34da6a3ce929d0e0e4736"
    laptop = broker.enrol(person, "keyed")
    with laptop.client("keyed") as client:
        client.initialize()
        call(client, trace, "get_item")
        collector.named("percall.request", trace)
    sent = b"".join(collector.bodies)
    assert b"percall.call" in sent
    for secret in (CANARY, ARGUMENT, person, "/items", str(laptop.home)):
        assert secret.encode() not in sent, secret
    assert upstream.with_real_key()


def test_a_collector_that_fails_holds_up_nothing_and_is_told_once(
    broker: Broker, collector: Collector, person: str
) -> None:
    laptop = broker.enrol(person, "keyed")
    collector.status = 400
    try:
        with laptop.client("keyed") as client:
            client.initialize()
            for _ in range(5):
                assert "result" in call(client, "", "get_item")
            told = json.loads(broker.stderr.until(b"spans not sent"))
            assert told["level"] == "warning"
    finally:
        collector.status = 200
    assert all(line.startswith(b"{") for line in broker.stderr.text)


def test_nothing_that_makes_spans_is_loaded_where_none_are_asked_for() -> None:
    # FastAPI takes the bare API where it finds it; with no SDK behind it, that does nothing.
    program = (
        "import sys, percall_broker.app, percall_broker.cli.root;"
        "sys.exit([name for name in sys.modules if name.startswith(('opentelemetry.sdk', 'opentelemetry.exp'))] != [])"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


@pytest.mark.parametrize(
    ("extra", "module", "setting"),
    [
        ("otel", "opentelemetry.sdk", {"TRACES_ENDPOINT": "http://127.0.0.1:9"}),
        ("aws", "botocore", {"KEY_SOURCE": "aws", "AWS_KMS_KEY": "alias/percall"}),
    ],
)
def test_what_needs_an_extra_is_refused_without_it_with_how_to_install_it(
    tmp_path: Path, extra: str, module: str, setting: dict[str, str]
) -> None:
    (tmp_path / "sitecustomize.py").write_text(f"import sys\nsys.modules['{module}'] = None\n")
    environment = Broker(tmp_path / "broker").environment | {"PYTHONPATH": str(tmp_path)}
    command("percall-broker", "init", environment=environment)
    environment |= {f"PERCALL_BROKER_{name}": value for name, value in setting.items()}
    done = command("percall-broker", "serve", "--listen", "127.0.0.1:0", environment=environment, check=False)
    assert done.returncode == 2
    assert f"in a clone, `uv tool install '.[broker,{extra}]'`" in done.stderr
    assert "Traceback" not in done.stderr
