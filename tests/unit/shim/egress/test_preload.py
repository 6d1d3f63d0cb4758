"""Real Node processes; PERCALL_TEST_NODES may name further ones (Node 20 to 26), separated by colons."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from percall.egress import ways

from .conftest import LISTED, Script, child_environment, run_child

if TYPE_CHECKING:
    from pathlib import Path

    from .conftest import Stage

NODES = [*filter(None, [shutil.which("node")]), *filter(None, os.environ.get("PERCALL_TEST_NODES", "").split(":"))]
pytestmark = pytest.mark.skipif(not NODES, reason="Node is not installed")

URL = f"{LISTED}/v1?x=1"
FETCH = f"fetch('{URL}', {{headers: {{'x-key': process.env.API_KEY}}}}).then(r => r.text()).then(t => console.log(t))"
HTTPS = "({module}).get({arguments}, r => {{ let t = ''; r.on('data', d => t += d).on('end', () => console.log(t)); }})"
PRELOAD: dict[str, Any] = {"ways": ("preload",), "environment": {"API_KEY": "{key}"}}
BOTH: dict[str, Any] = {**PRELOAD, "ways": ("preload", "proxy")}


@pytest.fixture(params=NODES)
def node(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.mark.parametrize("entry", [PRELOAD, BOTH], ids=["preload", "with-proxy"])
def test_fetch_goes_to_the_listener(opened: Stage, node: str, entry: dict[str, Any]) -> None:
    listener = opened.listen(**entry)
    seen = json.loads(run_child(listener, node, "-e", FETCH))
    assert seen["url"] == URL
    assert seen["headers"]["x-key"] == listener.placeholder


@pytest.mark.parametrize("entry", [PRELOAD, BOTH], ids=["preload", "with-proxy"])
@pytest.mark.parametrize(
    "arguments",
    [
        f"'{URL}'",
        f"new URL('{URL}')",
        "{hostname: 'api.example.com', path: '/v1?x=1'}",
        "{host: 'api.example.com', port: 443, path: '/v1?x=1', agent: new (require('https').Agent)({})}",
        "'https://api.example.com/ignored', {path: '/v1?x=1', headers: {host: 'api.example.com'}}",
    ],
)
def test_every_form_of_https_get_goes_to_the_listener(
    opened: Stage, node: str, arguments: str, entry: dict[str, Any]
) -> None:
    listener = opened.listen(**entry)
    code = HTTPS.format(module="require('https')", arguments=arguments)
    assert json.loads(run_child(listener, node, "-e", code))["url"] == URL


def test_a_posted_body_goes_to_the_listener(opened: Stage, node: str) -> None:
    listener = opened.listen(**PRELOAD)
    code = f"""
const done = r => r.resume().on('end', () => console.log(r.statusCode));
const request = require('https').request('{LISTED}/v1', {{method: 'POST'}}, done);
request.write('one,'); request.end('two');
"""
    assert run_child(listener, node, "-e", code).strip() == "200"
    assert opened.stand_in.requests[0][1] == b"one,two"
    fetched = (
        f"fetch('{LISTED}/v1', {{method: 'POST', body: JSON.stringify({{a: 1}})}}).then(r => console.log(r.status))"
    )
    assert run_child(listener, node, "-e", fetched).strip() == "200"
    assert opened.stand_in.requests[1][1] == b'{"a":1}'


def test_an_es_module_with_named_imports_is_covered(opened: Stage, node: str, tmp_path: Path) -> None:
    listener = opened.listen(**PRELOAD)
    module = tmp_path / "main.mjs"
    module.write_text(
        "import { get } from 'node:https';\n"
        f"get('{URL}', r => {{ let t = ''; r.on('data', d => t += d).on('end', () => console.log(t)); }});\n"
    )
    assert json.loads(run_child(listener, node, str(module)))["url"] == URL


def test_wildcards_cover_what_they_name_and_nothing_else_is_touched(opened: Stage, node: str) -> None:
    listener = opened.listen(**PRELOAD)
    code = "fetch('https://eu.wild.example.com/a').then(r => r.text()).then(t => console.log(t))"
    assert json.loads(run_child(listener, node, "-e", code))["url"] == "https://eu.wild.example.com/a"
    # A name that cannot resolve fails as it would without us.
    other = "fetch('https://api.example.com.invalid/').then(() => console.log('reached'), () => console.log('failed'))"
    assert run_child(listener, node, "-e", other).strip() == "failed"
    assert len(opened.stand_in.requests) == 1


def test_a_redirect_keeps_the_headers_that_its_origin_may_see(opened: Stage, node: str) -> None:
    opened.stand_in.answer = lambda request, _: (
        Script(302, (("location", f"{LISTED}/there"),))
        if request.url.endswith("/here")
        else Script(pieces=(dict(request.headers)["authorization"].encode(),))
    )
    listener = opened.listen(**PRELOAD)
    code = (
        f"fetch('{LISTED}/here', {{headers: {{authorization: 'Bearer ' + process.env.API_KEY}}}})"
        ".then(r => r.text()).then(t => console.log(t))"
    )
    assert run_child(listener, node, "-e", code).strip() == f"Bearer {listener.placeholder}"


def test_an_existing_node_options_is_kept(opened: Stage, node: str, tmp_path: Path) -> None:
    mine = tmp_path / "a folder" / "mine.cjs"
    mine.parent.mkdir()
    mine.write_text("globalThis.mine = 'loaded';")
    listener = opened.listen(**{**PRELOAD, "environment": {"API_KEY": "{key}", "NODE_OPTIONS": f'--require="{mine}"'}})
    code = f"fetch('{URL}').then(r => console.log(globalThis.mine, r.status))"
    assert run_child(listener, node, "-e", code).strip() == "loaded 200"


@pytest.mark.parametrize("launcher", ["npx-cli.js", "npm-cli.js", "npx", "pnpm.cjs"])
def test_launchers_are_left_alone_but_the_server_they_start_is_not(
    opened: Stage, node: str, tmp_path: Path, launcher: str
) -> None:
    server = tmp_path / "server.js"
    server.write_text(FETCH)
    script = tmp_path / launcher
    script.write_text(
        "const patched = require('https').get.toString().includes('[native') || require('https').get.name !== 'get';\n"
        "const {spawnSync} = require('child_process');\n"
        f"const done = spawnSync(process.execPath, [{json.dumps(str(server))}], {{encoding: 'utf8'}});\n"
        "console.log(JSON.stringify({patched, seen: JSON.parse(done.stdout)}));\n"
    )
    listener = opened.listen(**PRELOAD)
    answer = json.loads(run_child(listener, node, str(script)))
    assert answer["patched"] is False
    assert answer["seen"]["url"] == URL


def test_without_a_listener_the_file_does_nothing(node: str) -> None:
    environment = {"PATH": os.environ["PATH"], "NODE_OPTIONS": f"--require={ways.PRELOAD_FILE}"}
    code = "console.log(require('https').get.name)"
    done = subprocess.run([node, "-e", code], env=environment, capture_output=True, check=True, text=True)
    assert (done.stdout.strip(), done.stderr) == ("get", "")


def test_the_preload_knows_no_placeholder_and_no_key(opened: Stage) -> None:
    environment = child_environment(opened.listen(**PRELOAD))
    shown = {name for name, value in environment.items() if opened.listeners[0].placeholder in value}
    assert shown == {"API_KEY"}
