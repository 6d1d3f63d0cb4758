"""Policies are read whole or not at all, and what does not hold is told with file, line and reason."""

from __future__ import annotations

import pytest

from percall_broker.model.errors import InvalidInput
from percall_broker.model.records import Limit
from percall_broker.policy import read
from percall_broker.policy.language import MAX_NESTING, MAX_TEXT

GOOD = """// "a remark; with a semicolon"
@id("first") @reason("a; b")
permit(principal, action, resource) when { context.client like "x;*" };

@ask("leads") @limit("3/day")
permit(principal, action, resource);
@observe forbid(principal, action, resource);
"""


def test_each_policy_has_its_name_place_and_annotations() -> None:
    policies = read({"team/a.cedar": GOOD}, 7)
    first, second, third = policies.policies.values()
    assert (policies.version, first.id, first.line, first.reason) == (7, "first", 2, "a; b")
    assert (second.id, second.line, second.ask, second.limit) == (
        "team/a.cedar:5",
        5,
        "leads",
        Limit(3, 86400),
    )
    assert (third.line, third.effect, third.observed) == (7, "forbid", True)
    assert policies.reads == {"client"}


def test_whatever_may_be_the_name_of_a_group_may_be_asked() -> None:
    policies = read({"a.cedar": '@ask("_leads") permit(principal, action, resource);'}, 1)
    assert [policy.ask for policy in policies.policies.values()] == ["_leads"]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("permit(principal, action resource);", "a.cedar:1: "),
        ("\n\npermit(principal, action, resource)", "a.cedar:3: "),
        ('permit(principal in Foo::"x", action, resource);', "a.cedar:1: unrecognized entity type `Foo`"),
        ("permit(principal, action, resource) when { resource.nam == 1 };", "attribute `nam`"),
        ('permit(principal, action, resource) when { context.arguments.getTag("a") == "b" };', "safety of access"),
        ('permit(principal, action == Action::"tools/delete", resource);', "a.cedar:1: "),
        ('@ask("") permit(principal, action, resource);', "@ask"),
        ('@ask("leads") forbid(principal, action, resource);', "@ask"),
        ('@limit("many") permit(principal, action, resource);', "@limit"),
        ('@limit("0/hour") permit(principal, action, resource);', "@limit"),
        ('@asc("leads") permit(principal, action, resource);', "@asc is not known"),
        ("permit(principal == ?principal, action, resource);", "templates"),
        ('@id("x") permit(principal, action, resource);\n@id("x") permit(principal, action, resource);', "a.cedar:2"),
        ('@id("x`y") permit(principal, action, resource);', "@id"),
    ],
)
def test_what_does_not_hold_is_told_with_its_place(text: str, told: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        read({"a.cedar": text}, 1)
    assert caught.value.code == "policy.invalid"
    assert told in caught.value.message


def test_a_mistake_is_told_once_and_not_for_each_action() -> None:
    with pytest.raises(InvalidInput) as caught:
        read({"a.cedar": "permit(principal, action, resource) when { context.clint == context.client };"}, 1)
    assert caught.value.message.count("`clint`") == 1


def test_all_problems_of_all_files_are_told_at_once() -> None:
    with pytest.raises(InvalidInput) as caught:
        read({"a.cedar": "permit(;", "b.cedar": "\nforbid(principal, action, resource) when { 1 };"}, 1)
    assert "a.cedar:1" in caught.value.message
    assert "b.cedar:2" in caught.value.message


@pytest.mark.parametrize("times", [MAX_NESTING + 1, 500, 1000, 50_000])
@pytest.mark.parametrize(
    ("before", "inmost", "after"),
    [
        ("!(", "true", ")"),
        ("[", "1", "]"),
        ("{a:", "1", "}"),
        ("ip(", '"1.1.1.1"', ")"),
        ("if true then true else ", "true", ""),
        ("if ", "true", " then true else true"),
        ("true && ", "true", ""),
        ("true || ", "true", ""),
        ("1 + ", "1", ""),
        ("1 * ", "1", ""),
        ("1 - ", "1", ""),
        ("", "context", ".client"),
        ("", "context", '["client"]'),
        ("", "context has a", ".a"),
        ("", "[1]", ".contains(1)"),
        ("[1].contains(", "1", ")"),
    ],
)
def test_what_nests_too_deep_for_cedar_is_told_and_takes_no_process_with_it(
    before: str, inmost: str, after: str, times: int
) -> None:
    deep = before * times + inmost + after * times
    with pytest.raises(InvalidInput) as caught:
        read({"a.cedar": f"\npermit(principal, action, resource) when {{ {deep} }};"}, 1)
    assert caught.value.code == "policy.invalid"
    assert f"a.cedar:2: nests more than {MAX_NESTING} expressions" in caught.value.message


def test_what_is_wide_but_not_deep_holds() -> None:
    wide = " || ".join(
        f'(context.client == "client-{number}" && !(context.weekday == "monday"))' for number in range(40)
    )
    names = ", ".join(f'"{number}((((" // ((((' + "\n" for number in range(3000))
    text = f"permit(principal, action, resource) when {{ {wide} }} when {{ [{names}].contains(context.client) }};"
    assert read({"a.cedar": text}, 1).reads == {"client", "weekday"}


def test_a_comment_ends_with_its_line_whatever_ends_the_line() -> None:
    """What Cedar reads after a bare carriage return is a policy; a `forbid` that is skipped forbids nothing."""
    policies = read({"a.cedar": "// no reading\rforbid(principal, action, resource);\r// end"}, 1)
    assert [policy.effect for policy in policies.policies.values()] == ["forbid"]


@pytest.mark.parametrize("text", ['"\\' * 400_000, '"' * 800_001, ";" * 9000])
def test_a_text_is_looked_at_once_whatever_it_is(text: str) -> None:
    """Each of these took from half a minute to an hour."""
    with pytest.raises(InvalidInput) as caught:
        read({"a.cedar": text}, 1)
    assert caught.value.code == "policy.invalid"


def test_strings_have_a_length_at_which_comparing_ends() -> None:
    like = 'permit(principal, action, resource) when { context.client like "*%s" };'
    assert read({"a.cedar": like % ("a" * (MAX_TEXT - 3))}, 1).policies
    with pytest.raises(InvalidInput, match=r"a\.cedar:1: holds a string of more than 1024 characters"):
        read({"a.cedar": like % ("a" * (MAX_TEXT - 2))}, 1)


def test_more_policies_than_anybody_reads_are_refused() -> None:
    with pytest.raises(InvalidInput, match="more than 10000 policies"):
        read({"a.cedar": ";" * 800_000}, 1)
