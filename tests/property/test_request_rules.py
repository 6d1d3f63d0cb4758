"""Request rules against a slow reading of the same globs, and hostile URLs."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from percall_broker.model import rules
from percall_broker.model.entry import Entry, RequestRule, ToolRule
from percall_broker.model.errors import InvalidInput

segments = st.sampled_from(["a", "b", "ab", "a.b", "a-b"])
paths = st.lists(segments, max_size=4).map(lambda parts: "/" + "/".join(parts))
globs = st.lists(st.sampled_from(["a", "b", "*", "**", "a*", "*b", "a*b*", "**b"]), max_size=5).map(
    lambda parts: "/" + "/".join(parts)
)


def slow(glob: str, path: str, *, segment_start: bool = False) -> bool:
    if not glob:
        return not path
    if glob.startswith("**"):
        return any(slow(glob[2:], path[cut:]) for cut in range(len(path) + 1))
    if glob[0] == "*":
        alone = segment_start and (len(glob) == 1 or glob[1] == "/")
        first = path.split("/", 1)[0]
        return any(slow(glob[1:], path[cut:]) for cut in range(1 if alone else 0, len(first) + 1))
    return path.startswith(glob[0]) and slow(glob[1:], path[1:], segment_start=glob[0] == "/")


@given(glob=globs, path=paths)
def test_a_glob_matches_what_its_slow_reading_matches(glob: str, path: str) -> None:
    rule = RequestRule(("GET",), "https://api.example.com", glob)
    target = rules.parse_url(f"https://api.example.com{path}")
    assert rules.rule_allows(rule, "GET", target) is slow(glob, path)


def test_a_long_path_that_nearly_fits_a_rule_of_many_stars_is_refused_at_once() -> None:
    assert not rules.path_matches("/**/a/**/a/**/a/**/b", "/a" * 10_000)
    assert not rules.path_matches("/" + "*a" * 12 + "b", "/" + "a" * 20_000)
    assert rules.path_matches("/**/a/*/**", "/a" * 10_000)


@given(url=st.text(alphabet="htps:/.@%2ef5c0\\#?[]a*-é \n", max_size=40).map(lambda rest: "https://" + rest))
def test_a_url_is_refused_or_says_again_what_was_read(url: str) -> None:
    try:
        target = rules.parse_url(url)
    except InvalidInput:
        return
    assert rules.parse_url(str(target)) == target
    assert "@" not in target.authority
    assert not {".", ".."} & set(target.path.split("/"))


@given(path=st.lists(st.sampled_from(["a", "..", ".", "%2e", "%2E%2e", "a%2fb", "%5c", "%00", "..;x"]), max_size=5))
def test_no_path_leaves_the_rule_that_it_is_under(path: list[str]) -> None:
    entry = Entry(
        title="t",
        delivery="egress",
        command=(),
        hosts=("https://api.example.com",),
        tools=(ToolRule(("get_*",), (RequestRule(("GET",), "https://api.example.com", "/**"),)),),
    )
    hostile = any(part != "a" for part in path)
    url = "https://api.example.com/" + "/".join(path)
    assert rules.match(entry, ("get_x",), "GET", url).permitted is not hostile
