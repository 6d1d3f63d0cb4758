"""`percall agent`: which logins of an agent end, and which are kept here because their broker says no."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from percall import home, wire
from percall.cli import agent
from percall.errors import BrokerRefusal, BrokerUnreachable, IdentityError, PercallError
from percall.identity import claims

if TYPE_CHECKING:
    from pathlib import Path

    from percall.home import Login

BROKER = "https://percall.example.com"
LAST = BrokerRefusal("administrator.last", "The agent default of admin is the last.", "First make another one.")
AWAY = BrokerUnreachable("broker.unreachable", f"The broker at {BROKER} is unreachable.", "Check the network.")
LOST = IdentityError("keyring.missing", "The keyring has no key of this grant.", "Log in again.")


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PERCALL_HOME", str(tmp_path))


def log_in(grant: str, person: str) -> None:
    home.save_login(home.Login(grant, BROKER, "default", person, "laptop", "file", 1))


def answering(monkeypatch: pytest.MonkeyPatch, answers: dict[str, PercallError | tuple[str, ...]]) -> None:
    """A broker that says this of each grant."""

    def leave(login: Login) -> wire.Departed:
        said = answers[login.grant]
        if isinstance(said, PercallError):
            raise said
        return wire.Departed(said)

    monkeypatch.setattr(claims, "leave", leave)


def left() -> set[str]:
    return {login.grant for login in home.logins()}


def test_the_last_administrators_key_is_kept_though_another_person_of_the_same_agent_leaves(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    log_in("admins", "admin")
    log_in("bobs", "bob")
    answering(monkeypatch, {"admins": LAST, "bobs": ("bobs",)})
    with pytest.raises(BrokerRefusal) as refused:
        agent.remove("default")
    assert (refused.value.code, refused.value.next_step) == (LAST.code, "First make another one.")
    assert left() == {"admins"}
    assert f"Agent default of bob is removed at {BROKER}: 1 grant ended" in capsys.readouterr().out


def test_one_key_ends_all_that_it_holds_and_what_was_over_already_goes_too(monkeypatch: pytest.MonkeyPatch) -> None:
    for grant in ("without_its_item", "signs", "over"):
        log_in(grant, "bob")
    answering(monkeypatch, {"without_its_item": LOST, "signs": ("signs", "without_its_item"), "over": ()})
    agent.remove("default")
    assert left() == set()


def test_a_broker_that_is_away_keeps_the_agent_until_it_is_to_be_forgotten_here_alone(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    log_in("bobs", "bob")
    answering(monkeypatch, {"bobs": AWAY})
    with pytest.raises(BrokerUnreachable, match="--local"):
        agent.remove("default")
    assert left() == {"bobs"}
    agent.remove("default", local=True)
    assert left() == set()
    assert "1 grant may still stand" in capsys.readouterr().out


def test_agents_of_two_people_are_two_rows(capsys: pytest.CaptureFixture[str]) -> None:
    log_in("admins", "admin")
    log_in("bobs", "bob")
    agent.list_agents()
    assert [line.split()[2] for line in capsys.readouterr().out.splitlines()] == ["person", "admin", "bob"]
