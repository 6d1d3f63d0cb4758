"""The console over HTTP alone: who may sign in, what a session and a passkey may do, and what other sites may not."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import hashlib
import html
import re
import socket
import time
from itertools import pairwise
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode, urlsplit

import pytest

from harness.composing import composed
from harness.console import ConsoleBrowser
from harness.passkeys import PRESENT, Passkey
from harness.processes import wait_for
from harness.signing import Answer, SigningLaptop
from integration.conftest import Served
from integration.replicas import replicas
from percall import wire
from percall_broker.asgi import ErrorAnswers
from percall_broker.console import rendering
from percall_broker.console.door import ConsoleDoor
from percall_broker.console.pages.live import MOST_STREAMS, MOST_STREAMS_OF_A_PERSON
from percall_broker.model.peers import TrustedProxies
from percall_broker.pipeline.console.sessions import IDLE_SECONDS
from percall_broker.strangers import Strangers

if TYPE_CHECKING:
    from pathlib import Path

FOR_EVERYBODY = {
    "", "approvals", "approvals/rows", "approvals/count", "approvals/1", "approvals/1/state", "brake", "events",
    "passkeys", "sign-in", "sign-in/back", "static/1",
}  # fmt: skip
READING = ("", "figures", "calls", "calls/rows", "passkeys", "events", "brake")
POSTS = (
    "sign-in/link",
    "sign-in/passkey/ask",
    "sign-in/passkey",
    "sign-in/provider/ask",
    "sign-in/provider",
    "sign-out",
    "passkeys/ask",
    "passkeys",
    "changes/ask",
    "changes",
    "calls/x/arguments",
    "approvals/x/arguments",
    "policies/explain",
    "policies/replay",
)


@pytest.fixture(scope="module")
def ada(served: Served) -> SigningLaptop:
    """An administrator with a passphrase."""
    return SigningLaptop.of_person(served.url, served.local_invite("ada"))


@pytest.fixture(scope="module")
def browser(ada: SigningLaptop) -> ConsoleBrowser:
    """Ada's, signed in, with a passkey."""
    return ConsoleBrowser.signed_in(ada, enrol=True)


def shown(served: Served, grant: str) -> str:
    """A grant's state, as its page shows it."""
    row = served.administrator.administer("GET", f"/v1/admin/grants/{grant}")
    return f"{row['own_state']} {row['version']} {row['state']}"


def state_of(served: Served, grant: str) -> str:
    return str(served.administrator.administer("GET", f"/v1/admin/grants/{grant}")["state"])


def link(laptop: SigningLaptop) -> str:
    return str(laptop.administer("POST", "/v1/console/link")["link"].partition("#")[2])


# --- signing in -------------------------------------------------------------------------------------------------------


def test_a_link_signs_in_once(ada: SigningLaptop) -> None:
    code = link(ada)
    first, second = ConsoleBrowser.of(ada.url), ConsoleBrowser.of(ada.url)
    assert first.get(f"sign-in?{code}").status == 200, "a GET uses nothing up"
    assert first.post("sign-in/link", {"code": code}).status == 200
    assert second.post("sign-in/link", {"code": code}).code == "console.link"
    assert first.get("").status == 200
    assert second.get("").status == 401


def test_an_automation_gets_no_link(served: Served) -> None:
    assert served.administrator.send("POST", "/v1/console/link").code == "automation.console"


def test_without_a_session_every_page_is_the_sign_in(served: Served) -> None:
    stranger = ConsoleBrowser.of(served.url)
    for path in READING:
        answer = stranger.get(path)
        assert answer.status == 401
        assert b"percall-broker console" in answer.body
    stranger.cookie = "percall-console=" + "x" * 43
    assert stranger.get("calls").status == 401


def test_a_session_cookie_is_for_this_origin_alone_and_no_script_reads_it(ada: SigningLaptop) -> None:
    answer = ConsoleBrowser.of(ada.url).post("sign-in/link", {"code": link(ada)})
    attributes = {part.strip() for part in answer.headers["set-cookie"].split(";")}
    assert {"HttpOnly", "SameSite=Strict", "Path=/"} <= attributes


def test_who_is_no_administrator_sees_and_changes_nothing_of_others(served: Served, tmp_path: Path) -> None:
    invite = served.invite()
    theirs = ConsoleBrowser.signed_in(SigningLaptop.of_person(served.url, invite["invite"]), enrol=True)
    assert theirs.get("").headers["location"] == "/console/approvals"
    paths = asyncio.run(paths_of_the_console(tmp_path)).items()
    pages = {re.sub(r"\{\w+\}", "1", path[len("/console") :].lstrip("/")) for path, how in paths if "get" in how}
    others = pages - FOR_EVERYBODY
    assert {"calls/1", "people/1", "servers/1", "health"} < others
    assert {path for path in others if theirs.get(path).status != 403} == set()
    assert theirs.get("brake").status == 200, "whether their own calls are refused"
    _, grant = served.enrol()
    for subject in (grant, invite["grant"]):
        assert theirs.change("grant.suspend", subject, shown(served, subject)).code == "grant.administrator"
    assert theirs.get("passkeys").status == 200


def test_signing_out_ends_the_session(ada: SigningLaptop) -> None:
    leaving = ConsoleBrowser.signed_in(ada)
    cookie = leaving.cookie
    assert leaving.post("sign-out").status == 200
    leaving.cookie = cookie
    assert leaving.get("").status == 401


def test_a_session_ends_once_nobody_uses_it_and_what_looks_by_itself_is_no_use(
    served: Served, ada: SigningLaptop
) -> None:
    idle = ConsoleBrowser.signed_in(ada)
    session = hashlib.sha256(idle.cookie.partition("=")[2].encode()).hexdigest()
    setting = "UPDATE console_sessions SET seen_at = {} WHERE token_hash = '{}'"

    def seen_at() -> int:
        (at,) = served.recorded(f"SELECT seen_at FROM console_sessions WHERE token_hash = '{session}'")  # noqa: S608 - ours
        return int(at)

    nearly = int(time.time()) - IDLE_SECONDS + 60
    served.past_the_broker(setting.format(nearly, session))
    assert idle.get("figures?live").status == 200
    assert seen_at() == nearly
    assert idle.get("figures").status == 200
    assert seen_at() > nearly
    served.past_the_broker(setting.format(nearly - 60, session))
    assert idle.get("figures").status == 401


@pytest.mark.parametrize("verb", ["suspend", "remove"])
def test_a_session_ends_with_its_person(served: Served, browser: ConsoleBrowser, verb: str) -> None:
    name = f"leaver-{verb}"
    theirs = ConsoleBrowser.signed_in(SigningLaptop.of_person(served.url, served.local_invite(name)), enrol=True)
    assert theirs.get("").status == 200
    served.administrator.administer("POST", f"/v1/admin/people/{name}/{verb}")
    assert theirs.get("").status == 401
    assert theirs.by_passkey().code in {"passkey.unknown", "console.grant"}
    assert browser.get("").status == 200, "nobody else's"


def test_a_passkey_signs_in_again(ada: SigningLaptop, browser: ConsoleBrowser) -> None:
    fresh = ConsoleBrowser.of(ada.url)
    assert browser.passkey is not None
    asked = fresh.post("sign-in/passkey/ask").json
    answer = {"id": asked["id"], "nonce": asked["nonce"]}
    answer["credential"] = browser.passkey.get(asked["options"]["challenge"])
    assert fresh.post("sign-in/passkey", answer).status == 200
    assert "ada" in fresh.text("")
    assert ConsoleBrowser.of(ada.url).post("sign-in/passkey", answer).code in {"passkey.replayed", "passkey.wrong"}


# --- passkeys ---------------------------------------------------------------------------------------------------------


def test_a_link_alone_enrols_no_passkey(ada: SigningLaptop) -> None:
    reader = ConsoleBrowser.signed_in(ada)
    reader.passkey = Passkey(reader.origin)
    assert reader.enrol("mine").code == "passkey.invite"


def test_the_link_that_enrols_needs_the_passphrase_and_enrols_one(ada: SigningLaptop) -> None:
    agent = dataclasses.replace(ada, presence=None)
    assert agent.send("POST", "/v1/console/enrolment").code == "presence.required"
    enrolling = ConsoleBrowser.signed_in(ada, enrol=True)
    enrolling.passkey = Passkey(enrolling.origin)
    assert enrolling.enrol("a second one").code == "passkey.invite"


@pytest.mark.parametrize(
    "lie",
    [{"origin": "https://evil.example"}, {"relying_party": "evil.example"}, {"flags": PRESENT}, {"flags": 0}],
)
def test_a_passkey_of_elsewhere_or_without_its_person_is_not_enrolled(ada: SigningLaptop, lie: dict[str, Any]) -> None:
    enrolling = ConsoleBrowser.of(ada.url)
    code = ada.administer("POST", "/v1/console/enrolment")["link"].partition("#")[2]
    enrolling.post("sign-in/link", {"code": code})
    enrolling.passkey = dataclasses.replace(Passkey(enrolling.origin), **lie)
    assert enrolling.enrol("mine").code == "passkey.wrong"
    enrolling.passkey = Passkey(enrolling.origin)
    for name in ("", "a\nb", "a" * 65):
        assert enrolling.enrol(name).code == "passkey.name"
    assert enrolling.enrol("a" * 64).status == 200, "none of that has used up the link"


def test_a_person_forgets_their_own_passkey_and_only_an_administrator_anothers(
    served: Served, ada: SigningLaptop, browser: ConsoleBrowser
) -> None:
    theirs = ConsoleBrowser.signed_in(SigningLaptop.of_person(served.url, served.invite()["invite"]), enrol=True)
    person = f"person{served.people}"

    def passkeys(name: str) -> list[tuple[str, str]]:
        rows = ada.administer("GET", f"/v1/admin/passkeys?person={name}")
        return [(row["passkey"], str(row["created_at"])) for row in rows]

    before = passkeys("ada")
    for passkey, created_at in before:
        assert theirs.change("passkey.remove", passkey, created_at).code == "passkey.unknown"
    assert passkeys("ada") == before
    ((own, created_at),) = passkeys(person)
    assert theirs.change("passkey.remove", own, created_at).status == 200
    assert passkeys(person) == []
    other = ConsoleBrowser.signed_in(SigningLaptop.of_person(served.url, served.invite()["invite"]), enrol=True)
    ((anothers, created_at),) = passkeys(f"person{served.people}")
    assert browser.change("passkey.remove", anothers, created_at).status == 200
    assert other.by_passkey().code == "passkey.unknown"


# --- changes ----------------------------------------------------------------------------------------------------------


def test_a_session_without_a_passkey_reads_and_changes_nothing(served: Served) -> None:
    reader = ConsoleBrowser.signed_in(SigningLaptop.enrolled(served.url, served.local_invite("reader")))
    _, grant = served.enrol()
    assert "reading only" in reader.text("")
    assert reader.ask("grant.revoke", grant, shown(served, grant)).code == "passkey.none"
    reader.passkey = Passkey(reader.origin)
    asked = ConsoleBrowser.post(reader, "sign-in/passkey/ask")
    credential = reader.passkey.get(asked.json["options"]["challenge"])
    answer = reader.made(asked, credential, "grant.revoke", grant, shown(served, grant))
    assert answer.code == "passkey.stranger"
    assert state_of(served, grant) == "active"


def test_a_change_is_made_with_a_passkey_and_recorded_so(served: Served, browser: ConsoleBrowser) -> None:
    _, grant = served.enrol()
    answer = browser.change("grant.revoke", grant, shown(served, grant))
    assert answer.status == 200, answer.body
    assert state_of(served, grant) == "revoked"
    (row,) = served.administrator.administer("GET", "/v1/admin/changes?limit=1")
    assert (row["person"], row["action"], row["presence"]) == ("ada", "grant.revoked", "passkey")


def test_a_passkeys_answer_is_worth_nothing_for_another_change(served: Served, browser: ConsoleBrowser) -> None:
    (_, mine), (_, other) = served.enrol(), served.enrol()
    assert browser.passkey is not None
    asked = browser.ask("grant.suspend", mine, shown(served, mine))
    credential = browser.passkey.get(asked.json["options"]["challenge"])
    for action, subject, state, values in (
        ("grant.suspend", other, shown(served, other), {}),
        ("grant.revoke", mine, shown(served, mine), {}),
        ("grant.suspend", mine, shown(served, mine), {"more": "x"}),
        ("brake.freeze", "", "open", {"reason": ""}),
    ):
        assert browser.made(asked, credential, action, subject, state, **values).code == "passkey.wrong"
    asked.body = wire.dump({**asked.json, "nonce": "A" * 43})
    assert browser.made(asked, credential, "grant.suspend", mine, shown(served, mine)).code == "passkey.late"
    assert (state_of(served, mine), state_of(served, other)) == ("active", "active")


@pytest.mark.parametrize("has_counter", [True, False])
def test_a_passkeys_answer_serves_once(served: Served, has_counter: bool) -> None:
    name = f"dee{has_counter}"
    dee = ConsoleBrowser.signed_in(SigningLaptop.of_person(served.url, served.local_invite(name)), enrol=True)
    assert dee.passkey is not None
    dee.passkey.has_counter = has_counter
    frozen = ("brake.freeze", "", "open")
    asked = dee.ask(*frozen, reason="a drill")
    credential = dee.passkey.get(asked.json["options"]["challenge"])
    assert dee.made(asked, credential, *frozen, reason="a drill").status == 200
    served.lift()
    # All is as it was when the passkey answered: nothing but the answer's own id, or its counter, tells.
    replayed = dee.made(asked, credential, *frozen, reason="a drill")
    assert replayed.code == ("passkey.wrong" if has_counter else "passkey.replayed")
    assert served.administrator.administer("GET", "/v1/admin/freezes") == []


def test_another_administrators_passkey_or_session_is_not_mine(served: Served, browser: ConsoleBrowser) -> None:
    bea = ConsoleBrowser.signed_in(SigningLaptop.of_person(served.url, served.local_invite("bea")), enrol=True)
    _, grant = served.enrol()
    before = shown(served, grant)
    asked = browser.ask("grant.revoke", grant, before)
    assert bea.passkey is not None
    credential = bea.passkey.get(asked.json["options"]["challenge"])
    assert browser.made(asked, credential, "grant.revoke", grant, before).code == "passkey.stranger"
    assert bea.made(asked, credential, "grant.revoke", grant, before).code == "passkey.wrong"
    assert state_of(served, grant) == "active"


def test_what_changed_between_view_and_click_is_a_conflict(served: Served, browser: ConsoleBrowser) -> None:
    _, grant = served.enrol()
    before = shown(served, grant)
    assert browser.passkey is not None
    asked = browser.ask("grant.revoke", grant, before)
    served.change(grant, "suspend")
    credential = browser.passkey.get(asked.json["options"]["challenge"])
    late = browser.made(asked, credential, "grant.revoke", grant, before)
    assert (late.status, late.code) == (409, "console.changed")
    assert browser.ask("grant.revoke", grant, before).status == 409
    assert state_of(served, grant) == "suspended"


def test_a_forgotten_passkey_changes_nothing_and_what_it_opened_is_closed(served: Served, ada: SigningLaptop) -> None:
    cy = ConsoleBrowser.signed_in(SigningLaptop.of_person(served.url, served.local_invite("cy")), enrol=True)
    thief = ConsoleBrowser.of(served.url)
    thief.passkey = cy.passkey
    assert thief.by_passkey().status == 200
    assert thief.get("calls").status == 200
    (row,) = ada.administer("GET", "/v1/admin/passkeys?person=cy")
    ada.administer("DELETE", f"/v1/admin/passkeys/{row['passkey']}")
    _, grant = served.enrol()
    assert cy.ask("grant.revoke", grant, shown(served, grant)).code == "passkey.none"
    assert thief.get("calls").status == 401
    assert thief.by_passkey().code == "passkey.unknown"
    assert cy.get("calls").status == 200, "a link has signed her in"


def test_a_passkey_signs_in_while_another_device_of_its_person_is_frozen(served: Served, ada: SigningLaptop) -> None:
    kept = SigningLaptop.of_person(served.url, served.local_invite("fay"))
    fay = ConsoleBrowser.signed_in(kept, enrol=True)
    first = {row["device"] for row in ada.administer("GET", "/v1/admin/devices?person=fay")}
    newer = SigningLaptop(served.url, presence=kept.presence)
    newer.finish(newer.enrol(served.local_invite("fay")))
    (lost,) = {row["device"] for row in ada.administer("GET", "/v1/admin/devices?person=fay")} - first
    served.administrator.administer("POST", "/v1/admin/freezes", {"kind": "device", "name": lost})
    assert fay.by_passkey().status == 200


# --- other sites ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example", "Sec-Fetch-Site": "cross-site"},
        {"Origin": "https://evil.example", "Sec-Fetch-Site": "same-origin"},
        {"Origin": "null", "Sec-Fetch-Site": "same-origin"},
        {"Sec-Fetch-Site": "same-site"},
        {"Sec-Fetch-Site": "none"},
        {},
    ],
)
def test_no_other_site_has_a_browser_change_anything(browser: ConsoleBrowser, headers: dict[str, str]) -> None:
    for path in POSTS:
        answer = browser.exchange("POST", f"/console/{path}", b"{}", {"Accept": "application/json", **headers})
        assert (answer.status, answer.code) == (403, "console.origin")


def test_only_who_is_led_here_by_another_site_is_asked_to_come_again_and_once(browser: ConsoleBrowser) -> None:
    """Its link's request has no cookie, which is kept from other sites; the page's own has."""
    stranger = ConsoleBrowser.of(browser.at)
    for site, again in (("cross-site", "0"), ("same-origin", None), ("none", None)):
        stranger.sent = {"Sec-Fetch-Site": site}
        answer = stranger.get("people")
        assert (answer.status, answer.headers.get("refresh")) == (401, again)


async def paths_of_the_console(folder: Path) -> dict[str, Any]:
    """Each path of the console of a broker that is composed as every one is, with its methods."""
    async with composed(folder) as broker:
        strangers = Strangers(broker.signed, TrustedProxies(()), lambda _: "")
        errors = ErrorAnswers(broker.nonces, time.time, broker.attacks.note, strangers.refused)
        return dict(ConsoleDoor(broker, errors)._application().openapi()["paths"])


def test_every_route_that_is_no_get_is_among_those_that_are_attacked(tmp_path: Path) -> None:
    paths = asyncio.run(paths_of_the_console(tmp_path))
    found = {
        re.sub(r"\{\w+\}", "x", path.removeprefix("/console/"))
        for path, methods in paths.items()
        if set(methods) - {"get"}
    }
    assert found == set(POSTS)


@pytest.mark.parametrize("path", ["", "calls", "sign-in", "nothing-here", "static/console.css", "events"])
def test_each_answer_carries_the_headers(browser: ConsoleBrowser, path: str) -> None:
    answer = browser.get(path) if path != "events" else ConsoleBrowser.of(browser.at).get(path)
    policy = answer.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self';")
    assert "unsafe" not in policy
    assert "frame-ancestors 'none'" in policy
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["referrer-policy"] == "same-origin"
    if not path.startswith("static/"):
        assert answer.headers["cache-control"] == "no-store"


def test_a_get_changes_nothing(served: Served, browser: ConsoleBrowser) -> None:
    changes = served.administrator.administer("GET", "/v1/admin/changes?limit=1")
    for path in POSTS:
        assert browser.get(path).status in {200, 400, 404, 405}
    assert served.administrator.administer("GET", "/v1/admin/changes?limit=1") == changes


# --- reading ----------------------------------------------------------------------------------------------------------


def test_calls_are_listed_with_filters_and_one_tells_its_story(served: Served, browser: ConsoleBrowser) -> None:
    laptop, _ = served.enrol()
    call = laptop.call("keyed", "get_item", {"note": "<script>alert(1)</script>\u202e"})["call"]
    laptop.settle(call)
    laptop.ask("keyed", "tools/call", {"name": "<b>drop</b>", "arguments": {}})
    rows = browser.text("calls")
    assert "&lt;b&gt;drop&lt;/b&gt;" in rows
    assert "<b>drop" not in rows
    assert "get_item" not in browser.text("calls?decision=forbid&tool=%3Cb%3Edrop%3C%2Fb%3E")
    assert "No call fits" in browser.text("calls?person=nobody")
    story = browser.text(f"calls/{call}")
    assert "Permitted" in story
    assert "The tool answered." in story
    assert "alert(1)" not in story


def test_pages_of_calls_hold_each_call_once(served: Served, browser: ConsoleBrowser) -> None:
    """Also those of one instant, and of replicas whose clocks differ."""
    laptop, grant = served.enrol()
    person = served.administrator.administer("GET", f"/v1/admin/grants/{grant}")["person"]
    made = [laptop.call("keyed", "get_item")["call"] for _ in range(102)]
    for times in ("1700000000000 - seq", "1700000000000"):
        served.past_the_broker(f"UPDATE log SET time_ms = {times} WHERE kind = 'call' AND person = '{person}'")  # noqa: S608 - ours
        newest = browser.text(f"calls?person={person}")
        (older,) = re.findall(r'href="/console/(calls\?[^"]*before=[^"]*)"', newest)
        first, second = (
            re.findall(r'<tr id="row-([^"]*)"', page) for page in (newest, browser.text(html.unescape(older)))
        )
        assert first == made[:1:-1]
        assert second == made[1::-1]


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ("calls?since=bogus", "calls.since"),
        ("calls?decision=maybe", "calls.decision"),
        ("calls?before=yesterday", "request.before"),
        ("approvals?state=maybe", "approval.state"),
        ("approvals?before=yesterday", "request.before"),
        ("approvals?state=all&before=-1", "request.before"),
    ],
)
def test_a_filter_that_nobody_understands_is_refused_and_not_ignored(
    browser: ConsoleBrowser, query: str, code: str
) -> None:
    path, _, asked = query.partition("?")
    value = asked.rpartition("=")[2]
    for of_it in (path, f"{path}/rows"):
        answer = browser.get(f"{of_it}?{asked}")
        assert answer.status == 400
        assert code in answer.body.decode()
        assert value in answer.body.decode()


def test_reading_arguments_is_recorded_and_shows_hidden_characters(served: Served, browser: ConsoleBrowser) -> None:
    laptop, _ = served.enrol()
    call = laptop.call("keyed", "get_item", {"note": "<script>alert(1)</script>\u202e"})["call"]
    answer = browser.post(f"calls/{call}/arguments")
    assert "&lt;script&gt;" in answer.body.decode()
    assert "RIGHT-TO-LEFT OVERRIDE" in answer.body.decode()
    (row,) = served.administrator.administer("GET", "/v1/admin/changes?limit=1")
    assert (row["person"], row["action"], row["call"]) == ("ada", "arguments.read", call)


def test_the_stream_tells_what_happened_since_its_page_was_made_and_ends_with_the_session(
    served: Served, browser: ConsoleBrowser
) -> None:
    theirs = ConsoleBrowser.signed_in(SigningLaptop.of_person(served.url, served.local_invite("watcher")))
    (mark,) = re.findall(r'data-mark="([\d.]+)"', theirs.text("calls"))
    served.enrol()[0].call("keyed", "get_item")
    with theirs.events(mark) as events:
        assert {next(events), next(events)} == {"calls", "changes"}, "both happened before the stream began"
        served.enrol()[0].call("keyed", "get_item")
        assert next(events) in {"calls", "changes"}
        served.administrator.administer("POST", "/v1/admin/people/watcher/remove")
        assert "ended" in events
    for wrong in ("", "1.2", "a.b.c", "9" * 40 + ".1.1"):
        with browser.events(wrong):
            pass  # it begins with what is so now
    assert ConsoleBrowser.of(served.url).get("events").status == 401


def test_a_session_has_so_many_streams_and_others_have_theirs(served: Served, browser: ConsoleBrowser) -> None:
    many = ConsoleBrowser.signed_in(SigningLaptop.of_person(served.url, served.local_invite("manypages")))
    with contextlib.ExitStack() as stack:
        for _ in range(MOST_STREAMS):
            assert next(stack.enter_context(many.events("0.0.0"))), "it has begun"
        assert many.get("events?live").status == 429
        with browser.events("0.0.0") as events:
            assert next(events)

    def begins() -> bool:
        with contextlib.suppress(AssertionError), many.events("0.0.0") as events:
            return bool(next(events))
        return False

    wait_for(begins, "the closed ones to be counted out")


def of_many_at_once(browser: ConsoleBrowser, many: int) -> list[int]:
    """The statuses of so many streams that are asked for in one instant, with all that began still open."""
    at, host = urlsplit(browser.at), urlsplit(browser.origin).netloc
    head = f"GET /console/events?live HTTP/1.1\r\nHost: {host}\r\nCookie: {browser.cookie}\r\n\r\n"
    with contextlib.ExitStack() as stack:
        connections = [
            stack.enter_context(socket.create_connection((at.hostname, at.port), timeout=10)) for _ in range(many)
        ]
        for connection in connections:
            connection.sendall(head.encode())
        return [int(connection.recv(64).split()[1]) for connection in connections]


def test_streams_that_are_asked_for_at_once_are_bound_as_well(served: Served) -> None:
    many = ConsoleBrowser.signed_in(SigningLaptop.of_person(served.url, served.local_invite("atonce")))
    statuses = of_many_at_once(many, 4 * MOST_STREAMS)
    assert statuses.count(200) == MOST_STREAMS
    assert statuses.count(429) == 3 * MOST_STREAMS


def test_whoever_makes_many_sessions_has_no_more_streams_by_that(served: Served, browser: ConsoleBrowser) -> None:
    laptop = SigningLaptop.of_person(served.url, served.local_invite("manysessions"))
    with contextlib.ExitStack() as stack:
        for _ in range(MOST_STREAMS_OF_A_PERSON // MOST_STREAMS):
            session = ConsoleBrowser.signed_in(laptop)
            for _ in range(MOST_STREAMS):
                assert next(stack.enter_context(session.events("0.0.0")))
        assert ConsoleBrowser.signed_in(laptop).get("events?live").status == 429
        with browser.events("0.0.0") as events:
            assert next(events), "another person's"


def test_a_session_and_a_passkeys_answer_hold_on_every_replica_and_once_in_all(
    served: Served, browser: ConsoleBrowser
) -> None:
    _, grant = served.enrol()
    before = shown(served, grant)
    assert browser.passkey is not None
    with replicas(served) as urls:
        first, last = (dataclasses.replace(browser, at=url) for url in (urls[0], urls[-1]))
        asked = first.ask("grant.suspend", grant, before)
        credential = browser.passkey.get(asked.json["options"]["challenge"])
        assert last.made(asked, credential, "grant.suspend", grant, before).status == 200
        again = first.made(asked, credential, "grant.suspend", grant, before)
        assert again.code in {"passkey.replayed", "passkey.wrong"}
    assert state_of(served, grant) == "suspended"


def test_a_broker_that_stops_ends_the_streams_of_its_consoles(tmp_path: Path) -> None:
    with Served(tmp_path / "stopped") as served:
        watching = ConsoleBrowser.signed_in(SigningLaptop.of_person(served.url, served.local_invite("ada")))
        with watching.events("0.0.0") as events:
            assert next(events)
            assert served.stop() == 0
            assert "more" not in events, "the stream has ended"


def test_another_name_of_the_broker_leads_to_the_consoles_own(browser: ConsoleBrowser) -> None:
    elsewhere = dataclasses.replace(browser, sent={"Host": browser.at.removeprefix("http://")})
    answer = elsewhere.get("calls?person=a%20b")
    assert (answer.status, answer.headers["location"]) == (307, f"{browser.origin}/console/calls?person=a%20b")
    assert dataclasses.replace(browser, sent={"Host": "evil.example"}).get("calls").status == 400


def test_people_servers_policies_and_health_are_shown(served: Served, browser: ConsoleBrowser) -> None:
    laptop, grant = served.enrol()
    laptop.settle(laptop.call("keyed", "get_item")["call"])
    person = served.administrator.administer("GET", f"/v1/admin/grants/{grant}")["person"]
    assert person in browser.text("people")
    theirs = browser.text(f"people/{person}")
    assert "a test&#39;s laptop" in theirs
    assert grant in theirs
    assert "key stays in the broker" in browser.text("servers")
    assert "GET http" in browser.text("servers/keyed")
    assert "ships with Percall" in browser.text("policies")
    assert "permit" in browser.text("policies/0")
    assert "store, schema and keys hold" in browser.text("health")
    served.change(grant, "suspend")
    latest = browser.text("health").partition("Latest changes")[2]
    assert f"person {person} · grant {grant}" in latest
    served.administrator.administer("POST", f"/v1/admin/people/{person}/suspend")
    assert f"person {person}<" in browser.text("health").partition("Latest changes")[2]
    for path in ("people/nobody", "servers/none", "policies/99"):
        assert browser.get(path).status == 404


def test_the_key_of_a_server_is_rotated_and_shown_nowhere(served: Served, browser: ConsoleBrowser) -> None:
    row = served.administrator.administer("GET", "/v1/admin/servers/shared")
    state = f"{row['state']} {row['version']} {row['secret_version']}"
    key = "a-new-key-that-nobody-reads-back"
    assert browser.change("server.rotate", "shared", state, secret="short").code == "secret.length"
    assert browser.change("server.rotate", "shared", state, secret="ключ-из-букв").code == "secret.characters"
    answer = browser.change("server.rotate", "shared", state, secret=key)
    assert answer.status == 200, answer.body
    after = served.administrator.administer("GET", "/v1/admin/servers/shared")
    assert after["secret_version"] == row["secret_version"] + 1
    for path in ("servers", "servers/shared", "health"):
        assert key not in browser.text(path)
    assert key not in str(served.administrator.administer("GET", "/v1/admin/changes?limit=5"))


def test_every_action_goes_through_the_administrations_own_functions(served: Served, browser: ConsoleBrowser) -> None:
    """Each, once; with the state that the page shows, found there."""
    invite = served.invite()
    laptop = SigningLaptop.enrolled(served.url, invite["invite"])
    assert laptop.token

    def offered(path: str, action: str) -> tuple[str, str, str]:
        fields = re.findall(r'name="(action|subject|shown)" value="([^"]*)"', browser.text(path))
        forms = [dict(fields[i : i + 3]) for i in range(0, len(fields), 3)]
        form = next(form for form in forms if form["action"] == action)
        return form["action"], form["subject"], form["shown"]

    person = f"people/{invite['person']}"
    for path, action in (
        (person, "grant.suspend"),
        (person, "grant.resume"),
        (person, "person.suspend"),
        (person, "person.resume"),
        (person, "grant.revoke"),
        (person, "device.revoke"),
        (person, "person.remove"),
        ("servers/shared", "server.suspend"),
        ("servers/shared", "server.resume"),
        ("health", "brake.freeze"),
        ("health", "brake.lift"),
    ):
        answer = browser.change(*offered(path, action))
        assert answer.status == 200, (action, answer.body)
    rows = served.administrator.administer("GET", "/v1/admin/changes?limit=11")
    assert {row["presence"] for row in rows} == {"passkey"}
    assert browser.change("grant.vanish", "x", "x").code == "console.action"
    assert browser.change("planet.remove", "x", "x").code == "console.action"


def test_what_cannot_be_taken_back_is_said_in_words_before_its_passkey(served: Served, browser: ConsoleBrowser) -> None:
    invite = served.invite()
    assert SigningLaptop.enrolled(served.url, invite["invite"]).token
    paths = (f"people/{invite['person']}", "passkeys", "servers", "servers/keyed", "health")
    forms = re.findall(
        r"<form ([^>]*data-change[^>]*)>\s*<input[^>]* value=\"([^\"]*)\"", "".join(map(browser.text, paths))
    )
    # Of oneself, what would be taken back is: by whom else?
    own, others = browser.text("people/ada"), browser.text("people")
    for page in (own, others):
        ((said, subject),) = re.findall(
            r'data-confirm="(That is you[^"]*)">\s*<input[^>]*value="person.suspend"><input[^>]*value="(\w+)"', page
        )
        assert subject == "ada"
        assert "another administrator has to resume you" in said
    words = {action: "data-confirm" in attributes for attributes, action in forms}
    final = {"person.remove", "grant.revoke", "device.revoke", "passkey.remove", "brake.freeze"}
    assert {action for action, said in words.items() if said} == final
    assert {"person.suspend", "grant.suspend", "server.suspend", "server.rotate"} <= set(words)
    assert f"{invite['person']} is removed. Their grants, devices, passkeys and personal keys end" in browser.text(
        "people"
    )


def test_explain_and_replay_say_what_would_happen(served: Served, browser: ConsoleBrowser) -> None:
    laptop, grant = served.enrol()
    laptop.call("keyed", "get_item")
    person = served.administrator.administer("GET", f"/v1/admin/grants/{grant}")["person"]

    def filled(path: str, **fields: str) -> Answer:
        own = {"Origin": browser.origin, "Content-Type": "application/x-www-form-urlencoded", "HX-Request": "true"}
        return browser.exchange("POST", f"/console/policies/{path}", urlencode(fields).encode(), own)

    told = filled("explain", person=person, agent="default", server="keyed", tool="get_item", arguments="")
    assert "permitted" in told.body.decode()
    refusing = '@id("none")\nforbid(principal, action, resource);'
    told = filled("explain", person=person, server="keyed", tool="get_item", draft=refusing)
    assert "refused" in told.body.decode()
    replayed = filled("replay", draft=refusing, days="1")
    assert "get_item" in replayed.body.decode()
    for wrong in (filled("replay", draft="permit(", days="1"), filled("replay", draft=refusing, days="x")):
        assert wrong.status == 400
    assert filled("explain", person="nobody", server="keyed", tool="x").status == 404


MALFORMED = (
    b"",
    b"[]",
    b"\xff",
    b'{"a":1,"a":2}',
    b'{"id":"\\ud800","nonce":"","credential":{},"action":"grant.revoke","subject":"\\u0000","shown":"","values":{}}',
    b'{"action":"grant.revoke","subject":"x\\ud800","shown":"","values":{"a":1}}',
    b'{"values":{"name":"\\ud800"},"id":"x","nonce":"y","credential":{"id":1,"rawId":[],"response":"x"}}',
    b"person=%FF&server=%00&tool=x&arguments=%ED%A0%80",
    b"draft=" + b"%28" * 2000 + b"&days=7",
    b"x" * 70_000,
)


def test_malformed_input_is_refused_and_never_fails(browser: ConsoleBrowser) -> None:
    for path in (
        "figures?span=%FF",
        "calls?person=%00%FF&before=99999999999999&since=zz",
        "calls/%00",
        "people/%E2%80%AE%00",
        "policies/99999999999999999999",
        "approvals?state=%00&before=9999999999999999999",
        "approvals/%00",
        "sign-in?code=%00&state=%FF",
    ):
        assert browser.get(path).status < 500, path
    for path in set(POSTS) - {"sign-out"}:
        for body in MALFORMED:
            answer = browser.exchange("POST", f"/console/{path}", body, {"Origin": browser.origin})
            assert answer.status < 500, (path, body[:80])
            assert path == "sign-in/passkey/ask" or answer.status >= 400
    assert browser.passkey is not None
    asked = browser.ask("brake.freeze", "", "open", reason="x")
    good = browser.passkey.get(asked.json["options"]["challenge"])
    for bad in ({}, {"id": "", "rawId": "", "type": "public-key", "response": {}}, {**good, "rawId": "zz"}):
        assert browser.made(asked, bad, "brake.freeze", "", "open", reason="x").status == 403
    whole = {"action": "brake.freeze", "subject": "", "shown": "open", "values": {"reason": "x"}, "credential": good}
    whole |= {name: asked.json[name] for name in ("id", "nonce")}
    for wrong in ({"subject": None}, {"values": ["x"]}, {"values": {"reason": 1}}, {"credential": "x"}, {"nonce": 1}):
        assert browser.post("changes", {**whole, **wrong}).code == "request.form"


def test_headings_go_down_one_level_at_a_time_and_a_buttons_name_holds_its_words(
    served: Served, browser: ConsoleBrowser
) -> None:
    """What a screen reader announces, and what somebody says who speaks to their machine."""
    call = served.enrol()[0].call("keyed", "get_item")["call"]
    person = served.administrator.administer("GET", "/v1/admin/calls?limit=1")[0]["person"]
    paths = ["", "calls", "calls?person=nobody", f"calls/{call}", "approvals", "approvals?state=all", "people"]
    paths += [f"people/{person}", "servers", "servers/keyed", "policies", "health", "passkeys"]
    for path in paths:
        page = browser.text(path)
        levels = [int(level) for level in re.findall(r"<h([1-6])", page.partition("<dialog")[0])]
        assert levels[0] == 1, path
        assert all(after <= before + 1 for before, after in pairwise(levels)), (path, levels)
        for name, words in re.findall(r'<(?:a|button) [^>]*aria-label="([^"]*)"[^>]*>([^<]*)<', page):
            assert words in name, path
        found = re.findall(r'<button type="submit"[^>]*?(?: aria-label="([^"]*)")?>([^<]+)</button>', page)
        names = {name or words for name, words in found}
        assert not names & {"Suspend", "Resume", "Accept", "Revoke", "Remove", "Forget"}, (
            path,
            "of what, nobody hears",
        )


def test_small_print_can_be_read_on_every_surface() -> None:
    """4.5 to 1 (WCAG 2.2, 1.4.3), in both schemes."""
    style = rendering.FILES["console.css"][1].decode()
    for colours in _schemes(style):
        for words in ("ink", "soft", "faint", "good", "bad", "warn", "accent"):
            for surface in ("paper", "surface", "sunken"):
                assert _contrast(colours[words], colours[surface]) >= 4.5, (words, surface)


def test_a_fields_edge_can_be_seen_on_every_surface() -> None:
    """3 to 1 (WCAG 2.2, 1.4.11)."""
    style = rendering.FILES["console.css"][1].decode()
    (fields,) = re.findall(r"\ninput, select, textarea \{(.*?)\}", style)
    assert "border: 1px solid var(--edge);" in fields
    for colours in _schemes(style):
        for surface in ("paper", "surface", "sunken"):
            assert _contrast(colours["edge"], colours[surface]) >= 3, surface


def _schemes(style: str) -> list[dict[str, float]]:
    """Each scheme's colours, as they shine: the light one's and the dark one's."""
    schemes = re.findall(r":root \{(.*?)\}", style, re.DOTALL)
    assert len(schemes) == 2
    return [{name: _luminance(value) for name, value in re.findall(r"--([\w-]+): #(\w{6});", one)} for one in schemes]


def _contrast(one: float, other: float) -> float:
    brighter, darker = sorted((one, other), reverse=True)
    return (brighter + 0.05) / (darker + 0.05)


def _luminance(colour: str) -> float:
    parts = [int(colour[i : i + 2], 16) / 255 for i in (0, 2, 4)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_a_page_that_is_not_there_says_so(browser: ConsoleBrowser) -> None:
    assert browser.get("nothing").status == 404
    assert browser.get("calls/none").status == 404
    assert browser.get("static/..%2fdoor.py").status == 404
    assert browser.get("?span=1y").status == 400
