"""Calls that wait for a person: who may answer, what an answer lets pass, and that it lets nothing else pass."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from harness.processes import automation_invite
from harness.receiver import Receiver
from harness.signing import SigningLaptop, call_message
from percall import wire

if TYPE_CHECKING:
    from harness.signing import Answer
    from integration.conftest import Served

RULES = """
@id("reads") permit(principal, action, resource) unless { resource is Tool && resource.name like "*_item" };
@id("writes") @ask("leads") @reason("Writing needs a lead.") permit(principal, action, resource)
when { resource is Tool && resource.name == "create_item" };
@id("apart") @ask("leads") @separate permit(principal, action, resource)
when { resource is Tool && resource.name == "get_item" };
@id("two") @ask("leads") permit(principal, action, resource)
when { resource is Tool && resource.name == "update_item" };
@id("two again") @ask("safety") permit(principal, action, resource)
when { resource is Tool && resource.name == "update_item" };
"""
TOOLS = ["get_*", "create_*", "update_*"]


@dataclass
class Team:
    """A broker whose policies ask, and who answers there."""

    served: Served
    lead: SigningLaptop
    safety: SigningLaptop
    stranger: SigningLaptop

    def agent(self) -> SigningLaptop:
        return self.served.enrol(tools=TOOLS)[0]

    def approver(self, name: str, *groups: str) -> SigningLaptop:
        return approver(self.served, name, *groups)

    def change(self, path: str, form: Any = None) -> Any:
        return self.served.administrator.administer("POST", f"/v1/admin{path}", form)

    def look(self, path: str) -> Any:
        return self.served.administrator.administer("GET", f"/v1/admin{path}")

    def story(self, call: str) -> list[dict[str, Any]]:
        return list(self.look(f"/calls/{call}")["entries"])


def approver(served: Served, name: str, *groups: str) -> SigningLaptop:
    form = {"person": name, "servers": {"keyed": {"tools": ["get_*", "create_*"]}}}
    made = served.administrator.administer("POST", "/v1/admin/grants", form)
    laptop = SigningLaptop.of_person(served.url, made["invite"])
    for group in groups:
        served.person.administer("POST", f"/v1/admin/groups/{group}/join", {"people": [name]})
    return laptop


@pytest.fixture(scope="module")
def team(served: Served) -> Team:
    lead, safety = approver(served, "lea", "leads"), approver(served, "sam", "safety")
    form = {"files": {"rules.cedar": RULES}, "message": "a test", "expected": -1}
    served.administrator.administer("POST", "/v1/admin/policies", form)
    return Team(served, lead, safety, approver(served, "eve"))


def asked(laptop: SigningLaptop, tool: str = "create_item", session: str = "", **arguments: Any) -> dict[str, Any]:
    """A call that waits: its approval as the shim learns of it."""
    answer = call(laptop, tool, session, **arguments)
    assert answer["decision"] == "ask", answer
    return dict(answer["approval"])


def call(laptop: SigningLaptop, tool: str = "create_item", session: str = "", **arguments: Any) -> dict[str, Any]:
    frame = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": tool, "arguments": arguments}}
    head = wire.encode(wire.CallRequest("keyed", "test 1", session=session))
    answer = laptop.send("POST", wire.PATH_CALLS, wire.join(head, json.dumps(frame).encode()))
    assert answer.status == 200, answer.body
    return answer.json


def decision(laptop: SigningLaptop, tool: str = "create_item", session: str = "", **arguments: Any) -> str:
    answer = call(laptop, tool, session, **arguments)
    return str(answer["refusal"]["code"] if answer["decision"] == "forbid" else answer["decision"])


def shown(laptop: SigningLaptop, approval: str) -> dict[str, Any]:
    return dict(laptop.administer("GET", f"{wire.PATH_INBOX}/{approval}"))


def answered(laptop: SigningLaptop, approval: str, verb: str = "allow", digest: str = "", **more: Any) -> Answer:
    if not digest:
        seen = laptop.send("GET", f"{wire.PATH_INBOX}/{approval}")
        digest = seen.json.get("digest", "")
    form = {"answer": verb, "digest": digest, **more}
    return laptop.send("POST", f"{wire.PATH_INBOX}/{approval}/answer", json.dumps(form).encode())


def allow(laptop: SigningLaptop, approval: str, **more: Any) -> dict[str, Any]:
    answer = answered(laptop, approval, **more)
    assert answer.status == 200, answer.body
    return answer.json


# --- what an answer lets pass -----------------------------------------------------------------------------------------


def test_a_call_waits_and_passes_once_when_it_is_allowed(team: Team) -> None:
    laptop = team.agent()
    waiting = asked(laptop, name="a")
    assert waiting["groups"] == ["leads"]
    assert waiting["url"] == f"{team.served.url}/console/approvals/{waiting['id']}"
    assert asked(laptop, name="a")["id"] == waiting["id"], "a further attempt joins the question"
    row = allow(team.lead, waiting["id"])
    assert (row["state"], row["answer"], row["scope"]) == ("allowed", "allow", "once")
    passed = call(laptop, name="a")
    assert (passed["decision"], bool(passed["credential"])) == ("permit", True)
    assert shown(team.lead, waiting["id"])["used_by"] == passed["call"]
    assert asked(laptop, name="a")["id"] != waiting["id"], "one approval is one call"


def test_an_automation_makes_nobody_an_approver(team: Team) -> None:
    people = SigningLaptop.enrolled(team.served.url, automation_invite(team.served.environment, may="people,grants"))
    people.administer("POST", "/v1/admin/people/mallory/invite")
    for group in ("leads", "safety"):
        answer = people.send("POST", f"/v1/admin/groups/{group}/join", b'{"people":["mallory"]}')
        assert answer.code == "automation.approvers"
    assert people.administer("POST", "/v1/admin/groups/others/join", {"people": ["mallory"]})["joined"] == ["mallory"]


def test_an_automation_takes_no_approvers_place_who_has_no_passphrase_yet(team: Team) -> None:
    people = SigningLaptop.enrolled(team.served.url, automation_invite(team.served.environment, may="people,grants"))
    for name in ("early", "outsider"):
        people.administer("POST", f"/v1/admin/people/{name}/invite")
    team.served.person.administer("POST", "/v1/admin/groups/leads/join", {"people": ["early"]})
    grant = json.dumps({"person": "early", "servers": {"keyed": {"tools": ["get_*"]}}}).encode()
    assert people.send("POST", "/v1/admin/people/early/invite").code == "automation.approvers"
    assert people.send("POST", "/v1/admin/grants", grant).code == "automation.approvers"
    assert people.send("POST", "/v1/admin/people/outsider/invite").status == 200
    assert people.send("POST", "/v1/admin/people/lea/invite").status == 200, "it asks for the passphrase"
    team.change("/groups/leads/leave", {"people": ["early"]})
    assert people.send("POST", "/v1/admin/grants", grant).status == 200


def test_a_call_that_was_allowed_was_asked_about_to_a_draft_of_policies(team: Team) -> None:
    laptop = team.agent()
    allow(team.lead, asked(laptop, name="replayed")["id"])
    passed = call(laptop, name="replayed")["call"]

    def difference(text: str) -> tuple[str, str] | None:
        found = team.change("/policies/replay", {"files": {"rules.cedar": text}, "days": 1})
        return next(((row["was"], row["would_be"]) for row in found["changed"] if row["call"] == passed), None)

    assert difference(RULES) is None
    assert difference("permit(principal, action, resource);") == ("ask", "permit")


def test_two_hundred_attempts_on_one_approval_and_one_passes(team: Team) -> None:
    laptop = team.agent()
    waiting = asked(laptop, name="many")["id"]
    allow(team.lead, waiting)
    laptop.send("GET", wire.PATH_SESSION)  # for a nonce
    with ThreadPoolExecutor(16) as pool:
        came = list(pool.map(lambda _: call(laptop, name="many"), range(200)))
    assert [answer["decision"] for answer in came].count("permit") == 1
    waits = {answer["approval"]["id"] for answer in came if answer["decision"] == "ask"}
    assert len(waits) == 1, "all others wait for one new approval"
    assert waits != {waiting}


def test_an_approval_is_for_these_arguments_this_tool_and_this_grant(team: Team) -> None:
    laptop, other = team.agent(), team.agent()
    waiting = asked(laptop, name="a", size=1)["id"]
    allow(team.lead, waiting)
    assert asked(laptop, name="a", size=2)["id"] != waiting
    assert asked(laptop, name="a")["id"] != waiting
    assert asked(laptop, "get_item", name="a", size=1)["id"] != waiting
    assert asked(other, name="a", size=1)["id"] != waiting
    assert decision(laptop, name="a", size=1) == "permit"


def test_other_policies_make_an_approval_worthless(team: Team) -> None:
    laptop = team.agent()
    waiting = asked(laptop, name="a")["id"]
    allow(team.lead, waiting)
    lasting = asked(laptop, name="b")["id"]
    allow(team.lead, lasting, scope="shape", seconds=600)
    form = {"files": {"rules.cedar": RULES}, "message": "the same again", "expected": -1}
    team.change("/policies", form)
    assert asked(laptop, name="a")["id"] not in {waiting, lasting}
    assert asked(laptop, name="b")["id"] not in {waiting, lasting}
    assert [shown(team.lead, one)["state"] for one in (waiting, lasting)] == ["ended", "ended"]
    assert answered(team.lead, waiting).code == "approval.answered", "nobody is asked for nothing"


def test_a_shape_lasts_for_what_the_approver_let_vary_and_for_nothing_else(team: Team) -> None:
    laptop, other = team.agent(), team.agent()
    waiting = asked(laptop, session="run-1", repo="acme/site", title="one")["id"]
    row = allow(team.lead, waiting, scope="shape", seconds=600, varying=["title"])
    assert row["lasts_until"] - row["answered_at"] == 600
    assert (row["scope"], row["varying"], row["lasting"]) == ("shape", ["title"], "active")
    assert decision(laptop, repo="acme/site", title="one") == "permit"
    for title in ("two", "three", 4):
        assert decision(laptop, repo="acme/site", title=title) == "permit"
    assert decision(laptop, repo="acme/other", title="two") == "ask"
    assert decision(laptop, repo="acme/site", title="two", force=True) == "ask", "a further argument"
    assert decision(laptop, repo="acme/site") == "ask", "one fewer"
    assert decision(laptop, "get_item", repo="acme/site", title="two") == "ask"
    assert decision(other, repo="acme/site", title="two") == "ask"
    lifted = team.lead.send("POST", f"{wire.PATH_INBOX}/{waiting}/lift")
    assert (lifted.status, lifted.json["lasting"]) == (200, "lifted")
    assert decision(laptop, repo="acme/site", title="five") == "ask"


def test_a_session_lasts_for_the_run_of_the_shim_that_asked(team: Team) -> None:
    laptop = team.agent()
    waiting = asked(laptop, session="run-1", name="a")["id"]
    row = allow(team.lead, waiting, scope="session", varying=["name"])
    assert row["lasts_until"] - row["answered_at"] == 12 * 3600
    assert decision(laptop, session="run-1", name="a") == "permit"
    assert decision(laptop, session="run-1", name="b") == "permit"
    assert decision(laptop, session="run-2", name="b") == "ask"
    assert decision(laptop, name="c") == "ask"
    nameless = asked(laptop, name="d")["id"]
    assert answered(team.lead, nameless, scope="session").code == "approval.session"


def test_a_denied_call_is_refused_and_not_asked_about_again(team: Team) -> None:
    laptop = team.agent()
    waiting = asked(laptop, name="a")["id"]
    assert answered(team.lead, waiting, "deny").json["state"] == "denied"
    for _ in range(2):
        refused = call(laptop, name="a")
        assert (refused["decision"], refused["refusal"]["code"]) == ("forbid", "approval.denied")
        assert "lea has denied" in refused["refusal"]["message"]
        (row,) = team.look("/calls?limit=1")
        assert (row["decision"], row["approval"], row["approver"]) == ("forbid", waiting, "lea")
    assert decision(laptop, name="b") == "ask", "another call is another question"


def test_never_lasts_whatever_the_grant_and_the_policies_until_it_is_lifted(team: Team) -> None:
    made = team.change("/grants", {"person": "nora", "servers": {"keyed": {"tools": TOOLS}}})
    laptop = SigningLaptop.enrolled(team.served.url, made["invite"])
    waiting = asked(laptop, name="a")["id"]
    version = team.look(f"/grants/{made['grant']}")["version"]
    assert answered(team.lead, waiting, "never").json["lasting"] == "active"
    assert team.look(f"/grants/{made['grant']}")["version"] > version, "so that no replica decides on what it remembers"
    assert decision(laptop, name="a") == "approval.never"
    assert decision(laptop, name="b") == "approval.never", "whatever the arguments"
    question = {"person": "nora", "server": "keyed", "tool": "create_item"}
    explained = team.change("/policies/explain", question)
    assert (explained["decision"], explained["reason"]) == ("forbid", "approval.never")
    team.change(f"/grants/{made['grant']}/revoke")
    again = team.change("/people/nora/invite")
    further = SigningLaptop.enrolled(team.served.url, again["invite"])
    team.change("/grants", {"person": "nora", "servers": {"keyed": {"tools": TOOLS}}})
    (anew,) = further.claimed()
    assert decision(anew, name="a") == "approval.never", "under another grant"
    permissive = {"rules.cedar": RULES + '@id("all") permit(principal, action, resource);'}
    team.change("/policies", {"files": permissive, "message": "", "expected": -1})
    assert decision(anew, name="a") == "approval.never", "also where no policy asks any more"
    team.change("/policies", {"files": {"rules.cedar": RULES}, "message": "", "expected": -1})
    assert team.stranger.send("POST", f"{wire.PATH_INBOX}/{waiting}/lift").code == "approval.unknown"
    assert team.lead.send("POST", f"{wire.PATH_INBOX}/{waiting}/lift").status == 200
    assert decision(anew, name="a") == "ask"
    assert team.lead.send("POST", f"{wire.PATH_INBOX}/{waiting}/lift").code == "approval.lasting"


def test_whoever_asked_takes_no_answer_back_and_whoever_administers_does(team: Team) -> None:
    asker = team.approver("otis")
    waiting = asked(asker, name="a")["id"]
    assert answered(team.lead, waiting, "never").status == 200
    assert shown(asker, waiting)["lasting"] == "active", "they see it"
    assert asker.send("POST", f"{wire.PATH_INBOX}/{waiting}/lift").code == "approval.group"
    assert decision(asker, name="a") == "approval.never"
    assert team.served.person.send("POST", f"{wire.PATH_INBOX}/{waiting}/lift").status == 200
    assert decision(asker, name="b") == "ask"


@pytest.mark.parametrize(
    ("form", "code"),
    [
        ({"verb": "deny", "scope": "session"}, "approval.scope"),
        ({"verb": "never", "scope": "shape", "seconds": 600}, "approval.scope"),
        ({"scope": "shape", "seconds": 59}, "approval.seconds"),
        ({"scope": "shape", "seconds": 8 * 3600 + 1}, "approval.seconds"),
        ({"varying": ["name"]}, "approval.varying"),
        ({"scope": "shape", "seconds": 600, "varying": ["title"]}, "approval.varying"),
    ],
)
def test_an_answer_that_cannot_be_given_is_none(team: Team, form: dict[str, Any], code: str) -> None:
    waiting = asked(team.agent(), session="run-1", name="a")["id"]
    assert answered(team.lead, waiting, **form).code == code
    assert shown(team.lead, waiting)["state"] == "pending"


def test_each_of_several_groups_must_say_yes_and_one_no_is_enough(team: Team) -> None:
    laptop = team.agent()
    waiting = asked(laptop, "update_item", n=1)
    assert sorted(waiting["groups"]) == ["leads", "safety"]
    assert allow(team.lead, waiting["id"])["state"] == "pending"
    assert decision(laptop, "update_item", n=1) == "ask"
    assert answered(team.lead, waiting["id"]).code == "approval.not_yours", "not twice by one"
    assert allow(team.safety, waiting["id"])["state"] == "allowed"
    assert decision(laptop, "update_item", n=1) == "permit"
    second = asked(laptop, "update_item", n=2)["id"]
    assert answered(team.lead, second, scope="shape", seconds=600).code == "approval.scope"
    allow(team.lead, second)
    assert answered(team.safety, second, "deny").json["state"] == "denied"
    assert decision(laptop, "update_item", n=2) == "approval.denied"


# --- attacks ----------------------------------------------------------------------------------------------------------


def test_who_is_in_no_group_that_is_asked_neither_sees_nor_answers(team: Team) -> None:
    waiting = asked(team.agent(), name="a")["id"]
    digest = shown(team.lead, waiting)["digest"]
    for laptop in (team.stranger, team.safety):
        assert laptop.send("GET", f"{wire.PATH_INBOX}/{waiting}").code == "approval.unknown"
        assert laptop.send("POST", f"{wire.PATH_INBOX}/{waiting}/arguments").code == "approval.unknown"
        assert answered(laptop, waiting, digest=digest).code == "approval.unknown"
        assert waiting not in {row["approval"] for row in laptop.administer("GET", wire.PATH_INBOX)}
    administrator = SigningLaptop.of_person(team.served.url, team.served.local_invite("root"))
    assert shown(administrator, waiting)["answerable"] is False
    assert answered(administrator, waiting).code == "approval.not_yours", "who administers is in no group by that"
    assert shown(team.lead, waiting)["state"] == "pending"


def test_who_has_left_the_group_answers_no_more(team: Team) -> None:
    former = team.approver("fred", "leads")
    waiting = asked(team.agent(), name="a")["id"]
    digest = shown(former, waiting)["digest"]
    team.change("/groups/leads/leave", {"people": ["fred"]})
    assert answered(former, waiting, digest=digest).code == "approval.unknown"


@pytest.mark.parametrize(
    ("path", "form"),
    [
        ("/people/{name}/remove", None),
        ("/people/{name}/suspend", None),
        ("/freezes", {"kind": "person", "name": "{name}", "reason": ""}),
        ("/groups/leads/leave", {"people": ["{name}"]}),
    ],
)
def test_what_somebody_allowed_ends_with_their_right_to(team: Team, path: str, form: Any) -> None:
    name = f"former-{path.rpartition('/')[2]}"
    former, laptop = team.approver(name, "leads"), team.agent()
    once, lasting = asked(laptop, name="once")["id"], asked(laptop, name="lasting")["id"]
    of_two, by_another = asked(laptop, "update_item", n=1)["id"], asked(laptop, name="by another")["id"]
    never = asked(laptop, "update_item", n=2)["id"]
    for one in (once, of_two):
        allow(former, one)
    allow(former, lasting, scope="shape", seconds=600, varying=["name"])
    allow(team.lead, by_another)
    assert answered(former, never, "deny").status == 200
    assert decision(laptop, name="anything") == "permit"
    team.change(path.format(name=name), json.loads(json.dumps(form).replace("{name}", name)))
    assert [shown(team.lead, one)["state"] for one in (once, lasting, of_two)] == ["ended", "ended", "pending"]
    assert decision(laptop, name="once") == "ask"
    assert decision(laptop, name="anything") == "ask"
    assert decision(laptop, name="by another") == "permit", "and nobody else's does"
    assert decision(laptop, "update_item", n=2) == "approval.denied", "a no stands"
    assert allow(team.safety, of_two)["state"] == "pending", "the leads have still to say yes"
    assert allow(team.lead, of_two)["state"] == "allowed"


def test_nobody_approves_their_own_call_where_somebody_else_must(team: Team) -> None:
    own = asked(team.lead, "get_item", n=1)["id"]
    refused = answered(team.lead, own)
    assert (refused.status, refused.code) == (403, "approval.not_yours")
    assert "Whoever asks must not answer" in refused.json["error"]["message"]
    assert decision(team.lead, "get_item", n=1) == "ask"
    allow(team.approver("lou", "leads"), own)
    assert decision(team.lead, "get_item", n=1) == "permit"
    plain = asked(team.lead, name="a")["id"]
    assert allow(team.lead, plain)["state"] == "allowed", "where the policy does not say @separate"


def test_a_device_signature_alone_and_an_automation_answer_nothing(team: Team) -> None:
    waiting = asked(team.agent(), name="a")["id"]
    digest = shown(team.lead, waiting)["digest"]
    signer, team.lead.presence = team.lead.presence, None
    try:
        for verb in ("allow", "deny", "never"):
            assert answered(team.lead, waiting, verb, digest=digest).code == "presence.required"
        assert team.lead.send("POST", f"{wire.PATH_INBOX}/{waiting}/lift").code == "presence.required"
    finally:
        team.lead.presence = signer
    assert answered(team.served.administrator, waiting, digest=digest).code == "automation.presence"
    assert shown(team.lead, waiting)["state"] == "pending"


def test_an_answer_is_for_what_was_seen_and_serves_once(team: Team) -> None:
    laptop = team.agent()
    first, second = asked(laptop, name="a")["id"], asked(laptop, name="b")["id"]
    wrong = answered(team.lead, second, digest=shown(team.lead, first)["digest"])
    assert (wrong.status, wrong.code) == (409, "approval.changed")
    team.lead.send("GET", wire.PATH_SESSION)
    path = f"{wire.PATH_INBOX}/{first}/answer"
    body = json.dumps({"answer": "allow", "digest": shown(team.lead, first)["digest"]}).encode()
    captured = team.lead.headers("POST", path, body)
    other = f"{wire.PATH_INBOX}/{second}/answer"
    assert team.lead.exchange("POST", other, body, captured).status == 401, "not for another approval"
    assert team.lead.exchange("POST", path, body.replace(b"allow", b"never"), captured).status == 401
    assert team.lead.exchange("POST", path, body, captured).status == 200
    assert decision(laptop, name="a") == "permit"
    again = asked(laptop, name="a")["id"]
    assert team.lead.exchange("POST", path, body, captured).code == "proof.replayed"
    assert answered(team.lead, first, digest=shown(team.lead, first)["digest"]).code == "approval.answered"
    assert shown(team.lead, again)["state"] == "pending"


def test_a_captured_question_is_no_call_later(team: Team) -> None:
    laptop = team.agent()
    laptop.send("GET", wire.PATH_SESSION)
    messages = []
    for _ in range(2):  # one that asks, and one that joins
        body = call_message("keyed", "tools/call", {"name": "create_item", "arguments": {"name": "captured"}})
        messages.append((body, laptop.headers("POST", wire.PATH_CALLS, body)))
    answers = [laptop.exchange("POST", wire.PATH_CALLS, *message).json for message in messages]
    assert [answer["decision"] for answer in answers] == ["ask", "ask"]
    allow(team.lead, answers[0]["approval"]["id"])
    for message in messages:
        assert laptop.exchange("POST", wire.PATH_CALLS, *message).code == "proof.replayed"
    assert decision(laptop, name="captured") == "permit"


def test_a_revoked_grant_and_a_removed_person_have_nothing_waiting(team: Team) -> None:
    made = team.change("/grants", {"person": "gone", "servers": {"keyed": {"tools": TOOLS}}})
    laptop = SigningLaptop.enrolled(team.served.url, made["invite"])
    stays = asked(team.agent(), name="stays")["id"]
    waiting, allowed = asked(laptop, name="a")["id"], asked(laptop, name="b")["id"]
    lasting = asked(laptop, name="c")["id"]
    allow(team.lead, allowed)
    allow(team.lead, lasting, scope="shape", seconds=600)
    assert team.change("/people/gone/remove")["ended"]["approvals"] == 3
    assert [shown(team.lead, one)["state"] for one in (waiting, allowed, lasting, stays)] == [
        *["ended"] * 3,
        "pending",
    ]
    assert shown(team.lead, lasting)["lasting"] == "ended"
    assert answered(team.lead, waiting).code == "approval.answered"
    revoked, grant = team.served.enrol(tools=TOOLS)
    second = asked(revoked, name="a")["id"]
    team.served.change(grant, "revoke")
    assert shown(team.lead, second)["state"] == "ended"


def test_a_freeze_holds_also_what_was_approved(team: Team) -> None:
    laptop = team.agent()
    allow(team.lead, asked(laptop, name="a")["id"])
    team.change("/freezes", {"kind": "server", "name": "keyed"})
    assert decision(laptop, name="a") == "server.frozen"
    team.change("/freezes/lift", {"kind": "server", "name": "keyed"})
    assert decision(laptop, name="a") == "permit"


def test_a_grant_asks_for_so_much_at_a_time_and_no_more(team: Team) -> None:
    laptop = team.agent()
    for number in range(20):
        asked(laptop, n=number)
    assert decision(laptop, n=20) == "approval.many"
    assert decision(laptop, n=19) == "ask", "what waits already, waits"
    assert requested(laptop).code == "approval.many", "nor for a grant"
    assert decision(team.agent(), n=20) == "ask", "another grant is not held up"


# --- what is shown, and what is on record -----------------------------------------------------------------------------


def test_arguments_are_opened_whole_and_that_they_were_is_recorded(team: Team) -> None:
    laptop = team.agent()
    waiting = asked(laptop, name="a\u202eb", body="x\u200b<script>")["id"]
    opened = team.lead.administer("POST", f"{wire.PATH_INBOX}/{waiting}/arguments")
    arguments = opened["arguments"]
    assert json.loads(arguments["text"]) == {"name": "a\u202eb", "body": "x\u200b<script>"}
    assert (arguments["bytes"], arguments["names"]) == (len(arguments["text"].encode()), ["body", "name"])
    assert arguments["digest"] == shown(team.lead, waiting)["digest_of_arguments"]
    story = team.story(opened["call"])
    assert [(entry["kind"], entry.get("person")) for entry in story][-1] == ("reading", "lea")


@pytest.mark.parametrize(
    "change",
    [
        "DELETE FROM arguments WHERE call = '{call}'",
        "UPDATE arguments SET sealed = (SELECT sealed FROM arguments WHERE call = '{other}') WHERE call = '{call}'",
    ],
    ids=["erased", "another call's"],
)
def test_nobody_allows_a_call_whose_own_arguments_cannot_be_shown(team: Team, change: str) -> None:
    laptop = team.agent()
    calls = {name: shown(team.lead, asked(laptop, name=name)["id"]) for name in ("call", "other")}
    team.served.past_the_broker(change.format(**{name: row["call"] for name, row in calls.items()}))
    waiting = calls["call"]["approval"]
    opened = team.lead.administer("POST", f"{wire.PATH_INBOX}/{waiting}/arguments")
    assert (opened["arguments"]["text"], opened["answerable"]) == (None, False)
    assert answered(team.lead, waiting).code == "approval.unreadable"
    assert answered(team.lead, waiting, scope="shape", seconds=600).code == "approval.unreadable"
    assert answered(team.lead, waiting, "deny").json["state"] == "denied"


def test_arguments_that_nobody_could_read_are_asked_about_by_nobody(team: Team) -> None:
    assert decision(team.agent(), body="x" * 300_000) == "approval.size"


def test_the_record_tells_who_approved_how_and_after_how_long(team: Team) -> None:
    laptop = team.agent()
    waiting = asked(laptop, name="told")["id"]
    allow(team.lead, waiting)
    passed = call(laptop, name="told")["call"]
    (entry,) = team.story(passed)
    told = entry["approval"]
    assert (told["id"], told["answer"], told["scope"], told["lasting"]) == (waiting, "allow", "once", False)
    assert told["by"] == [{"person": "lea", "group": "leads", "presence": "passphrase"}]
    assert told["waited_ms"] >= 0
    assert entry["policies"] == ["writes"]
    first = team.story(told["asked"])
    assert [(one["kind"], one.get("decision"), one.get("action")) for one in first] == [
        ("call", "ask", None),
        ("change", None, "approval.allow"),
    ]
    assert first[0]["waits_for"] == waiting
    assert first[1]["presence"] == "passphrase"
    rows = {row["call"]: row for row in team.look("/calls?limit=5") if row["approval"] == waiting}
    assert (rows[passed]["decision"], rows[passed]["approver"]) == ("permit", "lea")
    assert rows[told["asked"]]["decision"] == "ask"


def test_an_inbox_lists_pages_and_filters(team: Team) -> None:
    laptop = team.agent()
    made = [asked(laptop, n=number)["id"] for number in range(5)]
    person = shown(team.lead, made[0])["person"]

    def listed(query: str) -> list[dict[str, Any]]:
        return list(team.lead.administer("GET", f"{wire.PATH_INBOX}?person={person}&{query}"))

    first = listed("state=pending&limit=3")
    rest = listed(f"state=pending&limit=3&before={first[-1]['seq']}")
    assert [row["approval"] for row in (*first, *rest)] == made[::-1]
    allow(team.lead, made[0])
    assert [row["approval"] for row in listed("state=allowed")] == made[:1]
    assert len(listed("mine=true")) == 4
    assert listed("server=other") == listed("kind=grant") == []
    own = wire.decode(wire.OwnApprovals, laptop.send("GET", wire.PATH_APPROVALS).json)
    assert [one.id for one in own.approvals] == made[::-1]


# --- asking for more --------------------------------------------------------------------------------------------------


def requested(laptop: SigningLaptop, server: str = "keyed", *tools: str) -> Answer:
    wanted = wire.GrantRequest(server, tools or ("get_item",), 3600, "a test")
    return laptop.send("POST", wire.PATH_APPROVALS, wire.dump(wire.encode(wanted)))


def test_a_request_that_is_allowed_makes_a_grant_that_ends_and_waits_for_the_device(team: Team) -> None:
    laptop, _ = team.served.enrol(tools=["get_echo"])
    answer = requested(laptop, "keyed", "delete_item")
    assert answer.status == 200, answer.body
    waiting = answer.json["id"]
    assert requested(laptop, "keyed", "delete_item").code == "approval.asked"
    assert answered(team.lead, waiting).code == "approval.unknown", "that is for administrators"
    administrator = SigningLaptop.of_person(team.served.url, team.served.local_invite("admina"))
    assert answered(administrator, waiting, "never").code == "approval.answer"
    row = allow(administrator, waiting)
    made = team.look(f"/grants/{row['used_by']}")
    assert (made["state"], made["servers"]["keyed"]["tools"]) == ("waiting", ["delete_item", "get_echo"])
    assert 0 < made["expires_at"] - made["created_at"] <= 3600
    (further,) = laptop.claimed()
    assert decision(further, "delete_item") == "policy.none", "the policies hold for it as well"


def test_a_request_for_what_is_not_there_can_be_denied_alone(team: Team) -> None:
    """Whoever asks is not told which servers there are."""
    laptop = team.agent()
    asked_for = requested(laptop, "nowhere").json["id"]
    administrator = SigningLaptop.of_person(team.served.url, team.served.local_invite("rita"))
    refused = answered(administrator, asked_for)
    assert refused.code == "server.unknown"
    assert "approval deny" in refused.json["error"]["next_step"]
    assert answered(administrator, asked_for, "deny").json["state"] == "denied"
    assert requested(laptop, "nowhere").code == "approval.denied", "not again for a while"


def test_what_is_asked_for_is_bounded(team: Team) -> None:
    laptop = team.agent()
    for wanted, code in (
        (wire.GrantRequest("keyed", (), 3600), "request.tools"),
        (wire.GrantRequest("keyed", ("a\nb",), 3600), "request.tools"),
        (wire.GrantRequest("keyed", ("a",), 3), "request.seconds"),
        (wire.GrantRequest("keyed", ("a",), 10**9), "request.seconds"),
        (wire.GrantRequest("../x", ("a",), 3600), "server.name"),
        (wire.GrantRequest("keyed", ("a",), 3600, "a\x1b[0m"), "request.reason"),
    ):
        assert laptop.send("POST", wire.PATH_APPROVALS, wire.dump(wire.encode(wanted))).code == code


# --- being told -------------------------------------------------------------------------------------------------------


def test_a_question_is_told_without_its_arguments_also_as_a_message_for_a_channel(team: Team) -> None:
    with Receiver() as plain, Receiver() as channel:
        for receiver, form in ((plain, "json"), (channel, "slack")):
            made = team.change("/webhooks", {"url": receiver.url, "format": form})
            receiver.key = made["key"]
        waiting = asked(team.agent(), name="an argument that stays here")
        told = plain.next("approval.requested", approval=waiting["id"])["data"]
        assert (told["groups"], told["tool"], told["url"]) == (["leads"], "create_item", waiting["url"])
        channel.wait(lambda: any(waiting["id"] in event["text"] for event in channel.events), "a message")
        message = next(event for event in channel.events if waiting["id"] in event["text"])
        assert message["blocks"][1]["elements"][0]["url"] == waiting["url"]
        assert "an argument" not in json.dumps([plain.events, channel.events])
        refused = team.served.administrator.send(
            "POST", "/v1/admin/webhooks", json.dumps({"url": plain.url, "format": "carrier pigeon"}).encode()
        )
        assert refused.code == "webhook.format"
        for row in team.look("/webhooks"):
            team.served.administrator.administer("DELETE", f"/v1/admin/webhooks/{row['webhook']}")


# --- a restart --------------------------------------------------------------------------------------------------------


def test_what_waits_and_what_was_allowed_survives_a_restart(team: Team) -> None:
    laptop = team.agent()
    waiting, allowed = asked(laptop, name="a")["id"], asked(laptop, name="b")["id"]
    allow(team.lead, allowed)
    team.served.stop()
    team.served.start()
    assert asked(laptop, name="a")["id"] == waiting
    assert decision(laptop, name="b") == "permit"
    allow(team.lead, waiting)
    assert decision(laptop, name="a") == "permit"


def test_the_event_stream_says_that_an_approval_was_answered(team: Team) -> None:
    laptop = team.agent()
    waiting = asked(laptop, name="a")["id"]
    with laptop.events() as events:
        events.next()
        allow(team.lead, waiting)
        assert events.next("approval") == {"ids": [waiting]}
