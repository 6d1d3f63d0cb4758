"""What nobody misses: a grant that ended, while others of the same agent go on in its place."""

from __future__ import annotations

import pytest

from percall import wire
from percall.home import Login
from percall.identity.standings import is_missed, is_outlasted, is_replaced

GONE = wire.Refusal("grant.revoked", "This agent's grant is revoked.", "Ask.")
CLOSED = wire.Refusal("server.suspended", "The server is suspended.", "Ask.")


def granted(
    *servers: str,
    agent: str = "default",
    person: str = "alice",
    refusal: wire.Refusal | None = None,
    closed: wire.Refusal | None = None,
    expires_at: int = 0,
    administrator: bool = False,
) -> tuple[Login, wire.Session]:
    login = Login("g_1", "https://percall.example.com", agent, person, "laptop", "os", created_at=0)
    entries = [wire.ServerEntry(name, 1, "none", "no key") for name in servers]
    session = wire.Session(
        "g_1", person, agent, "laptop", "active", expires_at, administrator=administrator, version=1, refusal=refusal,
        servers=tuple(wire.GrantedServer(entry, refusal=closed) for entry in entries),
    )  # fmt: skip
    return login, session


ENDED = granted("github", "fetch", refusal=GONE, expires_at=9)


def test_together_others_cover_what_one_did() -> None:
    everything = [ENDED, granted("github", expires_at=5), granted("fetch", "more")]
    assert is_replaced(*ENDED, everything)
    assert not is_missed(*ENDED, everything)


@pytest.mark.parametrize(
    "other",
    [
        granted("github"),
        granted("github", "fetch", refusal=GONE),
        granted("github", "fetch", agent="cursor"),
        granted("github", "fetch", person="bob"),
    ],
)
def test_what_covers_less_has_ended_too_or_is_another_agents_replaces_nothing(
    other: tuple[Login, wire.Session],
) -> None:
    assert is_missed(*ENDED, [ENDED, other])


def test_a_grant_that_administered_is_replaced_by_one_that_does_alone() -> None:
    ended, usual = granted(refusal=GONE, administrator=True), granted("github")
    assert not is_replaced(*ended, [ended])
    assert not is_replaced(*ended, [ended, usual])
    assert is_replaced(*ended, [ended, usual, granted(administrator=True)])


def test_a_server_that_is_stopped_is_missed_unless_another_grant_may_use_it() -> None:
    stopped = granted("github", closed=CLOSED)
    assert is_missed(*stopped, [stopped])
    assert not is_missed(*stopped, [stopped, granted("github")])


def test_a_later_end_outlasts_and_an_earlier_one_does_not() -> None:
    brief = granted("github", expires_at=5)
    assert is_outlasted(*brief, [brief, granted("github", expires_at=6)], "github")
    assert not is_outlasted(*brief, [brief, granted("github", expires_at=4)], "github")
    assert not is_outlasted(*brief, [brief, granted("fetch")], "github")
