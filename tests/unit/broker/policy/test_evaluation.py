"""What the policies say of a call: strictest wins, nothing matches means no, an error means no."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from percall_broker.model.records import Limit
from percall_broker.policy import BUILT_IN, Asked, Evaluator, Verdict, read

NOON = 1_795_478_400.0 + 12 * 3600  # Tuesday, 2026-11-24, 12:00 UTC
CALL = Asked(
    person="alice",
    agent="cursor",
    device="laptop",
    groups=("devs",),
    server="github",
    delivery="egress",
    method="tools/call",
    kind="tool",
    subjects=("create_issue",),
    client="Cursor/1.0",
    digest="d",
    arguments=b"{}",
)
ALL = "permit(principal, action, resource);"


def ask(policy: str, call: Asked = CALL, **arguments: Any) -> Verdict:
    body = json.dumps(arguments).encode()
    return Evaluator()(read({"a.cedar": policy}, 1), replace(call, arguments=body, digest=body.decode()), NOON)


def test_what_the_grant_permits_is_permitted_until_policies_are_applied() -> None:
    verdict = Evaluator()(read(BUILT_IN, 0), CALL, NOON)
    assert (verdict.effect, verdict.policies) == ("permit", ("what-the-grant-permits",))


def test_nothing_that_matches_means_no() -> None:
    assert ask('permit(principal == Agent::"bob/cursor", action, resource);').code == "policy.none"
    assert ask("").code == "policy.none"


@pytest.mark.parametrize(
    "scope",
    [
        'principal == Agent::"alice/cursor", action, resource',
        'principal in Person::"alice", action, resource',
        'principal in Group::"devs", action, resource',
        'principal, action == Action::"tools/call", resource',
        'principal, action, resource in Server::"github"',
        'principal, action, resource == Tool::"github/create_issue"',
    ],
)
def test_person_group_agent_method_server_and_tool_can_be_named(scope: str) -> None:
    assert ask(f"permit({scope});").effect == "permit"


def test_the_strictest_wins() -> None:
    asking = '@ask("leads") permit(principal, action, resource);'
    assert ask(ALL + asking).effect == "ask"
    assert ask(ALL + asking).ask == ("leads",)
    assert ask(ALL + asking + "forbid(principal, action, resource);").effect == "forbid"


def test_a_refusal_says_the_policys_own_reason() -> None:
    verdict = ask(ALL + '@id("no-writes") @reason("Writes go through review.") forbid(principal, action, resource);')
    assert (verdict.code, verdict.message, verdict.policies) == (
        "policy.forbid",
        "Writes go through review.",
        ("no-writes",),
    )


@pytest.mark.parametrize(
    ("condition", "arguments"),
    [
        ('context.arguments.hasTag("repo") && context.arguments.getTag("repo") like "acme/*"', {"repo": "acme/x"}),
        ('context.arguments.hasTag("a/b~1c") && context.arguments.getTag("a/b~1c") == "x"', {"a": {"b/c": "x"}}),
        ('context.arguments.hasTag("on") && context.arguments.getTag("on") == "true"', {"on": True}),
        ('context.numbers.hasTag("n") && context.numbers.getTag("n") > 3', {"n": 4}),
        ('context.lists.hasTag("l") && context.lists.getTag("l").contains("bug")', {"l": ["bug", "ui"]}),
        ('context.arguments.hasTag("l/0") && context.arguments.getTag("l/0") == "bug"', {"l": ["bug"]}),
        ('context.hour == 12 && context.weekday == "tuesday"', {}),
        ('context.now > datetime("2026-11-24")', {}),
        ('context.client like "Cursor/*"', {}),
        ('principal.name == "cursor" && principal.device == "laptop"', {}),
    ],
)
def test_conditions_read_arguments_time_and_client(condition: str, arguments: dict[str, Any]) -> None:
    assert ask(f"permit(principal, action, resource) when {{ {condition} }};", **arguments).effect == "permit"
    opposite = f"permit(principal, action, resource) unless {{ {condition} }};"
    assert ask(opposite, **arguments).effect == "forbid"


AT_MOST_100 = (
    "forbid(principal, action, resource)"
    ' unless { context.numbers.hasTag("amount") && context.numbers.getTag("amount") <= 100 };'
)
NAMES = st.sampled_from(["", "/", "~", "~1", "0", "amount", "/amount"])
VALUES = st.recursive(
    st.integers(0, 9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=8,
)


@given(others=st.dictionaries(NAMES, VALUES), last=st.booleans())
@example(others={"": {"amount": 1}}, last=True)
def test_no_other_argument_can_stand_for_the_one_that_a_policy_reads(others: dict[str, Any], *, last: bool) -> None:
    amount = {"amount": 5000}
    call = {**others, **amount} if last else {**amount, **others, **amount}
    assert ask(ALL + AT_MOST_100, **call).effect == "forbid"
    assert ask(ALL + AT_MOST_100, **{**call, "amount": 50}).effect == "permit"


@pytest.mark.parametrize("amount", [101, 101.0, 5e3, 2**63, 10**30, 1e300, 100.5, "50", True, None, [1]])
def test_a_number_is_read_however_it_is_written_and_anything_else_is_none(amount: Any) -> None:
    assert ask(ALL + AT_MOST_100, amount=amount).effect == "forbid"
    assert ask(ALL + AT_MOST_100, amount=100.0).effect == "permit"
    assert ask(ALL + AT_MOST_100, amount=-(10**30)).effect == "permit"


OVER = (
    "forbid(principal, action, resource) when {"
    ' context.decimals.hasTag("amount") && context.decimals.getTag("amount").greaterThan(decimal("100.0")) };'
)


@given(amount=st.integers() | st.floats(allow_nan=False, allow_infinity=False))
@example(amount=100.00000001)
@example(amount=-0.0)
@example(amount=922337203685477.6)
@example(amount=-1e300)
def test_a_fraction_over_a_limit_is_over_it_however_little(amount: float) -> None:
    assert ask(ALL + OVER, amount=amount).effect == ("forbid" if amount > 100 else "permit")


def test_a_decimal_is_to_four_places_and_nothing_else_has_one() -> None:
    exact = (
        "permit(principal, action, resource) when {"
        ' context.decimals.hasTag("n") && context.decimals.getTag("n") == decimal("0.3001") };'
    )
    assert ask(exact, n=0.3001).effect == "permit"
    assert ask(exact, n=0.30001).effect == "permit", "away from zero"
    for other in (0.3, 1, True, "0.3001", None, [0.3001]):
        assert ask(exact, n=other).effect == "forbid"


@pytest.mark.parametrize("beside", [None, {}, {"a": ["prod"]}, [], [["x"]], 1, True, "x"])
def test_nothing_beside_a_forbidden_member_of_a_list_hides_it_and_nothing_odd_is_an_allowed_one(beside: Any) -> None:
    holds = 'context.lists.hasTag("l") && context.lists.getTag("l").contains("prod")'
    assert ask(f"{ALL} forbid(principal, action, resource) when {{ {holds} }};", l=["prod", beside]).effect == "forbid"
    alone = 'context.lists.hasTag("l") && ["ui", "bug"].containsAll(context.lists.getTag("l"))'
    assert ask(f"permit(principal, action, resource) when {{ {alone} }};", l=["ui", "bug"]).effect == "permit"
    assert ask(f"permit(principal, action, resource) when {{ {alone} }};", l=["ui", beside]).effect == "forbid"


def test_the_tools_own_annotations_can_be_read_where_they_are_known() -> None:
    policy = (
        "permit(principal, action, resource) when { resource is Tool && resource has readOnly && resource.readOnly };"
    )
    assert ask(policy).effect == "forbid"
    assert ask(policy, replace(CALL, annotations=(("readOnly", True),))).effect == "permit"


def test_a_policy_that_errs_refuses_and_is_named_although_another_permits() -> None:
    overflowing = (
        '@id("sums") forbid(principal, action, resource)'
        ' when { context.numbers.hasTag("n") && context.numbers.getTag("n") + 1 == 0 };'
    )
    assert ask(ALL + overflowing, n=1).effect == "permit"
    verdict = ask(ALL + overflowing, n=2**63 - 1)
    assert (verdict.code, verdict.policies) == ("policy.error", ("sums",))
    assert "sums" in verdict.message


def test_arguments_too_large_to_read_are_refused_only_where_a_policy_reads_them() -> None:
    reading = 'forbid(principal, action, resource) when { context.arguments.hasTag("x") };'
    assert ask(ALL + reading, text="x" * 300_000).code == "policy.size"
    assert ask(ALL + reading, items=list(range(6000))).code == "policy.size"
    assert ask(ALL, text="x" * 300_000).effect == "permit"


def test_limits_are_those_of_the_policies_that_permit() -> None:
    text = '@id("few") @limit("20/hour") permit(principal, action, resource);'
    assert ask(ALL + text).limits == (("few", Limit(20, 3600)),)


def test_an_observed_policy_decides_nothing_and_is_told() -> None:
    verdict = ask(ALL + '@id("later") @observe forbid(principal, action, resource);')
    assert (verdict.effect, verdict.observed) == ("permit", "forbid by later")


def test_each_of_several_resources_must_be_permitted() -> None:
    listening = replace(CALL, method="subscriptions/listen", kind="resource", subjects=("file:///a", "file:///b"))
    one = 'permit(principal, action, resource) when { resource is Resource && resource.uri == "file:///a" };'
    assert ask(one, listening).effect == "forbid"
    assert ask(one, replace(listening, subjects=("file:///a",))).effect == "permit"


def test_tasks_and_names_of_any_kind_can_be_decided() -> None:
    task = replace(CALL, method="tasks/get", kind="task", subjects=())
    assert ask('permit(principal, action == Action::"tasks", resource == Server::"github");', task).effect == "permit"
    odd = replace(CALL, person='o"neil', subjects=('x"::\n\\',))
    assert ask(ALL, odd).effect == "permit"


def test_a_verdict_is_remembered_only_for_what_it_was_read_from() -> None:
    policies = read({"a.cedar": 'permit(principal in Group::"devs", action, resource);'}, 1)
    evaluator = Evaluator()
    assert evaluator(policies, CALL, NOON).effect == "permit"
    assert evaluator(policies, replace(CALL, groups=()), NOON).effect == "forbid"
    assert evaluator(policies, replace(CALL, digest="other", arguments=b"{}"), NOON).effect == "permit"
    assert evaluator(read({"a.cedar": ""}, 2), CALL, NOON).effect == "forbid"


READ: dict[str, tuple[str, Asked, float]] = {
    "arguments": ('context.arguments.hasTag("x")', replace(CALL, arguments=b"{}", digest="none"), NOON),
    "numbers": ('context.numbers.hasTag("x")', replace(CALL, arguments=b'{"x":"1"}', digest="text"), NOON),
    "client": ('context.client == "Cursor/1.0"', replace(CALL, client="Other/1.0"), NOON),
    "now": ('context.now < datetime("2026-11-24T12:00:01Z")', CALL, NOON + 1),
    "hour": ("context.hour == 12", CALL, NOON + 3600),
    "weekday": ('context.weekday == "tuesday"', CALL, NOON + 86400),
    "agent": ('principal.name == "cursor"', replace(CALL, agent="codex"), NOON),
    "device": ('principal.device == "laptop"', replace(CALL, device="desk"), NOON),
    "person": ('principal in Person::"alice"', replace(CALL, person="bob"), NOON),
    "server": ('resource in Server::"github"', replace(CALL, server="gitlab"), NOON),
    "delivery": ('resource in Server::"github" && Server::"github".delivery == "egress"',
                 replace(CALL, delivery="relay"), NOON),
    "tool": ('resource is Tool && resource.name == "create_issue"', replace(CALL, subjects=("push",)), NOON),
    "annotations": ("resource is Tool && resource has readOnly && resource.readOnly", CALL, NOON),
    "method": ('action == Action::"tools/call"', replace(CALL, method="prompts/get", kind="prompt"), NOON),
}  # fmt: skip


@pytest.mark.parametrize("first", ["permitted", "forbidden"])
@pytest.mark.parametrize("what", READ)
def test_what_is_remembered_is_for_nothing_that_differs_in(what: str, first: str) -> None:
    condition, other, later = READ[what]
    policies = read({"a.cedar": f"permit(principal, action, resource) when {{ {condition} }};"}, 1)
    call = replace(CALL, arguments=b'{"x":1}', digest="x", annotations=(("readOnly", True),))
    asked = [(call, NOON, "permit"), (other, later, "forbid")]
    evaluator = Evaluator()
    for one, now, effect in asked if first == "permitted" else asked[::-1]:
        for _ in range(2):
            assert evaluator(policies, one, now).effect == effect


def test_of_several_resources_the_strictest_counts_and_all_that_the_others_ask_for() -> None:
    listening = replace(CALL, method="subscriptions/listen", kind="resource", subjects=("a:1", "b:1", "c:1"))
    of = 'permit(principal, action, resource) when { resource is Resource && resource.uri == "%s" };'
    text = (
        '@id("a") @ask("leads") @separate @reason("A.") ' + of % "a:1"
        + '@id("b") @ask("admins") ' + of % "b:1"
        + '@id("c") @limit("20/hour") ' + of % "c:1"
    )  # fmt: skip
    verdict = ask(text, listening)
    assert verdict == Verdict(
        "ask", "policy.ask", "A.", ("a", "b", "c"), ("leads", "admins"), separate=True, limits=(("c", Limit(20, 3600)),)
    )
    assert not ask(text, replace(listening, subjects=("b:1", "c:1"))).separate
    forbidden = ask(text, replace(listening, subjects=("a:1", "d:1")))
    assert (forbidden.effect, forbidden.code, forbidden.policies, forbidden.ask) == ("forbid", "policy.none", (), ())


def test_a_policy_without_a_reason_is_named() -> None:
    assert ask(ALL + '@id("never") forbid(principal, action, resource);').message == "The policy never says so."


@pytest.mark.parametrize("arguments", [b"", b"null", b"{}"])
def test_a_call_without_arguments_has_none_to_read(arguments: bytes) -> None:
    policies = read({"a.cedar": ALL + 'forbid(principal, action, resource) when { context.arguments.hasTag("") };'}, 1)
    assert Evaluator()(policies, replace(CALL, arguments=arguments), NOON).effect == "permit"


@pytest.mark.parametrize("kind", ["task", "resource"])
def test_what_is_about_nothing_in_particular_is_decided_for_the_server(kind: str) -> None:
    subjects = ("t",) if kind == "task" else ()
    asked = replace(CALL, method="subscriptions/listen", kind=kind, subjects=subjects)
    assert ask('permit(principal, action == Action::"tasks", resource == Server::"github");', asked).effect == "permit"
