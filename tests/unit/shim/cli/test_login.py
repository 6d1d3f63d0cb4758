"""What a login says: all that it accepts."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from percall import home, wire
from percall.cli.login import login, tell_what_waited
from percall.errors import BrokerUnreachable, UsageError
from percall.home import Login
from percall.identity.enrolment import Enrolment
from percall_broker.model import names

if TYPE_CHECKING:
    from pathlib import Path

BROKER = "https://percall.example.com"
LOGIN = Login("g_1", BROKER, "default", "alice", "laptop", keyring="os", created_at=0, backend="a.Keyring")


def session_of(entry: wire.ServerEntry) -> wire.Session:
    return wire.Session(
        "g_1", "alice", "default", "laptop", "active", 0, administrator=False, version=1,
        servers=(wire.GrantedServer(entry),),
    )  # fmt: skip


def test_an_entry_without_a_command_is_accepted_with_its_variables_in_sight(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`BASH_ENV` or `LD_PRELOAD` decide what runs, whoever names the command."""
    monkeypatch.setenv("PERCALL_HOME", str(tmp_path))
    bare = wire.ServerEntry(
        "bare", 1, "egress", "a label", environment={"BASH_ENV": "/tmp/any"}, pass_environment=("LD_PRELOAD",),
        ways=("preload",), hosts=("https://registry.npmjs.org",),
    )  # fmt: skip
    tell_what_waited([Enrolment(LOGIN, session_of(bare), reused_key=False)])
    told = capsys.readouterr().out
    assert home.accepts(BROKER, bare)
    assert "accepted on first sight: (none: it stands in the client's config)" in told
    assert "environment  BASH_ENV=/tmp/any" in told
    assert "passed on    LD_PRELOAD" in told
    assert "intercepted  https://registry.npmjs.org" in told, "whose programs the broker's answers would be"


def test_what_is_printed_to_be_copied_is_one_word_whatever_a_broker_calls_its_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PERCALL_HOME", str(tmp_path))
    named = "files; touch owned"
    session = session_of(wire.ServerEntry(named, 1, "none", "no key", command=("files",)))
    tell_what_waited([Enrolment(LOGIN, session, reused_key=False)])
    assert f"in the client's config: percall run '{named}'\n" in capsys.readouterr().out
    changed = wire.ServerEntry(named, 2, "none", "no key", command=("others",))
    with pytest.raises(UsageError, match=f"percall trust '{named}'"):
        home.require_trust(BROKER, changed)
    tell_what_waited([Enrolment(LOGIN, session_of(changed), reused_key=False)])
    assert f"see `percall trust '{named}'`" in capsys.readouterr().out


@pytest.fixture
def laptop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    passphrase = tmp_path / "passphrase"
    passphrase.touch(0o600)
    passphrase.write_text("a passphrase for the tests\n")
    monkeypatch.setenv("PERCALL_PASSPHRASE_FILE", str(passphrase))
    monkeypatch.setenv("PERCALL_HOME", str(tmp_path / "percall"))


@pytest.mark.usefixtures("laptop")
@pytest.mark.parametrize(
    ("agent", "device"), [("_x", "laptop"), ("@team", "laptop"), ("a" * 64, "laptop"), ("cursor", "é" * 128)]
)
def test_an_agent_and_a_device_go_by_each_name_that_a_broker_takes(agent: str, device: str) -> None:
    names.check_name(agent, "agent")
    with pytest.raises(BrokerUnreachable):  # which is asked once the names have been looked at
        login("http://127.0.0.1:9", invite="x" * 32, agent=agent, device=device, keyring="file")


@pytest.mark.usefixtures("laptop")
@pytest.mark.parametrize(
    ("agent", "device"),
    [("", "laptop"), (".x", "laptop"), ("-x", "laptop"), ("a b", "laptop"), ("é", "laptop"), ("a" * 65, "laptop"),
     ("cursor", "two\nlines"), ("cursor", "a" * 129)],
)  # fmt: skip
def test_an_agent_and_a_device_go_by_no_name_that_a_broker_refuses(agent: str, device: str) -> None:
    with pytest.raises(UsageError) as caught:
        login("http://127.0.0.1:9", invite="x" * 32, agent=agent, device=device, keyring="file")
    assert caught.value.code == "usage.name"
