"""The broker over TLS: its own, behind nginx, and by way of a company's proxy that alone can find it."""

from __future__ import annotations

import contextlib
import datetime as dt
import http.client
import json
import os
import re
import shutil
import socket
import ssl
import subprocess
import sys
import threading
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import trustme

from harness.processes import (
    COMMANDS,
    SERVERS,
    Broker,
    Laptop,
    Line,
    UnusualBroker,
    command,
    free_port,
    keyed_entry,
    wait_for,
)
from harness.upstream import CANARY, Upstream

if TYPE_CHECKING:
    from collections.abc import Iterator

NAME = "percall.example.test"
"""Only the tests' proxy knows where that is."""
PASSWORD = "p@ss:w/rd-of-the-proxy"
NGINX = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
REFERENCE = Path(__file__).parents[2] / "docs" / "reference" / "percall-broker.md"


@dataclass
class Certificates:
    """A certificate and its key as files, and its authority's certificate."""

    folder: Path

    def issue(self, name: str, *, expired: bool = False) -> tuple[Path, Path, Path]:
        self.folder.mkdir(parents=True, exist_ok=True)
        authority = trustme.CA()
        yesterday = dt.datetime.now(dt.UTC) - dt.timedelta(days=1)
        issued = authority.issue_cert(name, not_after=yesterday if expired else None)
        certificate, key, ca = (self.folder / f"{part}.pem" for part in ("certificate", "key", "authority"))
        issued.cert_chain_pems[0].write_to_path(certificate)
        issued.private_key_pem.write_to_path(key)
        authority.cert_pem.write_to_path(ca)
        return certificate, key, ca


@pytest.fixture(params=["", f"al%40ice:{PASSWORD}"], ids=["open", "with credentials"])
def proxy(request: pytest.FixtureRequest) -> Iterator[tuple[str, Line]]:
    """The proxy's URL as a person has it in their environment, and what the proxy says."""
    shown = [request.param.replace("%40", "@")] if request.param else []
    with running_proxy(*shown) as (port, said):
        user, _, password = request.param.partition(":")
        written = f"{user}:{password.replace('@', '%40').replace('/', '%2F')}@" if user else ""
        yield f"http://{written}127.0.0.1:{port}", said


@contextlib.contextmanager
def running_proxy(*arguments: str) -> Iterator[tuple[int, Line]]:
    command = [sys.executable, str(SERVERS / "connect_proxy.py"), *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        said = Line(process.stdout)
        try:
            yield int(said.next() or b"0"), said
        finally:
            process.kill()
            said.join(5)


def test_a_broker_that_only_the_companys_proxy_can_reach_is_reached_by_it_alone(
    tmp_path: Path, upstream: Upstream, proxy: tuple[str, Line]
) -> None:
    certificate, key, ca = Certificates(tmp_path / "tls").issue(NAME)
    port, (url, said) = free_port(), proxy
    serve = ("--listen", f"127.0.0.1:{port}", "--tls-cert", str(certificate), "--tls-key", str(key))
    public = f"https://{NAME}:{port}"
    extra = {"HTTPS_PROXY": url, "NO_PROXY": "localhost,10.0.0.0/8,.example.com"}
    with UnusualBroker(
        tmp_path / "b", "", (*serve, "--public-url", public), ("--ca-file", str(ca)), "", extra
    ) as broker:
        broker.add_server("keyed", keyed_entry(upstream.url), CANARY)
        laptop = broker.enrol("alice", "keyed")
        laptop.extra = {}  # as a client may start it: without a variable of the person's
        with laptop.client("keyed") as client:
            client.initialize()
            assert client.call_text("get_item").startswith("200 ")
            child = json.loads(client.call_text("get_environment"))
        assert "reachable" in laptop.run("status").stdout
        assert not [name for name in child if "proxy" in name.lower()], "the child has no part in it"
        assert {line.split()[1] for line in said.text[1:]} == {f"{NAME}:{port}".encode()}
        elsewhere = "http://127.0.0.1:9"
        laptop.extra = {"HTTPS_PROXY": elsewhere}
        told = laptop.run("doctor", "--no-start", "--json").stdout
        looked_at = {row["check"]: row for row in map(json.loads, told.splitlines()) if row["code"] != "proxy.changed"}
        assert looked_at["proxy"]["state"] == "ok"
        assert looked_at["proxy"]["message"].endswith(f"127.0.0.1:{url.rpartition(':')[2]}.")
        assert looked_at["broker"]["state"] == "ok"
        (changed,) = [row for row in map(json.loads, told.splitlines()) if row["code"] == "proxy.changed"]
        assert elsewhere in changed["message"]
        assert changed["next_step"].endswith(f"percall login {public}")
        assert PASSWORD not in told
        kept = b"".join(path.read_bytes() for path in laptop.home.rglob("*") if path.is_file())
        assert PASSWORD.encode() not in kept
        assert b"p%40ss" not in kept


def test_a_proxy_that_refuses_or_is_not_there_is_named(tmp_path: Path) -> None:
    with running_proxy("alice:secret-of-alice") as (port, _):
        for given, code in (("", "proxy.credentials"), ("alice:wrong@", "proxy.credentials")):
            done = login(tmp_path, f"https://{NAME}", HTTPS_PROXY=f"http://{given}127.0.0.1:{port}")
            assert f"[{code}]" in done
            assert f"http://127.0.0.1:{port}" in done
            assert "wrong" not in done
        url = f"http://alice:secret-of-alice@127.0.0.1:{port}"
        refused = login(tmp_path, "https://forbidden.test", HTTPS_PROXY=url)
        assert "[proxy.refused]" in refused
        assert "403" in refused
        assert "secret-of-alice" not in refused
    gone = login(tmp_path, f"https://{NAME}", https_proxy=f"http://127.0.0.1:{free_port()}")
    assert "by way of the proxy" in gone
    for strange in ("socks5://127.0.0.1:1", "https://user:secret-of-alice@proxy.test"):
        done = login(tmp_path, f"https://{NAME}", ALL_PROXY=strange)
        assert "[proxy.url]" in done
        assert "secret-of-alice" not in done


def login(folder: Path, url: str, *more: str, **extra: str) -> str:
    """What `login` says when it fails, as it must."""
    laptop = Laptop(folder / "login", extra)
    done = laptop.run("login", url, "--invite", "x" * 32, "--keyring", "file", *more, check=False)
    assert done.returncode != 0
    assert "Traceback" not in done.stderr
    return done.stderr


@contextlib.contextmanager
def tls_server(certificate: Path, key: Path) -> Iterator[str]:
    """The URL of something that speaks TLS, and is no broker."""
    with ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as server:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        server.socket = context.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        yield f"https://localhost:{server.server_port}"
        server.shutdown()


def test_a_certificate_that_does_not_hold_is_refused_with_why(tmp_path: Path) -> None:
    certificates = Certificates(tmp_path / "tls")
    certificate, key, ca = certificates.issue("localhost")
    with tls_server(certificate, key) as url:
        assert "by nobody this machine trusts" in login(tmp_path, url)
        assert "--ca-file" in login(tmp_path, url)
        assert "[broker.stranger]" in login(tmp_path, url, "--ca-file", str(ca)), "the certificate holds"
    certificate, key, ca = certificates.issue("other.example.com")
    with tls_server(certificate, key) as url:
        assert "is for another name than localhost" in login(tmp_path, url, "--ca-file", str(ca))
    certificate, key, ca = certificates.issue("localhost", expired=True)
    with tls_server(certificate, key) as url:
        assert "has expired" in login(tmp_path, url, "--ca-file", str(ca))


def test_connections_that_never_begin_tls_shut_nobody_out(tmp_path: Path) -> None:
    certificate, key, ca = Certificates(tmp_path / "tls").issue("127.0.0.1")
    environment = Broker(tmp_path).environment
    command("percall-broker", "init", environment=environment)
    limited = ["/bin/sh", "-c", 'ulimit -n 128; exec "$@"', "sh", str(COMMANDS / "percall-broker"), "serve"]
    serve = ["--listen", "127.0.0.1:0", "--tls-cert", str(certificate), "--tls-key", str(key)]
    with (
        subprocess.Popen([*limited, *serve], env=environment, stdout=subprocess.PIPE) as broker,
        contextlib.ExitStack() as opened,
    ):
        try:
            said = Line(broker.stdout).until(b"listening on ").decode()
            port = int(said.rpartition(":")[2])
            for _ in range(200):
                opened.enter_context(socket.create_connection(("127.0.0.1", port)))
            trusted = ssl.create_default_context(cafile=ca)
            connection = http.client.HTTPSConnection("127.0.0.1", port, context=trusted, timeout=5)
            opened.callback(connection.close)
            connection.request("GET", "/healthz")
            assert connection.getresponse().status == 200
        finally:
            broker.kill()


@pytest.mark.skipif(NGINX is None, reason="no nginx here: apt-get install --no-install-recommends nginx-light")
def test_behind_nginx_calls_and_streams_pass_and_nobody_gets_past_it(tmp_path: Path, upstream: Upstream) -> None:
    certificate, key, ca = Certificates(tmp_path / "tls").issue("localhost")
    outside, inside = free_port(), free_port()
    with nginx(tmp_path / "nginx", certificate, key, outside, inside):
        serve = ("--listen", f"0.0.0.0:{inside}", "--trusted-proxy", "127.0.0.3")
        more = ("--public-url", f"https://localhost:{outside}")
        with UnusualBroker(tmp_path / "b", "", (*serve, *more), ("--ca-file", str(ca))) as broker:
            broker.add_server("keyed", keyed_entry(upstream.url), CANARY)
            laptop = broker.enrol("alice", "keyed")
            with laptop.client("keyed") as client:
                client.initialize()
                assert client.call_text("get_item").startswith("200 ")
                (grant,) = [row for row in broker.rows("grant", "list") if row["person"] == "alice"]
                broker.administrator.administer("grant", "revoke", grant.get("grant") or grant["id"])
                client.stderr.until(b"[grant.revoked]")  # by the event stream: no call was made

            with pytest.raises(ConnectionError):
                ask(http.client.HTTPConnection("127.0.0.1", inside, timeout=10), {})
            context = ssl.create_default_context(cafile=str(ca))
            through = http.client.HTTPSConnection(
                "localhost", outside, timeout=10, context=context, source_address=("127.0.0.2", 0)
            )
            assert ask(through, {"X-Forwarded-For": "6.6.6.6", "Forwarded": "for=6.6.6.6"}) == 401
            broker.stop()
            refusals = [line for line in broker.stderr.text if b"grant.missing" in line]
            assert [json.loads(line)["address"] for line in refusals] == ["127.0.0.2"]


def ask(connection: http.client.HTTPConnection, headers: dict[str, str]) -> int:
    """The status of a stranger's request."""
    try:
        connection.request("GET", "/v1/session", headers={"Percall-Wire": "1", **headers})
        return connection.getresponse().status
    finally:
        connection.close()


@contextlib.contextmanager
def nginx(folder: Path, certificate: Path, key: Path, outside: int, inside: int) -> Iterator[None]:
    """nginx with the configuration that the reference shows."""
    folder.mkdir()
    shown = re.search(r"```nginx\n(.*?)```", REFERENCE.read_text(), re.DOTALL)
    assert shown is not None
    server = shown[1]
    for theirs, ours in {
        "listen 443 ssl": f"listen 127.0.0.1:{outside} ssl",
        "percall.example.com": "localhost",
        "/etc/ssl/percall.pem": str(certificate),
        "/etc/ssl/percall.key": str(key),
        "http://10.0.0.7:8765": f"http://127.0.0.1:{inside}",
        "location / {": "location / { proxy_bind 127.0.0.3;",
    }.items():
        assert theirs in server
        server = server.replace(theirs, ours)
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    places = "".join(f"{kind}_temp_path {folder}/{kind};\n" for kind in kinds)
    configuration = folder / "nginx.conf"
    configuration.write_text(
        f"daemon off; pid {folder}/pid; error_log {folder}/error.log; worker_processes 1;\n"
        f"events {{}}\nhttp {{\naccess_log off;\n{places}{server}}}\n"
    )
    assert NGINX is not None
    with subprocess.Popen([NGINX, "-p", str(folder), "-c", str(configuration)], stderr=subprocess.PIPE) as process:
        try:
            wait_for(lambda: _answers(outside) or process.poll() is not None, "nginx listens")
            assert process.poll() is None, process.stderr.read() if process.stderr else ""
            yield
        finally:
            process.terminate()


def _answers(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False
