"""The grant's patterns: the default is no."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from percall_broker.model.entry import Entry
from percall_broker.model.records import Grant, Scope, Server
from percall_broker.stages.decide import decide
from percall_broker.stages.frame import Frame

NOW = 1_800_000_000.0


def grant(scope: Scope | None, state: str = "active", expires_at: int = 0) -> Grant:
    servers = {"github": scope} if scope is not None else {}
    return Grant("g", "alice", "default", "d", "laptop", False, servers, state, 1, expires_at, 0, "admin")


def server(state: str = "active") -> Server:
    return Server("github", 1, Entry("GitHub", "none", ("true",)), state, 0)


def asked(kind: str, *subjects: str) -> Frame:
    return Frame("some/method", kind, subjects, "digest", b"")


@pytest.mark.parametrize(
    ("pattern", "name", "permitted"),
    [
        ("get_*", "get_item", True),
        ("get_*", "get_", True),
        ("get_*", "forget_item", False),
        ("get_*", "GET_item", False),
        ("*", "anything\nat all", True),
        ("get_?", "get_a", False),
        ("get_[ab]", "get_a", False),
        ("get_item", "get_item2", False),
        ("*_item", "get_item", True),
        ("", "get_item", False),
    ],
)
def test_only_the_star_means_something_in_a_pattern(pattern: str, name: str, permitted: bool) -> None:
    decision = decide(grant(Scope(tools=(pattern,))), "github", server(), asked("tool", name), NOW)
    assert decision.permitted is permitted


@pytest.mark.parametrize(
    ("state", "expires_at", "code"),
    [
        ("suspended", 0, "grant.suspended"),
        ("revoked", 0, "grant.revoked"),
        ("active", int(NOW), "grant.expired"),
        ("revoked", int(NOW) - 9, "grant.revoked"),
    ],
)
def test_a_grant_that_does_not_stand_permits_nothing(state: str, expires_at: int, code: str) -> None:
    decision = decide(grant(Scope(tools=("*",)), state, expires_at), "github", server(), asked("tool", "a"), NOW)
    assert (decision.permitted, decision.code) == (False, code)


def test_a_removed_server_is_refused() -> None:
    for missing in (server("removed"), None):
        decision = decide(grant(Scope(tools=("*",))), "github", missing, asked("tool", "a"), NOW)
        assert decision.code == "server.removed"


def test_every_subject_must_be_named() -> None:
    scope = Scope(resources=("file:///work/*",))
    both = asked("resource", "file:///work/a", "file:///home/b")
    assert not decide(grant(scope), "github", server(), both, NOW).permitted
    assert decide(grant(scope), "github", server(), asked("resource"), NOW).permitted


@pytest.mark.parametrize(
    ("agent", "words"), [("default", "request github"), ("cursor", "request --agent cursor github")]
)
def test_a_refused_tool_says_how_the_agent_that_called_asks_for_it(agent: str, words: str) -> None:
    asking = replace(grant(Scope(tools=("get_*",))), agent=agent)
    decision = decide(asking, "github", server(), asked("tool", "delete_item"), NOW)
    assert decision.next_step == f"To ask for it: percall {words} --tool delete_item --for 2h --reason WHY"


@given(kind=st.sampled_from(["tool", "prompt", "resource", "task", ""]), name=st.text(min_size=1))
def test_a_grant_without_the_server_permits_nothing(kind: str, name: str) -> None:
    assert not decide(grant(None), "github", server(), asked(kind, name), NOW).permitted
    if kind != "task":
        assert not decide(grant(Scope()), "github", server(), asked(kind, name), NOW).permitted
