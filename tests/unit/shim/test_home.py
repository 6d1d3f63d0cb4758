"""The files under PERCALL_HOME."""

from __future__ import annotations

import dataclasses
import json
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from percall import home, wire
from percall.errors import UsageError

BROKER = "https://percall.example.com"
ENTRY = wire.ServerEntry("github", 1, "egress", "key stays in the broker", ("npx", "server"), {"TOKEN": "{key}"})


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PERCALL_HOME", str(tmp_path / "percall"))
    return tmp_path / "percall"


def log_in(
    grant: str,
    *,
    agent: str = "default",
    broker: str = BROKER,
    state: str = "active",
    at: int = 1,
    expires_at: int = 0,
    tools: tuple[str, ...] = ("get_*",),
) -> None:
    home.save_login(home.Login(grant, broker, agent, "alice", "laptop", "file", at))
    servers = (wire.GrantedServer(ENTRY, tools),)
    home.save_session(wire.Session(grant, "alice", agent, "laptop", state, expires_at, False, 1, servers))


def test_what_was_saved_is_read_back(place: Path) -> None:
    log_in("g1")
    found = home.find_server("github", None)
    assert found.login == home.login("g1")
    assert found.granted.entry == ENTRY
    assert found.session == home.session("g1")
    assert place.is_dir()


def test_nobody_else_can_read_what_was_saved(place: Path) -> None:
    place.mkdir(mode=0o755)
    log_in("g1")
    home.save_trust(BROKER, ENTRY, "/usr/bin")
    for path in (place, *place.rglob("*")):
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600), path


def test_the_newest_usable_grant_of_a_broker_is_the_one_that_runs() -> None:
    log_in("old", at=1)
    log_in("new", at=2)
    log_in("newest", at=3, state="revoked")
    assert home.find_server("github", None).login.grant == "new"


def test_of_grants_that_allow_the_same_the_one_that_ends_last_runs() -> None:
    log_in("long", at=1, expires_at=2**40)
    log_in("short", at=2, expires_at=2**39)
    assert home.find_server("github", None).login.grant == "long"
    log_in("endless", at=1)
    assert home.find_server("github", None).login.grant == "endless"


def test_grants_that_differ_are_both_named_and_nothing_is_guessed() -> None:
    log_in("reads", tools=("get_*",))
    log_in("writes", tools=("get_item", "create_*"))
    with pytest.raises(UsageError) as caught:
        home.find_server("github", None)
    assert caught.value.code == "run.ambiguous"
    for named in ("reads", "writes", "create_*"):
        assert named in caught.value.message
    assert home.find_server("github", None, any_grant=True).granted.entry == ENTRY
    log_in("writes", tools=("create_*",), state="revoked")
    assert home.find_server("github", None).login.grant == "reads"


def test_a_grant_that_allows_more_comes_before_the_one_that_it_covers_whichever_ends_first() -> None:
    log_in("usual", tools=("get_*",))
    log_in("wider", tools=("delete_item", "get_*"), expires_at=2**39)
    assert home.find_server("github", None).login.grant == "wider"
    log_in("usual", tools=("get_*", "list_*"))
    with pytest.raises(UsageError, match="several grants"):
        home.find_server("github", None)
    log_in("usual", tools=("get_*",), expires_at=2**38)
    assert home.find_server("github", None).login.grant == "wider"
    log_in("endless", tools=("get_*", "delete_item"))
    assert home.find_server("github", None).login.grant == "endless", "of those that allow the same, it ends last"


@pytest.mark.parametrize("wider", ["*", "get_*", "g*_i*", "*_*"])
def test_a_pattern_covers_those_that_stand_for_less(wider: str) -> None:
    log_in("usual", tools=("get_i*", "get_item"))
    log_in("wider", tools=(wider, "create_item"), expires_at=2**39)
    assert home.find_server("github", None).login.grant == "wider"
    log_in("usual", tools=("get_*", "drop_item"))
    if wider in {"get_*", "g*_i*"}:
        with pytest.raises(UsageError, match="several grants"):
            home.find_server("github", None)


def test_a_forgotten_login_leaves_nothing_to_start_from() -> None:
    log_in("g1")
    home.forget_login("g1")
    home.forget_login("g1")
    with pytest.raises(UsageError, match="No login"):
        home.find_server("github", None)


def test_a_revoked_grant_is_found_when_there_is_no_other_so_that_refusals_can_say_why() -> None:
    log_in("g1", state="revoked")
    assert home.find_server("github", None).session.state == "revoked"


def test_a_server_granted_at_two_brokers_is_not_guessed() -> None:
    log_in("g1")
    log_in("g2", broker="https://other.example.com")
    with pytest.raises(UsageError, match=r"https://other\.example\.com and at https://percall") as caught:
        home.find_server("github", None)
    assert caught.value.code == "run.ambiguous"


def test_a_grant_that_lapses_hands_its_server_s_name_to_no_other_broker() -> None:
    """Else a second broker's server of that name runs in a config that was made for the first one's."""
    log_in("g1", expires_at=1)
    log_in("g2", broker="https://other.example.com")
    with pytest.raises(UsageError) as caught:
        home.find_server("github", None)
    assert caught.value.code == "run.ambiguous"


def test_an_unknown_server_is_answered_with_those_that_are_known_and_the_place(place: Path) -> None:
    log_in("g1")
    with pytest.raises(UsageError, match="known there: github") as caught:
        home.find_server("githb", None)
    assert str(place) in caught.value.message
    log_in("g1", agent="claude")
    with pytest.raises(UsageError, match="known there: github of agent claude"):
        home.find_server("githb", None)


def test_a_server_of_another_agent_is_answered_with_the_option_to_add() -> None:
    log_in("g1", agent="claude")
    with pytest.raises(UsageError, match="--agent claude"):
        home.find_server("github", None)


@pytest.mark.parametrize(
    ("state", "expires_at", "refusal", "why"),
    [
        ("revoked", 0, wire.Refusal("grant.revoked", "This agent's grant is revoked."), "grant is revoked."),
        ("active", 1, None, "That grant has expired."),
    ],
)
def test_an_agent_whose_own_grant_for_it_has_ended_is_not_suggested(
    state: str, expires_at: int, refusal: wire.Refusal | None, why: str
) -> None:
    log_in("g1", agent="claude", state=state, expires_at=expires_at)
    session = home.session("g1")
    assert session is not None
    home.save_session(dataclasses.replace(session, refusal=refusal))
    with pytest.raises(UsageError, match=f"was to agent 'claude': .*{why}") as caught:
        home.find_server("github", "cursor")
    assert "--agent" not in caught.value.next_step
    log_in("g2", agent="vscode")
    with pytest.raises(UsageError, match=r"Add --agent vscode\.$"):
        home.find_server("github", "cursor")


def test_another_agent_s_name_is_one_word_of_what_is_to_be_added() -> None:
    log_in("g1", agent="cursor; id")
    with pytest.raises(UsageError, match=r"Add --agent 'cursor; id'\.") as caught:
        home.find_server("github", None)
    assert caught.value.code == "run.unknown_server"


def test_without_a_login_the_answer_says_how_to_get_one() -> None:
    with pytest.raises(UsageError, match="percall login") as caught:
        home.find_server("github", None)
    assert caught.value.code == "run.no_login"


def test_a_damaged_file_is_named(place: Path) -> None:
    log_in("g1")
    (place / "sessions" / "g1.json").write_bytes(b'{"grant": 1}')
    with pytest.raises(UsageError, match=r"sessions/g1\.json") as caught:
        home.find_server("github", None)
    assert caught.value.code == "home.damaged"


@pytest.mark.parametrize("kind", ["logins", "sessions"])
def test_a_damaged_file_of_another_agent_s_stops_nobody_and_is_told(place: Path, kind: str) -> None:
    log_in("g1", agent="claude")
    log_in("g2", agent="cursor")
    (place / kind / "g1.json").write_bytes(b"{")
    assert home.find_server("github", "cursor").login.grant == "g2"
    assert [login.grant for login in home.logins("cursor")] == ["g2"]
    assert home.session("g1" if kind == "sessions" else "none") is None
    with pytest.raises(UsageError) as caught:
        home.find_server("github", "claude")
    assert caught.value.code == "home.damaged", "it may be the very one"
    assert [str(place / kind / "g1.json") in str(error) for error in home.damaged()] == [True]


def test_a_damaged_session_of_the_same_agent_stops_it_only_where_it_may_be_of_another_broker(place: Path) -> None:
    log_in("g1")
    log_in("g2")
    (place / "sessions" / "g2.json").write_bytes(b"{")
    assert home.find_server("github", None).login.grant == "g1"
    log_in("g3", broker="https://other.example.com")
    (place / "sessions" / "g3.json").write_bytes(b"{")
    with pytest.raises(UsageError) as caught:
        home.find_server("github", None)
    assert caught.value.code == "home.damaged", "it might be ambiguous"


def test_where_no_login_can_be_read_the_damage_is_told(place: Path) -> None:
    log_in("g1")
    (place / "logins" / "g1.json").write_bytes(b"{")
    with pytest.raises(UsageError) as caught:
        home.logins()
    assert caught.value.code == "home.damaged"


@pytest.mark.parametrize("grant", ["", "../g1", "a/b", "a.b", "g\x00"])
def test_a_grants_id_cannot_lead_out_of_the_folder(grant: str) -> None:
    with pytest.raises(UsageError):
        home.record_path("logins", grant)


def test_a_launch_needs_trust() -> None:
    with pytest.raises(UsageError, match="percall trust github") as caught:
        home.require_trust(BROKER, ENTRY)
    assert caught.value.code == "trust.missing"


@pytest.mark.parametrize(
    "change",
    [{"command": ("sh", "-c", "evil")}, {"environment": {"NODE_OPTIONS": "-r evil"}}, {"pass_environment": ("X",)}],
)
def test_whatever_changes_the_code_that_runs_needs_trust_again(change: dict[str, Any]) -> None:
    home.save_trust(BROKER, ENTRY, "/opt/node/bin")
    changed = dataclasses.replace(ENTRY, **change)
    with pytest.raises(UsageError) as caught:
        home.require_trust(BROKER, changed)
    assert caught.value.code == "trust.changed"
    home.save_trust(BROKER, changed, "/usr/bin")
    assert home.require_trust(BROKER, changed).path == "/usr/bin"


@pytest.mark.parametrize("way", ["proxy", "preload"])
def test_an_origin_that_the_child_would_take_the_broker_s_answers_for_needs_trust_again(way: str) -> None:
    """A registry of packages among them, and the broker's answer is the program that the trusted command runs."""
    hosts = ("https://api.example.com", "https://files.example.com")
    entry = dataclasses.replace(ENTRY, delivery="egress", ways=(way,), hosts=hosts)
    home.save_trust(BROKER, entry, "/usr/bin")
    assert home.require_trust(BROKER, dataclasses.replace(entry, hosts=hosts[:1])).path == "/usr/bin", "fewer"
    more = dataclasses.replace(entry, hosts=(*hosts, "https://registry.npmjs.org"))
    with pytest.raises(UsageError) as caught:
        home.require_trust(BROKER, more)
    assert caught.value.code == "trust.changed"
    home.save_trust(BROKER, dataclasses.replace(entry, delivery="none"), "/usr/bin")
    with pytest.raises(UsageError):
        home.require_trust(BROKER, entry)
    by_url = dataclasses.replace(more, ways=("base-url",))
    assert home.require_trust(BROKER, by_url).path == "/usr/bin", "what it asks for stands in its environment"


def test_what_an_earlier_version_accepted_is_what_it_is_at_the_next_start(place: Path) -> None:
    entry = dataclasses.replace(ENTRY, delivery="egress", ways=("proxy",), hosts=("https://api.example.com",))
    accepted_at = home.save_trust(BROKER, entry, "/usr/bin").accepted_at
    (file,) = place.glob("trust/*/*.json")
    file.write_text(
        json.dumps({name: value for name, value in json.loads(file.read_text()).items() if name != "hosts"})
    )
    assert home.require_trust(BROKER, entry).accepted_at == accepted_at
    with pytest.raises(UsageError):
        home.require_trust(BROKER, dataclasses.replace(entry, hosts=("https://registry.npmjs.org",)))


def test_a_new_version_with_the_same_launch_stays_trusted() -> None:
    home.save_trust(BROKER, ENTRY, "/opt/node/bin")
    assert home.require_trust(BROKER, dataclasses.replace(ENTRY, version=7)).path == "/opt/node/bin"


def test_trust_in_one_brokers_server_is_not_trust_in_anothers_of_that_name() -> None:
    home.save_trust(BROKER, ENTRY, "/usr/bin")
    with pytest.raises(UsageError):
        home.require_trust("https://other.example.com", ENTRY)


def test_a_place_that_cannot_be_written_is_named(place: Path) -> None:
    place.write_text("a file where the folder should be")
    with pytest.raises(UsageError, match=str(place)) as caught:
        log_in("g1")
    assert caught.value.code == "home.write"


def test_importing_it_costs_run_neither_typing_nor_pathlib() -> None:
    probe = "import sys, percall.home; print(sorted({'typing', 'pathlib', 'hashlib', 'tempfile'} & set(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-S", "-c", probe],
        capture_output=True,
        text=True,
        check=False,
        env={"PYTHONPATH": str(Path(home.__file__).parent.parent)},
    )
    assert done.stdout.strip() == "[]", done.stderr
