from __future__ import annotations

import base64
import http.client
import http.server
import json
import os
import shutil
import socket
import ssl
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import trustme

from percall import home
from percall.errors import LaunchError
from percall.wire import Window

from .conftest import LISTED, child_environment, raw, run_child, run_python

if TYPE_CHECKING:
    from collections.abc import Iterator

    from percall.egress.listener import Listener

    from .conftest import Stage

PROXY: dict[str, Any] = {"ways": ("proxy",), "environment": {"API_KEY": "{key}"}}
FETCH = """
import os, urllib.request
request = urllib.request.Request(os.environ["URL"], headers={"Authorization": "Bearer " + os.environ["API_KEY"]})
print(urllib.request.urlopen(request, timeout=20).read().decode())
"""


def credentials(listener: Listener) -> str:
    return base64.b64encode(f"percall:{listener.proxy_secret}".encode()).decode()


@pytest.fixture
def unlisted() -> Iterator[int]:
    """A host that no entry lists, on loopback."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

        def do_GET(self) -> None:
            sent = self.rfile.read(int(self.headers.get("content-length", 0))).decode()
            body = json.dumps({"path": self.path, "headers": dict(self.headers), "sent": sent}).encode()
            self.send_response(200)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_POST(self) -> None:
            self.do_GET()

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield server.server_address[1]
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.mark.parametrize("host", ["api.example.com", "eu.wild.example.com"])
def test_a_python_child_reaches_a_listed_host_through_the_proxy(opened: Stage, host: str) -> None:
    listener = opened.listen(**PROXY)
    seen = json.loads(run_python(listener, FETCH, URL=f"https://{host}/v1?x=1"))
    assert seen["url"] == f"https://{host}/v1?x=1"
    assert seen["headers"]["authorization"] == f"Bearer {listener.placeholder}"
    assert "proxy-authorization" not in seen["headers"]


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_curl_reaches_a_listed_host_through_the_proxy(opened: Stage) -> None:
    listener = opened.listen(**PROXY)
    assert json.loads(run_child(listener, "curl", "-sSf", f"{LISTED}/v1"))["url"] == f"{LISTED}/v1"


def test_a_host_that_is_not_listed_is_refused(opened: Stage) -> None:
    listener = opened.listen(**PROXY)
    head = "CONNECT other.example.net:443 HTTP/1.1\r\nHost: other.example.net:443\r\nProxy-Authorization: Basic "
    answer = raw(listener, f"{head}{credentials(listener)}\r\n\r\n".encode())
    assert answer.startswith(b"HTTP/1.1 403 ")
    assert b"egress.host" in answer


def test_an_unlisted_host_gets_a_blind_tunnel_where_the_entry_says_so(opened: Stage, unlisted: int) -> None:
    listener = opened.listen(**PROXY, unlisted_hosts="tunnel")
    connection = http.client.HTTPConnection("127.0.0.1", listener.port, timeout=20)
    connection.set_tunnel("127.0.0.1", unlisted, {"Proxy-Authorization": f"Basic {credentials(listener)}"})
    connection.request("GET", "/download")
    assert json.loads(connection.getresponse().read())["path"] == "/download"
    connection.close()
    assert opened.stand_in.requests == []


def test_an_unlisted_host_in_absolute_form_is_sent_on_without_our_credentials(opened: Stage, unlisted: int) -> None:
    listener = opened.listen(**PROXY, unlisted_hosts="tunnel")
    head = f"GET http://127.0.0.1:{unlisted}/x HTTP/1.1\r\nHost: 127.0.0.1:{unlisted}\r\nProxy-Authorization: Basic "
    answer = raw(listener, f"{head}{credentials(listener)}\r\n\r\n".encode())
    assert answer.startswith(b"HTTP/1.0 200 ")
    assert b'"/x"' in answer
    assert b"roxy-" not in answer


def test_an_unlisted_host_in_absolute_form_gets_no_header_that_was_for_its_neighbour(
    opened: Stage, unlisted: int
) -> None:
    listener = opened.listen(**PROXY, unlisted_hosts="tunnel")
    answer = raw(
        listener,
        f"GET http://127.0.0.1:{unlisted}/x HTTP/1.1\r\nHost: 127.0.0.1:{unlisted}\r\nX-Hop: 1\r\nX-End: 2\r\n"
        f"Connection: x-hop\r\nTrailer: x\r\nProxy-Authorization: Basic {credentials(listener)}\r\n\r\n".encode(),
    )
    sent = {name.lower() for name in json.loads(answer.partition(b"\r\n\r\n")[2])["headers"]}
    assert sent == {"host", "connection", "x-end"}


@pytest.mark.parametrize(
    "framed", ["Content-Length: 6\r\n\r\na body", "Transfer-Encoding: chunked\r\n\r\n6\r\na body\r\n0\r\n\r\n"]
)
def test_an_unlisted_host_in_absolute_form_gets_the_body(opened: Stage, unlisted: int, framed: str) -> None:
    listener = opened.listen(**PROXY, unlisted_hosts="tunnel")
    head = f"POST http://127.0.0.1:{unlisted}/x HTTP/1.1\r\nHost: 127.0.0.1:{unlisted}\r\nProxy-Authorization: Basic "
    answer = raw(listener, f"{head}{credentials(listener)}\r\n{framed}".encode())
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["sent"] == "a body"


def test_what_follows_a_connect_at_once_goes_through_the_tunnel(opened: Stage, unlisted: int) -> None:
    listener = opened.listen(**PROXY, unlisted_hosts="tunnel")
    head = f"CONNECT 127.0.0.1:{unlisted} HTTP/1.1\r\nHost: x\r\nProxy-Authorization: Basic "
    answer = raw(listener, f"{head}{credentials(listener)}\r\n\r\nGET /early HTTP/1.0\r\n\r\n".encode())
    assert b'"/early"' in answer


@pytest.mark.parametrize(
    "request_line", ["CONNECT 127.0.0.1:{}", "GET http://127.0.0.1:{}/", "GET https://127.0.0.1:{}/"]
)
def test_an_unlisted_host_that_nobody_reaches_is_named(opened: Stage, request_line: str) -> None:
    listener = opened.listen(**PROXY, unlisted_hosts="tunnel")
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        head = f"{request_line.format(port)} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nProxy-Authorization: Basic "
        answer = raw(listener, f"{head}{credentials(listener)}\r\n\r\n".encode())
    assert answer.startswith(b"HTTP/1.1 502 ")
    assert f"127.0.0.1:{port} cannot be reached: Connection refused." in answer.decode()


def test_an_unlisted_host_that_does_not_speak_tls_is_named(opened: Stage, unlisted: int) -> None:
    listener = opened.listen(**PROXY, unlisted_hosts="tunnel")
    head = f"GET https://127.0.0.1:{unlisted}/ HTTP/1.1\r\nHost: 127.0.0.1:{unlisted}\r\nProxy-Authorization: Basic "
    answer = raw(listener, f"{head}{credentials(listener)}\r\n\r\n".encode())
    assert answer.startswith(b"HTTP/1.1 502 ")
    assert b"wire.unreachable" in answer


def test_connect_without_the_credentials_is_refused(opened: Stage) -> None:
    listener = opened.listen(**PROXY, unlisted_hosts="tunnel")
    for value in ("", "Proxy-Authorization: Basic cGVyY2FsbDp3cm9uZw==\r\n", "Proxy-Authorization: Basic !!\r\n"):
        answer = raw(listener, f"CONNECT api.example.com:443 HTTP/1.1\r\nHost: api.example.com\r\n{value}\r\n".encode())
        assert answer.startswith(b"HTTP/1.1 407 ")
        assert b"proxy-authenticate: Basic" in answer


def test_an_absolute_url_in_clear_is_taken_with_credentials_or_the_placeholder(opened: Stage) -> None:
    listener = opened.listen(**PROXY)
    head = "POST https://api.example.com/v1 HTTP/1.1\r\nHost: api.example.com\r\nContent-Length: 2\r\n"
    basic = base64.b64encode(f"me:{listener.placeholder}".encode()).decode()
    for shown in (
        f"Proxy-Authorization: Basic {credentials(listener)}",
        f"Authorization: Bearer {listener.placeholder}",
        f"Authorization: Basic {basic}",
    ):
        assert raw(listener, f"{head}{shown}\r\n\r\nhi".encode()).startswith(b"HTTP/1.1 200 "), shown
    assert raw(listener, f"{head}\r\nhi".encode()).startswith(b"HTTP/1.1 407 ")
    assert [request.url for request, _ in opened.stand_in.requests] == [f"{LISTED}/v1"] * 3


def test_an_absolute_url_that_contradicts_its_host_is_refused(opened: Stage) -> None:
    listener = opened.listen(**PROXY)
    head = f"GET https://api.example.com/ HTTP/1.1\r\nProxy-Authorization: Basic {credentials(listener)}\r\n"
    assert raw(listener, f"{head}Host: eu.wild.example.com\r\n\r\n".encode()).startswith(b"HTTP/1.1 400 ")
    assert opened.stand_in.requests == []


def test_inside_a_tunnel_the_host_is_the_tunnels(opened: Stage) -> None:
    listener = opened.listen(**PROXY)
    bundle = child_environment(listener)["SSL_CERT_FILE"]
    connection = http.client.HTTPSConnection(
        "127.0.0.1", listener.port, timeout=20, context=ssl.create_default_context(cafile=bundle)
    )
    connection.set_tunnel("api.example.com", 443, {"Proxy-Authorization": f"Basic {credentials(listener)}"})
    connection.request("GET", "/", headers={"Host": "eu.wild.example.com"})
    assert connection.getresponse().status == 400
    connection.close()
    assert opened.stand_in.requests == []


def test_the_bundle_holds_the_systems_roots_and_an_existing_bundle(opened: Stage, tmp_path: Path) -> None:
    company = trustme.CA()
    company.cert_pem.write_to_path(str(tmp_path / "company.pem"))
    plain = opened.listen(**PROXY).environment({})
    assert len(ssl.create_default_context(cafile=plain["SSL_CERT_FILE"]).get_ca_certs()) > 10
    merged = opened.listen(
        **{
            **PROXY,
            "environment": {name: str(tmp_path / "company.pem") for name in ("SSL_CERT_FILE", "NODE_EXTRA_CA_CERTS")},
        }
    ).environment({})
    for name in ("SSL_CERT_FILE", "NODE_EXTRA_CA_CERTS", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        assert company.cert_pem.bytes().strip() in Path(merged[name]).read_bytes()


def test_no_private_key_is_left_on_disk_and_the_folder_is_ours_alone(opened: Stage) -> None:
    listener = opened.listen(**PROXY)
    run_python(listener, FETCH, URL=f"{LISTED}/v1")
    folder = Path(listener.environment({})["SSL_CERT_FILE"]).parent
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert sorted(file.name for file in folder.iterdir()) == ["bundle.pem", "held", "node-extra.pem"]
    assert not any(b"PRIVATE" in file.read_bytes() for file in folder.iterdir())
    listener.close()
    assert not folder.exists()


def test_what_killed_runs_left_is_removed_and_what_a_run_holds_is_not(opened: Stage) -> None:
    held = Path(opened.listen(**PROXY).environment({})["SSL_CERT_FILE"]).parent
    assert held.is_relative_to(home.folder())
    left, begun = held.parent / "left", held.parent / "begun"
    for folder in (left, begun):
        folder.mkdir()
        (folder / "bundle.pem").write_bytes(b"")
    for folder in (left, held):
        os.utime(folder, (0, time.time() - 7200))
    opened.listen(**PROXY).environment({})
    assert not left.exists()
    assert begun.exists(), "of a run that begins"
    assert (held / "bundle.pem").exists(), "of a run that was left running"


def test_a_folder_that_cannot_be_written_is_named(opened: Stage, tmp_path: Path) -> None:
    home.write("certificates", b"not a folder")
    listener = opened.listen(**PROXY)
    with pytest.raises(LaunchError, match=str(tmp_path)) as refused:
        listener.environment({})
    assert refused.value.code == "egress.certificates"


def test_the_helper_prints_the_leafs_key_and_no_other() -> None:
    request = json.dumps({"names": ["api.example.com"], "node_extra": "", "bundle": ""})
    done = subprocess.run(
        [sys.executable, "-m", "percall.egress.certificates"], input=request.encode(), capture_output=True, check=True
    )
    answer = json.loads(done.stdout)
    assert answer["leaf"].count("PRIVATE KEY-----") == 2
    shutil.rmtree(answer["folder"])


def test_proxy_variables_come_in_both_cases_and_keep_listed_hosts_in(opened: Stage) -> None:
    listener = opened.listen(**PROXY)
    environment = listener.environment({"NO_PROXY": "intranet.example.org,.example.com,*"})
    for name in ("HTTP_PROXY", "HTTPS_PROXY"):
        assert environment[name] == environment[name.lower()]
        assert environment[name] == f"http://percall:{listener.proxy_secret}@127.0.0.1:{listener.port}"
    assert environment["NO_PROXY"].split(",") == [
        "127.0.0.1",
        "::1",
        "localhost",
        f"127.0.0.1:{listener.port}",
        "intranet.example.org",
    ]
    assert environment["NODE_USE_ENV_PROXY"] == "1"


def test_a_request_outside_any_window_is_refused_inside_the_tunnel_too(stage: Stage) -> None:
    listener = stage.listen(**PROXY)
    code = """
import os, urllib.error, urllib.request
try:
    urllib.request.urlopen(os.environ["URL"], timeout=20)
except urllib.error.HTTPError as error:
    print(error.code, error.read().decode())
"""
    answer = run_python(listener, code, URL=f"{LISTED}/v1")
    assert answer.startswith("403 ")
    assert "egress.no_window" in answer
    stage.windows.append(Window("later", "credential"))
    assert json.loads(run_python(listener, FETCH, URL=f"{LISTED}/v1"))["url"] == f"{LISTED}/v1"


def test_cutting_ends_a_tunnel(opened: Stage) -> None:
    listener = opened.listen(**PROXY, unlisted_hosts="tunnel")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        head = f"CONNECT 127.0.0.1:{silent.getsockname()[1]} HTTP/1.1\r\nHost: x\r\nProxy-Authorization: Basic "
        with socket.create_connection(("127.0.0.1", listener.port), 20) as connection:
            connection.sendall(f"{head}{credentials(listener)}\r\n\r\n".encode())
            assert connection.recv(4096).startswith(b"HTTP/1.1 200 ")
            upstream, _ = silent.accept()
            listener.cut()
            assert connection.recv(4096) == b""
            upstream.settimeout(5)
            assert upstream.recv(1) == b""
            upstream.close()


def test_the_environment_of_this_process_is_not_changed(opened: Stage) -> None:
    before = dict(os.environ)
    opened.listen(**PROXY).environment({})
    assert dict(os.environ) == before
