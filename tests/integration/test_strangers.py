"""What somebody without a grant, or without its key, may cost the broker: little."""

from __future__ import annotations

import contextlib
import json
import os
from typing import TYPE_CHECKING

import pytest

from harness.console import ConsoleBrowser
from harness.processes import keyed_entry
from harness.signing import SigningLaptop, call_message
from harness.upstream import CANARY, Upstream
from integration.conftest import Served
from percall import wire
from percall.proof import DeviceKey

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

LARGE = 15 * 1024 * 1024


@pytest.fixture(scope="module")
def alone(upstream: Upstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A broker of this module's own: what is counted against this machine here must not disturb others."""
    with Served(tmp_path_factory.mktemp("alone")) as running:
        running.add_server("keyed", keyed_entry(upstream.url), CANARY)
        yield running


@pytest.fixture
def counting(upstream: Upstream, tmp_path: Path) -> Iterator[Served]:
    """A broker of a test's own, which has counted nothing yet."""
    with Served(tmp_path) as running:
        running.add_server("keyed", keyed_entry(upstream.url), CANARY)
        yield running


def begun(laptop: SigningLaptop, path: str, headers: dict[str, str], length: int) -> str:
    """The code of the answer to a request of which only the beginning is ever sent."""
    connection = laptop.connection()
    try:
        connection.putrequest("POST", path)
        for name, value in {**headers, "Content-Length": str(length)}.items():
            connection.putheader(name, value)
        connection.endheaders()
        with contextlib.suppress(OSError):
            connection.send(b"x" * (256 * 1024))
        answer = connection.getresponse()
        assert answer.status == 401
        return str(json.loads(answer.read())["error"]["code"])
    finally:
        connection.close()


@pytest.mark.parametrize("path", [wire.PATH_CALLS, "/v1/admin/servers"])
def test_a_large_body_is_not_read_for_somebody_without_a_grant(alone: Served, path: str) -> None:
    assert begun(SigningLaptop(alone.url), path, {"Percall-Wire": "1"}, LARGE) == "grant.missing"


@pytest.mark.parametrize("path", [wire.PATH_CALLS, wire.PATH_EGRESS])
def test_a_large_body_is_not_read_for_somebody_who_has_a_grant_without_its_key(alone: Served, path: str) -> None:
    laptop, _ = alone.enrol()
    laptop.call("keyed", "get_item")  # for a nonce
    thief = SigningLaptop(alone.url, DeviceKey(os.urandom(32)), laptop.token, laptop.nonce)
    assert begun(thief, path, thief.headers("POST", path, b""), LARGE) == "proof.device"


def test_a_large_body_of_a_device_is_read_once_its_head_is_known_to_be_signed(alone: Served) -> None:
    laptop, _ = alone.enrol()
    assert laptop.call("keyed", "get_item", {"text": "x" * 1024 * 1024})["decision"] == "permit"
    body = call_message("keyed", "tools/call", {"name": "get_item", "arguments": {"text": "x" * 1024 * 1024}})
    headers = laptop.headers("POST", wire.PATH_CALLS, body)
    changed = laptop.exchange("POST", wire.PATH_CALLS, body.replace(b"get_item", b"set_item"), headers)
    assert changed.code == "proof.digest"


def test_an_administrators_form_has_a_bound(alone: Served) -> None:
    answer = alone.administrator.send("POST", "/v1/admin/servers", b" " * (1024 * 1024 + 1))
    assert (answer.status, answer.code) == (400, "request.size")


def test_who_fails_too_often_is_turned_away_and_devices_at_the_same_address_are_not(counting: Served) -> None:
    laptop, _ = counting.enrol()
    stranger = SigningLaptop(counting.url)
    statuses = [stranger.enrol("a guess").status for _ in range(120)]
    assert set(statuses[:100]) == {401}
    assert 429 in statuses[100:]
    turned_away = next(a for a in (stranger.enrol("a guess") for _ in range(10)) if a.status == 429)
    assert (turned_away.code, turned_away.headers["retry-after"]) == ("request.rate", "1")
    assert laptop.call("keyed", "get_item")["decision"] == "permit"

    thief = SigningLaptop(counting.url, DeviceKey(os.urandom(32)), laptop.token, laptop.nonce)
    assert thief.ask("keyed", "tools/call", {"name": "get_item"}).code == "proof.device", "counted apart"
    counting.stop()
    assert b'"address": "127.0.0.1"' in b"".join(counting.stderr.text)


def test_who_speaks_a_version_that_nobody_does_is_turned_away_before_it_fills_the_log(counting: Served) -> None:
    laptop, _ = counting.enrol()
    stranger = SigningLaptop(counting.url)
    codes = [stranger.exchange("GET", wire.PATH_SESSION, b"", {"Percall-Wire": "9"}).code for _ in range(150)]
    assert codes[:100] == ["wire.version"] * 100
    assert "request.rate" in codes[100:]
    assert laptop.call("keyed", "get_item")["decision"] == "permit"
    counting.stop()
    assert b"".join(counting.stderr.text).count(b"not of a version that is served") == codes.count("wire.version")


def test_a_laptop_that_speaks_such_a_version_shuts_nobody_at_its_address_out(counting: Served) -> None:
    """As a whole office does, on the day on which its broker is updated first."""
    laptop, _ = counting.enrol()
    invite = counting.invite()["invite"]
    headers = {**laptop.headers("GET", wire.PATH_SESSION, b""), "Percall-Wire": "9"}
    codes = [laptop.exchange("GET", wire.PATH_SESSION, b"", headers).code for _ in range(150)]
    assert codes[:100] == ["wire.version"] * 100
    assert "request.rate" in codes[100:]
    assert SigningLaptop(counting.url).enrol(invite).status == 200


def test_a_browser_that_is_signed_in_is_shut_out_by_nobody_else_at_its_address(tmp_path: Path) -> None:
    with Served(tmp_path) as broker:
        browser = ConsoleBrowser.signed_in(SigningLaptop.of_person(broker.url, broker.local_invite("ada")))
        page = ConsoleBrowser.of(broker.url)
        # Any page of the web can have her browser ask so, and tries nothing by it.
        assert {page.get("calls").status for _ in range(150)} == {401}
        guesses = []
        for number in range(150):
            page.cookie = f"percall-console=guess{number}"
            guesses.append(page.get("calls").status)
        assert guesses[:100] == [401] * 100
        assert 429 in guesses[100:]
        assert browser.get("calls").status == 200
