"""What watches a broker: its health, its readiness, and its figures."""

from __future__ import annotations

import http.client
import json
import re
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest

from harness.processes import command, keyed_entry, wait_for
from harness.signing import Answer
from harness.upstream import CANARY
from integration.conftest import Served
from percall import wire

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from harness.upstream import Upstream


def get(url: str, path: str, **headers: str) -> Answer:
    parts = urlsplit(url)
    assert parts.hostname is not None
    connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=20)
    try:
        connection.request("GET", path, headers=headers)
        came = connection.getresponse()
        return Answer(came.status, {k.lower(): v for k, v in came.getheaders()}, came.read())
    finally:
        connection.close()


@pytest.fixture(scope="module")
def watched(server: str, upstream: Upstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with Served(tmp_path_factory.mktemp("watched"), server, settings={"metrics_listen": "127.0.0.1:0"}) as running:
        running.add_server("keyed", keyed_entry(upstream.url), CANARY)
        yield running


def figures_url(served: Served) -> str:
    """Where the broker says that it serves its figures."""
    wait_for(lambda: any(b"figures are served" in line for line in served.stderr.text), "the listener for figures")
    line = next(line for line in served.stderr.text if b"figures are served" in line)
    return str(json.loads(line)["at"]).removesuffix("/metrics")


def figures(served: Served) -> dict[str, float]:
    answer = get(figures_url(served), "/metrics")
    assert answer.status == 200
    assert answer.headers["content-type"].startswith("text/plain")
    lines = [line for line in answer.body.decode().splitlines() if not line.startswith("#")]
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines)}


def test_health_and_readiness_are_answered_whatever_the_host(watched: Served) -> None:
    for url in (watched.url, figures_url(watched)):
        for path in ("/healthz", "/readyz"):
            assert get(url, path, Host="10.1.2.3:8765").status == 200
    assert get(watched.url, "/readyz").json == {"ready": True, "problems": {}}
    assert get(watched.url, "/v1/session", Host="10.1.2.3:8765").code == "request.host"


def test_figures_are_not_on_the_door_of_laptops(watched: Served) -> None:
    assert get(watched.url, "/metrics").status == 404
    assert get(figures_url(watched), "/v1/session").status == 404


def test_what_alerts_ask_for_is_served_before_it_happens(watched: Served) -> None:
    before = figures(watched)
    counted = [name for name in before if name.startswith("percall_store_errors_total")]
    assert 'percall_store_errors_total{code="store.full"}' in counted
    assert [before[name] for name in counted] == [0] * len(counted)
    laptop, _ = watched.enrol()
    assert laptop.request("keyed", "https://elsewhere.example/").status == 403
    grown = {name for name, value in figures(watched).items() if value != before.get(name) and "attacks" in name}
    assert {name for name in grown if "_total" in name} == {'percall_attacks_total{reason="request.rule"}'}
    assert before['percall_attacks_total{reason="proof.replayed"}'] == 0


def test_figures_count_calls_requests_outcomes_and_refusals(watched: Served, upstream: Upstream) -> None:
    before = figures(watched)
    laptop, _ = watched.enrol()
    call = laptop.call("keyed", "get_item")
    assert figures(watched)["percall_open_calls"] == before["percall_open_calls"] + 1
    window = wire.Window(call["call"], call["credential"])
    assert laptop.request("keyed", f"{upstream.url}/items", window).status == 200
    assert figures(watched)["percall_open_windows"] == before["percall_open_windows"] + 1
    laptop.settle(call["call"])
    laptop.settle(call["call"])
    laptop.call("keyed", "create_item")
    laptop.call("of-a-stranger's-choice", "get_item")
    assert laptop.request("keyed", f"{upstream.url}/items").status == 403

    with laptop.events() as events:
        events.next()
        during = figures(watched)
    grown = {name: during[name] - before.get(name, 0) for name in during if during[name] != before.get(name)}
    expected = {
        'percall_calls_total{decision="permit",server="keyed"}': 1,
        'percall_calls_total{decision="forbid",server="keyed"}': 1,
        'percall_calls_total{decision="forbid",server="unknown"}': 1,
        'percall_refusals_total{reason="grant.tool"}': 1,
        'percall_refusals_total{reason="grant.server"}': 1,
        'percall_refusals_total{reason="request.no_call"}': 1,
        'percall_requests_total{decision="permit",server="keyed"}': 1,
        'percall_requests_total{decision="forbid",server="keyed"}': 1,
        'percall_outcomes_total{outcome="done",server="keyed"}': 1,
        "percall_decision_seconds_count": 3,
        'percall_upstream_seconds_count{server="keyed"}': 1,
        "percall_event_streams": 1,
    }
    assert {name: grown.get(name) for name in expected} == expected
    assert grown["percall_commit_seconds_count"] > 0
    assert "percall_open_calls" not in grown
    assert "percall_open_windows" not in grown


def test_a_call_that_waits_for_an_approval_counts_as_asked_and_not_as_refused(tmp_path: Path) -> None:
    with Served(tmp_path, settings={"metrics_listen": "127.0.0.1:0"}) as served:
        served.add_server("keyed", keyed_entry("http://127.0.0.1:9"), CANARY)
        rules = '@id("asks") @ask("leads") permit(principal, action, resource);'
        form = {"files": {"rules.cedar": rules}, "message": "a test", "expected": -1}
        served.administrator.administer("POST", "/v1/admin/policies", form)
        laptop, _ = served.enrol()
        assert laptop.call("keyed", "get_item")["decision"] == "ask"
        counted = {name: value for name, value in figures(served).items() if value and "s_total" in name}
        assert counted['percall_calls_total{decision="ask",server="keyed"}'] == 1
        assert not [name for name in counted if "refusals" in name or 'decision="forbid"' in name]


def test_figures_name_no_person_no_tool_and_no_secret(watched: Served) -> None:
    laptop, grant = watched.enrol()
    laptop.call("keyed", "get_item")
    text = get(figures_url(watched), "/metrics").body.decode()
    for told in (f"person{watched.people}", grant, "get_item", CANARY, "of-a-stranger"):
        assert told not in text


def test_readiness_names_a_store_that_cannot_be_written(tmp_path: Path) -> None:
    with Served(tmp_path, settings={"metrics_listen": "127.0.0.1:0"}) as served:
        with closing(sqlite3.connect(tmp_path / "broker" / "store.sqlite3", isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            wait_for(lambda: get(served.url, "/readyz").status == 503, "not ready")
            answer = get(served.url, "/readyz")
            assert answer.json == {"ready": False, "problems": {"store": "store.locked"}}
            assert get(served.url, "/healthz").status == 200
            found = figures(served)
            assert found['percall_store_errors_total{code="store.locked"}'] >= 1
            assert found['percall_not_ready{problem="store"}'] == 1
            assert found['percall_not_ready{problem="keys"}'] == 0
            other.execute("ROLLBACK")
        wait_for(lambda: get(served.url, "/readyz").status == 200, "ready again")


def test_figures_off_loopback_want_a_token(tmp_path: Path) -> None:
    token = tmp_path / "token"
    with Served(tmp_path / "first") as served:
        served.stop()
        told = ("serve", "--listen", "127.0.0.1:0", "--metrics-listen", "0.0.0.0:0")
        done = command("percall-broker", *told, environment=served.environment, check=False)
        assert done.returncode == 2
        assert re.search(r"can be reached from elsewhere.*\n.*--metrics-token-file", done.stderr)
        absent = command(
            "percall-broker", *told, "--metrics-token-file", str(token), environment=served.environment, check=False
        )
        assert "openssl rand" in absent.stderr
        for mode, text, said in ((0o644, "x" * 32, "Others may read"), (0o600, "short", "holds no token")):
            token.unlink(missing_ok=True)
            token.touch(mode)
            token.write_text(text)
            done = command(
                "percall-broker", *told, "--metrics-token-file", str(token), environment=served.environment, check=False
            )
            assert done.returncode == 2
            assert said in done.stderr
    token.unlink()
    token.touch(0o600)
    token.write_text("t" * 32 + "\n")
    settings = {"metrics_listen": "127.0.0.1:0", "metrics_token_file": str(token)}
    with Served(tmp_path / "second", settings=settings) as served:
        url = figures_url(served)
        assert get(url, "/metrics").status == 401
        assert get(url, "/metrics", Authorization="Bearer " + "u" * 32).status == 401
        assert get(url, "/metrics", Authorization="Bearer " + "t" * 32).status == 200
        assert get(url, "/readyz").status == 200
