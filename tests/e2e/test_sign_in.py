"""`percall login URL` without an invite: the browser, the organisation's provider, and back to the terminal."""

from __future__ import annotations

import http.client
import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

import pytest

from harness.openid import CertifiedProvider, settings
from harness.processes import COMMANDS, SERVERS, Broker, Laptop, Line, UnusualBroker, keyed_entry
from harness.upstream import CANARY

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from harness.upstream import Upstream

pytestmark = pytest.mark.node


@pytest.fixture(scope="module")
def organisation(upstream: Upstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """A broker whose people sign in, and a group of theirs that may read."""
    accounts: dict[str, Any] = {
        "alice": {"email": "alice@example.com", "groups": ["engineering"]},
        "bob": {"email": "bob@example.com", "groups": []},
    }
    with CertifiedProvider(tmp_path_factory.mktemp("provider"), accounts) as provider:
        variables = settings(provider.url, {"engineering": "devs"})
        extra = {f"PERCALL_BROKER_{name.upper()}": value for name, value in variables.items()}
        with UnusualBroker(tmp_path_factory.mktemp("broker"), extra=extra) as broker:
            broker.add_server("keyed", keyed_entry(upstream.url), CANARY)
            broker.administrator.administer("group", "add", "devs")
            scope = ("--server", "keyed", "--tools", "get_*", "--expires", "30d")
            broker.administrator.administer("grant", "create", "--group", "devs", *scope)
            yield broker


def laptop_of(folder: Path, login: str) -> Laptop:
    """A laptop whose browser signs in by itself."""
    browser = f"{sys.executable} {SERVERS / 'browser.py'} %s"
    seen = {"PERCALL_TEST_LOGIN": login, "PERCALL_TEST_SAW": str(folder / "page")}
    return Laptop(folder / "laptop", {"BROWSER": browser, **seen})


def test_a_person_signs_in_and_calls_without_any_invite(organisation: Broker, tmp_path: Path) -> None:
    laptop = laptop_of(tmp_path, "alice")
    said = laptop.run("login", organisation.url, "--keyring", "file").stdout
    assert "Signed in as alice@example.com" in said
    assert "server keyed" in said
    assert "Go back to your terminal" in (tmp_path / "page").read_text()
    with laptop.client("keyed") as client:
        client.initialize()
        assert client.call_text("get_item").startswith("200 ")

    again = laptop.run("login", organisation.url)
    assert "Signed in as alice@example.com" in again.stdout
    grants = json.loads(organisation.administrator.administer("person", "show", "alice@example.com", "--json").stdout)[
        "grants"
    ]
    assert sum(grant["state"] == "active" for grant in grants) == 2, "to sign in again makes no further grant"


def test_who_may_not_come_in_is_told_why_and_no_page_says_that_they_did(organisation: Broker, tmp_path: Path) -> None:
    laptop = laptop_of(tmp_path, "bob")
    done = laptop.run("login", organisation.url, "--keyring", "file", check=False)
    assert done.returncode == 6
    assert "bob@example.com is in no group" in done.stderr
    assert "Traceback" not in done.stderr
    assert "signed in" not in (tmp_path / "page").read_text()


def test_a_forged_redirect_is_not_taken_and_the_real_one_still_is(organisation: Broker, tmp_path: Path) -> None:
    laptop = Laptop(tmp_path / "laptop", {"BROWSER": "true"})
    process = subprocess.Popen(
        [str(COMMANDS / "percall"), "login", organisation.url, "--keyring", "file"],
        env=laptop.environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    errors = Line(process.stderr)
    url = errors.until(b"Sign in with your browser: ").decode().split(": ", 1)[1].strip()
    query = {name: values[0] for name, values in parse_qs(urlsplit(url).query).items()}
    redirect = urlsplit(query["redirect_uri"])
    assert redirect.hostname == "127.0.0.1"
    for path in ("/callback?code=forged", "/callback?code=forged&state=guessed", f"/other?state={query['state']}"):
        connection = http.client.HTTPConnection("127.0.0.1", redirect.port, timeout=5)
        connection.request("GET", path)
        assert connection.getresponse().status == 404
        connection.close()
    connection = http.client.HTTPConnection("127.0.0.1", redirect.port, timeout=5)
    connection.request("GET", f"/callback?code=x&iss=https://other.example&state={query['state']}")
    assert connection.getresponse().status == 400
    connection.close()
    assert process.wait(20) == 3
    assert b"another issuer" in b"".join(errors.text)
    assert process.stdout is not None
    process.stdout.close()
    errors.join(5)


def test_a_broker_without_a_provider_asks_for_an_invite(broker: Broker, tmp_path: Path) -> None:
    laptop = Laptop(tmp_path / "laptop", {"BROWSER": "false"})
    done = laptop.run("login", broker.url, "--keyring", "file", check=False)
    assert done.returncode == 2
    assert "--invite CODE" in done.stderr
    assert not list((laptop.home / "percall").glob("logins/*"))
