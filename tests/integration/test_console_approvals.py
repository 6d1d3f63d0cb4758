"""Approvals in the console: who sees them, what is shown, and that an answer is a passkey's over this very question."""

from __future__ import annotations

import html
import json
import re
from typing import TYPE_CHECKING, Any

import pytest

from harness.console import ConsoleBrowser
from harness.signing import SigningLaptop
from percall import wire

if TYPE_CHECKING:
    from harness.signing import Answer
    from integration.conftest import Served

RULES = """
@id("reads") permit(principal, action, resource) unless { resource is Tool && resource.name == "create_item" };
@id("writes") @ask("leads") @reason("Writing needs a lead.") permit(principal, action, resource)
when { resource is Tool && resource.name == "create_item" };
"""


@pytest.fixture(scope="module")
def ruled(served: Served) -> Served:
    form = {"files": {"rules.cedar": RULES}, "message": "a test", "expected": -1}
    served.administrator.administer("POST", "/v1/admin/policies", form)
    return served


@pytest.fixture(scope="module")
def lead(ruled: Served) -> ConsoleBrowser:
    """Somebody of the group that is asked, who is no administrator; with a passkey."""
    return person(ruled, "lea", "leads")


def person(served: Served, name: str, *groups: str) -> ConsoleBrowser:
    form = {"person": name, "servers": {"keyed": {"tools": ["get_*"]}}}
    made = served.administrator.administer("POST", "/v1/admin/grants", form)
    laptop = SigningLaptop.of_person(served.url, made["invite"])
    for group in groups:
        served.person.administer("POST", f"/v1/admin/groups/{group}/join", {"people": [name]})
    return ConsoleBrowser.signed_in(laptop, enrol=True)


def agent(served: Served) -> SigningLaptop:
    return served.enrol(tools=["get_*", "create_*"])[0]


def call(laptop: SigningLaptop, session: str = "", **arguments: Any) -> dict[str, Any]:
    params = {"name": "create_item", "arguments": arguments}
    frame = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}).encode()
    head = wire.encode(wire.CallRequest("keyed", "test 1", session=session))
    return laptop.send("POST", wire.PATH_CALLS, wire.join(head, frame)).json


def asked(laptop: SigningLaptop, session: str = "", **arguments: Any) -> str:
    answer = call(laptop, session, **arguments)
    assert answer["decision"] == "ask", answer
    return str(answer["approval"]["id"])


def opened(browser: ConsoleBrowser, approval: str) -> str:
    answer = browser.post(f"approvals/{approval}/arguments")
    assert answer.status == 200, answer.body
    return answer.body.decode()


def offered(page: str, action: str) -> tuple[str, str, str]:
    fields = [(name, html.unescape(value)) for name, value in _FIELDS.findall(page)]
    forms = [dict(fields[i : i + 3]) for i in range(0, len(fields), 3)]
    form = next(form for form in forms if form["action"] == action)
    return form["action"], form["subject"], form["shown"]


_FIELDS = re.compile(r'name="(action|subject|shown)" value="([^"]*)"')


def answered(browser: ConsoleBrowser, approval: str, verb: str = "allow", **values: str) -> Answer:
    return browser.change(*offered(opened(browser, approval), f"approval.{verb}"), **values)


def test_a_question_is_answered_with_a_passkey_and_the_call_passes_once(ruled: Served, lead: ConsoleBrowser) -> None:
    laptop = agent(ruled)
    approval = asked(laptop, title="a")
    assert approval in lead.text("approvals")
    assert "yours to answer" in lead.text("approvals")
    assert 'class="badge"' in lead.text("approvals/count")
    assert "Allow once" not in lead.text(f"approvals/{approval}"), "not before the arguments are there"
    answer = answered(lead, approval)
    assert answer.status == 200, answer.body
    permitted = call(laptop, title="a")
    assert permitted["decision"] == "permit"
    assert call(laptop, title="a")["decision"] == "ask", "once"
    told = ruled.administrator.administer("GET", f"/v1/admin/calls/{permitted['call']}")["entries"][0]["approval"]
    assert "lea" in json.dumps(told)
    assert "passkey" in json.dumps(told)


def test_what_is_signed_is_the_question_as_it_was_shown(ruled: Served, lead: ConsoleBrowser) -> None:
    laptop = agent(ruled)
    one, other = asked(laptop, title="one"), asked(laptop, title="other")
    (action, subject, state), (_, second, second_state) = (
        offered(opened(lead, which), "approval.allow") for which in (one, other)
    )
    assert lead.passkey is not None
    question = lead.ask(action, subject, state)
    credential = lead.passkey.get(question.json["options"]["challenge"])
    for wrong in ((action, second, second_state), ("approval.never", subject, state), (action, subject, second_state)):
        assert lead.made(question, credential, *wrong).code == "passkey.wrong"
    assert lead.made(question, credential, action, subject, state, scope="shape", minutes="60").code == "passkey.wrong"
    assert call(laptop, title="one")["decision"] == "ask"
    assert call(laptop, title="other")["decision"] == "ask"
    assert lead.ask(action, subject, second_state).code == "console.changed"


def test_an_answer_that_cannot_be_given_is_none(ruled: Served, lead: ConsoleBrowser) -> None:
    approval = asked(agent(ruled), title="odd")
    assert answered(lead, approval, scope="forever").code == "approval.answer"
    assert answered(lead, approval, scope="shape", minutes="-1").code == "approval.seconds"
    assert answered(lead, approval, "deny", scope="shape", minutes="60").code == "approval.scope"
    assert answered(lead, approval, "deny").status == 200, "it was open still"


def test_a_question_that_was_answered_meanwhile_is_a_conflict(ruled: Served, lead: ConsoleBrowser) -> None:
    laptop = agent(ruled)
    approval = asked(laptop, title="twice")
    first = offered(opened(lead, approval), "approval.allow")
    assert answered(lead, approval, "deny").status == 200
    late = lead.change(*first)
    assert (late.status, late.code) == (409, "console.changed")
    assert call(laptop, title="twice")["decision"] == "forbid"


def test_never_says_what_it_ends_and_allowing_once_asks_nothing_more(ruled: Served, lead: ConsoleBrowser) -> None:
    laptop = agent(ruled)
    page = opened(lead, asked(laptop, title="words"))
    said = re.findall(r'data-confirm="([^"]*)">\s*<input type="hidden" name="action" value="([^"]*)"', page)
    ((words, action),) = said
    assert action == "approval.never"
    assert "may call create_item of keyed" in words


def test_what_became_of_a_call_that_was_asked_about_is_told_where_it_is_listed(
    ruled: Served, lead: ConsoleBrowser
) -> None:
    admin = ConsoleBrowser.signed_in(SigningLaptop.of_person(ruled.url, ruled.local_invite("teller")))
    laptop = agent(ruled)
    answers = {"denied": "deny", "allowed": "allow", "used": "allow", "waiting": ""}
    for state, verb in answers.items():
        approval = asked(laptop, title=state)
        if verb:
            assert answered(lead, approval, verb).status == 200
        if state == "used":
            assert call(laptop, title=state)["decision"] == "permit"
        (page,) = re.findall(r'<a href="/console/calls/([^"]+)"><code>', admin.text(f"approvals/{approval}"))
        words = "allowed" if state == "used" else state
        (head,) = re.findall(r"<h1.*?<section", admin.text(f"calls/{page}"), re.DOTALL)
        assert f"</svg>{words}</span>" in head
        assert f'<a href="/console/approvals/{approval}">its approval</a>' in head
        (cell,) = re.findall(
            rf'<a href="/console/approvals/{approval}">(.*?)</a>', admin.text("calls?decision=ask"), re.DOTALL
        )
        assert f"</svg>{words}</span>" in cell


def test_a_page_of_earlier_questions_stays_what_it_is(ruled: Served, lead: ConsoleBrowser) -> None:
    """The newest look anew by themselves: in their place would stand the newest again."""
    approval = asked(agent(ruled), title="earlier")
    newest, earlier = lead.text("approvals?state=all"), lead.text("approvals?state=all&before=999999999")
    assert approval in newest
    assert approval in earlier
    for live in ('hx-get="/console/approvals/rows', "data-live"):
        assert live in newest
        assert live not in earlier
    assert 'href="/console/approvals?state=all">Back to the newest' in earlier


def test_only_who_is_asked_sees_a_question_and_answers_it(ruled: Served, lead: ConsoleBrowser) -> None:
    laptop = agent(ruled)
    approval = asked(laptop, title="private")
    stranger = person(ruled, "eve")
    assert approval not in stranger.text("approvals")
    assert stranger.get(f"approvals/{approval}").status == 404
    assert stranger.post(f"approvals/{approval}/arguments").status == 404
    form = offered(opened(lead, approval), "approval.allow")
    assert stranger.change(*form).code == "approval.unknown"
    admin = ConsoleBrowser.signed_in(SigningLaptop.of_person(ruled.url, ruled.local_invite("root")), enrol=True)
    assert "Somebody of leads must answer this" in admin.text(f"approvals/{approval}")
    assert "Allow once" not in opened(admin, approval)
    assert admin.change(*form).code == "approval.not_yours"


def test_opening_the_arguments_is_recorded_and_they_are_shown_whole(ruled: Served, lead: ConsoleBrowser) -> None:
    approval = asked(agent(ruled), note="<script>alert(1)</script>\u202etxt.exe", padding="x" * 20_000)
    assert "alert(1)" not in lead.text(f"approvals/{approval}")
    page = opened(lead, approval)
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert "RIGHT-TO-LEFT OVERRIDE" in page
    assert "x" * 20_000 in page
    (row,) = ruled.administrator.administer("GET", "/v1/admin/changes?limit=1")
    assert (row["person"], row["action"]) == ("lea", "arguments.read")


def test_calls_like_one_are_allowed_for_minutes_and_that_is_taken_back(ruled: Served, lead: ConsoleBrowser) -> None:
    laptop = agent(ruled)
    approval = asked(laptop, title="a", place="here")
    answer = answered(lead, approval, scope="shape", minutes="30", **{"varying:title": "yes"})
    assert answer.status == 200, answer.body
    assert call(laptop, title="b", place="here")["decision"] == "permit"
    assert call(laptop, title="b", place="there")["decision"] == "ask"
    page = lead.text(f"approvals/{approval}")
    assert "These arguments may differ" in page
    assert lead.change(*offered(page, "approval.lift")).status == 200
    assert call(laptop, title="c", place="here")["decision"] == "ask"
    for wrong in ({"scope": "shape", "minutes": "0"}, {"scope": "shape", "minutes": "x"}, {"scope": "session"}):
        other = asked(laptop, title=str(wrong))
        assert answered(lead, other, **wrong).status == 400


def test_a_request_for_a_grant_is_answered_by_an_administrator(ruled: Served) -> None:
    laptop, _ = ruled.enrol(tools=["get_*"], prompts=["summary*"], resources=["file:///work/*"])
    wanted = wire.GrantRequest("keyed", ("delete_item",), 3600, "to clean up")
    request = laptop.send("POST", wire.PATH_APPROVALS, wire.dump(wire.encode(wanted)))
    assert request.status == 200, request.body
    admin = ConsoleBrowser.signed_in(SigningLaptop.of_person(ruled.url, ruled.local_invite("boss")), enrol=True)
    page = admin.text(f"approvals/{request.json['id']}")
    for named in ("delete_item, get_*", "summary*", "file:///work/*", "to clean up"):
        assert named in page, "the grant would name what the asking one does, too"
    answer = admin.change(*offered(page, "approval.allow"))
    assert answer.status == 200, answer.body
