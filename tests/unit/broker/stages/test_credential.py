"""A call credential is its own call's, grant's, device's, server's and tool's, and of its time."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from percall import wire
from percall_broker.crypto.tokens import CallCredentials
from percall_broker.model.entry import Entry
from percall_broker.model.errors import Forbidden
from percall_broker.model.records import Grant, Identity, Server
from percall_broker.stages import credential
from percall_broker.stages.frame import parse

NOW = 1000.5
CREDENTIALS = CallCredentials(bytes(32))
GRANT = Grant(
    "g", "alice", "default", "key", "laptop", administrator=False, servers={}, state="active", version=1, expires_at=0,
    created_at=0, created_by="root",
)  # fmt: skip
IDENTITY = Identity(GRANT, "call")
FRAME = parse(b'{"method":"tools/call","params":{"name":"get_me","arguments":{"a":1}}}')
SERVER = Server("github", 1, Entry("GitHub", "egress", ("true",)), "active", 0)
TEXT = credential.issue(CREDENTIALS, IDENTITY, SERVER, FRAME, NOW) or ""


def checked(text: str = TEXT, now: float = NOW, **of: Any) -> str:
    """The code of the refusal; empty where there is none."""
    asked: dict[str, Any] = {"identity": replace(IDENTITY, jti="later"), "call": "call", "server": "github"}
    asked |= {"tool": "get_me", **of}
    try:
        credential.check(CREDENTIALS, text, **asked, now=now)
    except Forbidden as refused:
        return refused.code
    return ""


def test_a_credential_holds_for_its_call_for_so_many_seconds() -> None:
    held = CREDENTIALS.verify(TEXT, NOW)
    assert (held.arguments, held.expires_at) == (FRAME.digest, int(NOW) + wire.CREDENTIAL_LIFETIME_SECONDS)
    assert checked() == checked(now=held.expires_at - 1) == ""
    assert checked(now=held.expires_at) == "credential.expired"


@pytest.mark.parametrize(
    "of",
    [
        {"call": "another"}, {"server": "gitlab"}, {"tool": "get_you"},
        {"identity": Identity(replace(GRANT, id="another"), "later")},
        {"identity": Identity(replace(GRANT, device="another"), "later")},
    ],
)  # fmt: skip
def test_it_holds_for_nothing_else(of: dict[str, Any]) -> None:
    assert checked(**of) == "credential.binding"


@pytest.mark.parametrize(
    "text", ["", "pcc1.x.y", TEXT[:-1], CallCredentials(b"k" * 32).issue(CREDENTIALS.verify(TEXT, 0))]
)
def test_what_we_did_not_issue_is_none(text: str) -> None:
    assert checked(text) == "credential.invalid"
