"""Policies in force: for the very next call, on every replica, with their limits counted once."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from integration.replicas import replicas

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harness.signing import Answer, SigningLaptop
    from integration.conftest import Served

ALL = '@id("all") permit(principal, action, resource);\n'


@pytest.fixture
def ruled(served: Served) -> Iterator[Served]:
    """The broker, whose policies are again as they were when it was new once the test is over."""
    yield served
    apply(served, ALL)


def apply(served: Served, text: str, expected: int = -1) -> dict[str, Any]:
    form = {"files": {"rules.cedar": text}, "message": "a test", "expected": expected}
    return dict(served.administrator.administer("POST", "/v1/admin/policies", form))


def post(served: Served, path: str, form: Any) -> Answer:
    return served.administrator.send("POST", f"/v1/admin/policies{path}", json.dumps(form).encode())


def refused(laptop: SigningLaptop, tool: str = "get_item", **arguments: Any) -> dict[str, Any]:
    answer = laptop.call("keyed", tool, arguments)
    assert answer["decision"] == "forbid", answer
    return dict(answer["refusal"])


def permitted(laptop: SigningLaptop, tool: str = "get_item", **arguments: Any) -> bool:
    return bool(laptop.call("keyed", tool, arguments)["decision"] == "permit")


def story(served: Served, call: str) -> dict[str, Any]:
    return dict(served.administrator.administer("GET", f"/v1/admin/calls/{call}")["entries"][0])


def test_a_broker_without_policies_has_one_that_can_be_seen_and_that_permits_what_the_grant_permits(
    served: Served,
) -> None:
    shown = served.administrator.administer("GET", "/v1/admin/policies/0")
    assert "what-the-grant-permits" in shown["files"]["built-in.cedar"]
    assert served.administrator.administer("GET", "/v1/admin/policies")[-1]["version"] == 0
    laptop, _ = served.enrol()
    assert permitted(laptop)


def test_a_policy_holds_for_the_very_next_call_and_its_reason_is_told(ruled: Served) -> None:
    laptop, _ = ruled.enrol()
    assert permitted(laptop)
    applied = apply(ruled, ALL + '@id("no") @reason("Not on Tuesdays.") forbid(principal, action, resource);')
    refusal = refused(laptop)
    assert (refusal["code"], refusal["message"]) == ("policy.forbid", "Not on Tuesdays.")
    (newest, *_) = laptop.log()
    entry = story(ruled, newest["call"])
    assert (entry["policies"], entry["policy_version"]) == (["no"], applied["version"])
    apply(ruled, ALL)
    assert permitted(laptop)


def test_a_group_that_is_asked_and_in_which_nobody_could_answer_is_told(ruled: Served) -> None:
    rules = ALL + '@ask("no-such") permit(principal, action == Action::"tools/call", resource);'
    assert apply(ruled, rules)["nobody_in"] == ["no-such"]
    person = ruled.invite("keyed")["person"]
    ruled.person.administer("POST", "/v1/admin/groups/no-such/join", {"people": [person]})
    assert apply(ruled, rules)["nobody_in"] == []
    ruled.administrator.administer("POST", f"/v1/admin/people/{person}/suspend")
    assert apply(ruled, rules)["nobody_in"] == ["no-such"]


def test_no_grant_is_widened_by_a_policy(ruled: Served) -> None:
    laptop, _ = ruled.enrol()
    apply(ruled, ALL)
    assert refused(laptop, "delete_item")["code"] == "grant.tool"


def test_policies_that_do_not_hold_change_nothing(ruled: Served) -> None:
    before = apply(ruled, ALL)["version"]
    form = {"files": {"rules.cedar": "permit(principal, action);"}}
    answer = post(ruled, "", form)
    assert (answer.status, answer.code) == (400, "policy.invalid")
    assert "rules.cedar:1" in answer.json["error"]["message"]
    assert ruled.administrator.administer("GET", "/v1/admin/policies/-1")["version"] == before
    assert post(ruled, "", {"files": {}}).code == "policy.empty"


def test_who_looked_at_an_older_version_does_not_replace_a_newer_one(ruled: Served) -> None:
    version = apply(ruled, ALL)["version"]
    apply(ruled, ALL, expected=version)
    form = {"files": {"rules.cedar": ALL}, "expected": version}
    assert post(ruled, "", form).code == "policy.changed"


def test_arguments_decide_and_what_is_too_large_is_refused(ruled: Served) -> None:
    laptop, _ = ruled.enrol()
    apply(
        ruled,
        'permit(principal, action, resource) when { context.arguments.hasTag("repo")'
        ' && context.arguments.getTag("repo") like "acme/*" };',
    )
    assert permitted(laptop, repo="acme/site")
    assert refused(laptop, repo="other/site")["code"] == "policy.none"
    assert refused(laptop)["code"] == "policy.none"
    assert refused(laptop, repo="acme/" + "x" * 300_000)["code"] == "policy.size"


def test_a_policy_that_cannot_be_evaluated_refuses(ruled: Served) -> None:
    laptop, _ = ruled.enrol()
    apply(
        ruled,
        ALL + '@id("sums") forbid(principal, action, resource)'
        ' when { context.numbers.hasTag("n") && context.numbers.getTag("n") + 1 == 0 };',
    )
    assert permitted(laptop, n=1)
    refusal = refused(laptop, n=2**63 - 1)
    assert refusal["code"] == "policy.error"
    assert "sums" in refusal["message"]


def test_an_observed_policy_is_recorded_and_enforces_nothing(ruled: Served) -> None:
    laptop, _ = ruled.enrol()
    apply(ruled, ALL + '@id("later") @observe forbid(principal, action, resource);')
    answer = laptop.call("keyed", "get_item")
    assert answer["decision"] == "permit"
    assert story(ruled, answer["call"])["observed"] == "forbid by later"


def test_a_call_that_must_be_approved_is_not_permitted_by_itself(ruled: Served) -> None:
    laptop, _ = ruled.enrol()
    apply(ruled, '@ask("leads") @reason("A lead looks at it first.") permit(principal, action, resource);')
    answer = laptop.call("keyed", "get_item")
    assert (answer["decision"], answer["refusal"]["code"]) == ("ask", "policy.ask")
    assert "credential" not in answer
    assert answer["refusal"]["message"].startswith("A lead looks at it first.")


def test_a_limit_holds_under_parallel_calls_on_every_replica_and_says_when_to_try_again(ruled: Served) -> None:
    laptop, _ = ruled.enrol()
    other, _ = ruled.enrol()
    apply(ruled, '@id("few") @limit("7/hour") permit(principal, action, resource);')
    with replicas(ruled) as urls, ThreadPoolExecutor(16) as pool:
        laptops = [replace(laptop, at=urls[index % len(urls)]) for index in range(40)]
        done = list(pool.map(permitted, laptops))
    assert done.count(True) == 7
    refusal = refused(laptop)
    assert refusal["code"] == "policy.limit"
    assert "7 of these calls an hour" in refusal["message"]
    minutes = int(refusal["next_step"].removeprefix("Try again in ").removesuffix(" minutes."))
    assert 1 < minutes <= 60
    assert permitted(other), "a limit is each person's own"


def test_no_call_is_recorded_under_policies_that_are_no_longer_in_force(ruled: Served) -> None:
    laptop, _ = ruled.enrol()
    apply(ruled, ALL)
    with ThreadPoolExecutor(8) as pool:
        calls = [pool.submit(laptop.call, "keyed", "get_item", {}) for _ in range(60)]
        forbidding = apply(ruled, "forbid(principal, action, resource);")
        after = pool.submit(laptop.call, "keyed", "get_item", {}).result()
        answers = [call.result() for call in calls]
    assert after["decision"] == "forbid"
    entries = [story(ruled, answer["call"]) for answer in answers]
    for answer, entry in zip(answers, entries, strict=True):
        assert (answer["decision"] == "forbid") == (entry["policy_version"] == forbidding["version"])


def test_explain_says_what_would_happen_and_which_policy_decides(ruled: Served) -> None:
    made = ruled.invite()
    apply(ruled, ALL + '@id("no-writes") forbid(principal, action, resource == Tool::"keyed/get_secret");')
    question = {"person": made["person"], "server": "keyed", "tool": "get_item"}

    def explain(**more: Any) -> dict[str, Any]:
        form = {**question, **more}
        return dict(ruled.administrator.administer("POST", "/v1/admin/policies/explain", form))

    assert (explain()["decision"], explain()["policies"]) == ("permit", ["all"])
    assert explain(tool="get_secret")["policies"] == ["no-writes"]
    assert explain(tool="delete_item")["reason"] == "grant.tool"
    draft = {"rules.cedar": "forbid(principal, action, resource);"}
    assert explain(draft=draft)["decision"] == "forbid"
    assert post(ruled, "/explain", {**question, "person": "nobody"}).code == "grant.unknown"
    made = ruled.administrator.administer(
        "POST",
        "/v1/admin/grants",
        {"person": "other", "servers": {"keyed": {"tools": ["get_*"]}}, "agent": "cursor", "expires_at": 0},
    )
    other = post(ruled, "/explain", {**question, "person": made["person"]})
    assert other.json["error"]["next_step"] == "Add --agent cursor."
    ruled.administrator.administer("POST", f"/v1/admin/grants/{made['grant']}/revoke")
    ended = post(ruled, "/explain", {**question, "person": made["person"]}).json["error"]
    assert ended["message"].endswith("with the agent 'default'. That of cursor is revoked.")
    assert ended["next_step"] == "See: percall-broker grant list."


def test_a_draft_holds_up_nobody_however_long_it_takes(ruled: Served) -> None:
    """A device's signature is enough to try one, and Cedar's native code cannot be interrupted."""
    made = ruled.invite()
    laptop, _ = ruled.enrol()
    texts = (f"*{'a' * 1000}{number}" for number in range(2))
    condition = 'context.arguments.hasTag("t") && context.arguments.getTag("t") like "%s"'
    slow = "".join(f"permit(principal, action, resource) when {{ {condition % text} }};\n" for text in texts)
    question = {"person": made["person"], "server": "keyed", "tool": "get_item", "draft": {"a.cedar": slow}}
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(post, ruled, "/explain", {**question, "arguments": json.dumps({"t": "a" * 250_000})})
        calls = 0
        while not asked.done():
            assert permitted(laptop)
            calls += 1
        assert asked.result().json["decision"] == "forbid"
    assert calls > 3, "while the draft was evaluated"


def changed_by(served: Served, text: str) -> dict[str, tuple[str, str]]:
    """What these policies would have decided otherwise, by the tool of the call, or what else was asked for."""
    form = {"files": {"rules.cedar": text}, "days": 1}
    found = served.administrator.administer("POST", "/v1/admin/policies/replay", form)
    assert found["complete"]
    return {row["tool"]: (row["was"], row["would_be"]) for row in found["changed"]}


def test_a_limit_that_refused_a_call_is_no_difference_to_a_draft(ruled: Served) -> None:
    laptop, _ = ruled.enrol(tools=["limited_*"])
    apply(ruled, few := '@id("few") @limit("1/hour") permit(principal, action, resource);')
    assert permitted(laptop, "limited_item")
    assert refused(laptop, "limited_item")["code"] == "policy.limit"
    assert "limited_item" not in changed_by(ruled, few)


def test_a_prompt_whose_name_has_spaces_is_replayed_under_that_name(ruled: Served) -> None:
    laptop, _ = ruled.enrol(prompts=["*"])
    apply(ruled, ALL)
    assert laptop.ask("keyed", "prompts/get", {"name": "a long name"}).json["decision"] == "permit"
    other = 'permit(principal, action, resource) unless { resource is Prompt && resource.name == "a long name" };'
    assert changed_by(ruled, other)["prompts/get a long name"] == ("permit", "forbid")


def test_replay_lists_what_a_draft_would_have_decided_otherwise_and_is_recorded(ruled: Served) -> None:
    laptop, _ = ruled.enrol()
    apply(ruled, ALL)
    kept = laptop.call("keyed", "get_item", {"repo": "acme/site"})["call"]
    changed = laptop.call("keyed", "get_item", {"repo": "other/site"})["call"]
    draft = {
        "rules.cedar": 'permit(principal, action, resource) when { context.arguments.hasTag("repo")'
        ' && context.arguments.getTag("repo") like "acme/*" };'
    }
    found = ruled.administrator.administer("POST", "/v1/admin/policies/replay", {"files": draft, "days": 1})
    told = {row["call"]: (row["was"], row["would_be"]) for row in found["changed"]}
    assert told[changed] == ("permit", "forbid")
    assert kept not in told
    assert any(row["action"] == "policy.replay" for row in ruled.administrator.administer("GET", "/v1/admin/changes"))
