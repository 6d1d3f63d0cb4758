"""The process's own log: one JSON object a line, whatever comes, and no secret, no argument, no stranger's words."""

from __future__ import annotations

import json
import socket
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from harness.processes import keyed_entry, wait_for
from harness.signing import SigningLaptop, call_message
from harness.upstream import CANARY, Upstream
from integration.conftest import Served
from percall import wire

if TYPE_CHECKING:
    from pathlib import Path

ARGUMENT = "an-argument-of-nobody-s-business"
STRANGE = "written-by-a-stranger"


def raw(url: str, sent: bytes) -> None:
    """Bytes that may be no HTTP at all."""
    parts = urlsplit(url)
    with socket.create_connection((parts.hostname or "", parts.port or 0), timeout=5) as connection:
        connection.sendall(sent)
        connection.shutdown(socket.SHUT_WR)
        while connection.recv(4096):
            pass


def test_the_log_is_json_and_holds_no_secret_whatever_comes(tmp_path: Path, upstream: Upstream) -> None:
    with Served(tmp_path) as served:
        served.add_server("keyed", keyed_entry(upstream.url), CANARY)
        served.add_server("away", keyed_entry("http://127.0.0.1:9"), CANARY)
        administrator = served.administrator
        hook = administrator.administer("POST", "/v1/admin/webhooks", {"url": "http://127.0.0.1:9/hook/" + STRANGE})
        laptop, _ = served.enrol()
        far, _ = served.enrol("away")
        invite = served.invite()["invite"]

        # What goes well, and what an upstream that is away makes of it.
        for one, server in ((laptop, "keyed"), (far, "away")):
            call = one.call(server, "get_item", {"text": ARGUMENT})
            url = upstream.url if server == "keyed" else "http://127.0.0.1:9"
            one.request(server, f"{url}/items?q={ARGUMENT}", wire.Window(call["call"], call["credential"]))
        # Strangers and thieves.
        assert SigningLaptop(served.url).enrol(STRANGE + invite).code == "invite.unknown"
        thief = SigningLaptop(served.url, token=laptop.token, nonce=laptop.nonce)
        assert thief.send("GET", wire.PATH_SESSION).code == "proof.device"
        laptop.exchange("GET", wire.PATH_SESSION, b"", {"Authorization": f"DPoP {laptop.token}x", "Percall-Wire": "1"})
        laptop.exchange("GET", "/" + STRANGE, b"", {"Percall-Wire": STRANGE})
        # Frames and forms that are none.
        head, _, frame = call_message("keyed", "tools/call", {"name": STRANGE, "arguments": {"x": ARGUMENT}}).partition(
            b"\n"
        )
        for body in (
            b"{" + head + b"\n" + frame,
            head + b"\n" + frame.replace(b'"x"', b'"x":1,"x"'),
            ARGUMENT.encode(),
        ):
            assert laptop.send("POST", wire.PATH_CALLS, body).status == 400
        for path, form in (
            ("/v1/admin/servers", {"name": "n", "entry": STRANGE, "secret": CANARY}),
            ("/v1/admin/servers/keyed/key", {"secret": CANARY + "\n"}),
            ("/v1/admin/servers/keyed/key", {"secrets": CANARY}),
        ):
            assert administrator.send("POST", path, json.dumps(form).encode()).status == 400
        authority = urlsplit(served.url).netloc
        for sent in (
            f"GET /{STRANGE} HTTP/9.9\r\n\r\n".encode(),
            f"{STRANGE}\r\n\r\n".encode(),
            f"POST /v1/calls HTTP/1.1\r\nHost: {STRANGE}\r\nContent-Length: 5, 5\r\n\r\n".encode(),
            f"POST /v1/calls HTTP/1.1\r\nHost: {authority}\r\nContent-Length: 99\r\n\r\n{STRANGE}".encode(),
        ):
            raw(served.url, sent)
        wait_for(lambda: any(hook["webhook"].encode() in line for line in served.stderr.text), "the endpoint's failure")
        served.stop()
        lines = [line for line in b"".join(served.stderr.text).decode().splitlines() if line]

    told = [json.loads(line) for line in lines]
    assert all({"event", "level", "timestamp"} <= set(one) for one in told)
    assert {"attack refused", "event not delivered"} <= {one["event"] for one in told}
    assert "a library says" not in {one["event"] for one in told}, "who sends no HTTP could fill the disk with it"
    secrets = {"the key": CANARY, "an argument": ARGUMENT, "a stranger's text": STRANGE, "an invite": invite}
    secrets |= {"a grant's token": laptop.token, "an endpoint's key": hook["key"], "a nonce": laptop.nonce}
    everything = "\n".join(lines)
    assert [name for name, secret in secrets.items() if secret in everything] == []
