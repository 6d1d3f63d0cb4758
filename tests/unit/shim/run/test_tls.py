"""The broker behind TLS: the login's own authority is believed, and no other."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING

import pytest
import trustme

from harness.processes import wait_for
from unit.shim.run.conftest import Laptop
from unit.shim.run.small_broker import SmallBroker

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("is_trusted", [True, False])
def test_calls_go_over_tls_to_a_broker_that_the_logins_authority_vouches_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_trusted: bool
) -> None:
    monkeypatch.setenv("PERCALL_HOME", str(tmp_path / "home"))
    authority, other = trustme.CA(), trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    ca_file = tmp_path / "authority.pem"
    (authority if is_trusted else other).cert_pem.write_to_path(ca_file)
    broker = SmallBroker(context=context)
    laptop = Laptop(tmp_path, broker, str(ca_file))
    with laptop.client() as client:
        client.initialize()
        if not is_trusted:
            assert "broker.certificate" in client.call("echo")["content"][0]["text"]
        else:
            text = "x" * 1_000_000
            assert client.call_text("echo", {"text": text}) == text
            calls = [client.send("tools/call", {"name": "echo", "arguments": {"text": str(n)}}) for n in range(40)]
            assert [client.receive(c)["result"]["content"][0]["text"] for c in calls] == [str(n) for n in range(40)]
            wait_for(lambda: len(broker.settled) == 41, "all is settled")
    broker.close()
