"""Which requests a call may make; and what is no URL to us."""

from __future__ import annotations

import pytest

from percall_broker.model import rules
from percall_broker.model.entry import Entry, RequestRule, ToolRule
from percall_broker.model.errors import InvalidInput

API = "https://api.github.com"


def rule(text: str) -> RequestRule:
    methods, _, rest = text.partition(" ")
    origin, slash, path = rest.removeprefix("https://").partition("/")
    return RequestRule(tuple(methods.split(",")), f"https://{origin}", slash + path)


ENTRY = Entry(
    title="t",
    delivery="egress",
    command=(),
    hosts=(API, "https://*.slack.com"),
    tools=(
        ToolRule(("get_*", "list_*"), (rule("GET,HEAD api.github.com/**"),)),
        ToolRule(("create_issue",), (rule("POST api.github.com/repos/*/*/issues"),)),
        ToolRule(("slack_*",), (rule("GET *.slack.com/api/*"), rule("GET elsewhere.example/**"))),
    ),
    startup=(rule("POST api.github.com/auth.test"),),
)
BARE = Entry(title="t", delivery="egress", command=(), hosts=(API,))


@pytest.mark.parametrize(
    ("tool", "method", "url", "permitted"),
    [
        ("get_me", "GET", f"{API}/user?per_page=1", True),
        ("get_me", "HEAD", f"{API}:443/user", True),
        ("get_me", "GET", "https://API.GitHub.com/user", True),
        ("get_me", "DELETE", f"{API}/user", False),
        ("get_me", "get", f"{API}/user", False),
        ("get_me", "GET", f"{API}:8443/user", False),
        ("get_me", "GET", "https://api.github.com.evil.example/user", False),
        ("get_me", "GET", "https://evil.example/api.github.com/user", False),
        ("get_me", "GET", "http://api.github.com/user", False),
        ("create_issue", "POST", f"{API}/repos/a/b/issues", True),
        ("create_issue", "POST", f"{API}/repos/a/b/%69ssues", True),
        ("create_issue", "POST", f"{API}/repos/a/b/c/issues", False),
        ("create_issue", "POST", f"{API}/repos//b/issues", False),
        ("create_issue", "POST", f"{API}/repos/a/b/issues/1", False),
        ("create_issue", "GET", f"{API}/repos/a/b/issues", False),
        ("another", "GET", f"{API}/user", False),
        ("slack_post", "GET", "https://team.slack.com/api/x", True),
        ("slack_post", "GET", "https://a.b.slack.com/api/x", True),
        ("slack_post", "GET", "https://slack.com/api/x", False),
        ("slack_post", "GET", "https://evilslack.com/api/x", False),
        ("slack_post", "GET", "https://elsewhere.example/x", False),
        ("slack_post", "GET", "http://team.slack.com/api/x", False),
        ("get_me", "GET", "https://team.slack.com/user", False),
    ],
)
def test_only_the_open_calls_own_tool_counts(tool: str, method: str, url: str, permitted: bool) -> None:
    decision = rules.match(ENTRY, (tool,), method, url)
    assert decision.permitted is permitted
    assert decision.code


def test_a_request_that_no_rule_allows_is_refused_with_the_tool_the_request_and_a_stable_code() -> None:
    decision = rules.match(ENTRY, ("get_me",), "DELETE", f"{API}/repos/a/b")
    assert decision.code == "request.rule"
    assert "get_me may not DELETE https://api.github.com/repos/a/b" in decision.message
    assert decision.next_step


def test_a_query_is_not_repeated_in_a_refusal() -> None:
    assert "secret" not in rules.match(ENTRY, ("get_me",), "DELETE", f"{API}/x?token=secret").message


def test_without_tool_rules_the_entrys_hosts_count() -> None:
    assert rules.match(BARE, ("anything",), "DELETE", f"{API}/x").permitted
    assert not rules.match(BARE, ("anything",), "GET", "https://other.example/x").permitted


def test_outside_any_call_only_start_up_requests_pass() -> None:
    assert rules.match(ENTRY, (), "POST", f"{API}/auth.test").code == "request.startup"
    assert rules.match(ENTRY, (), "GET", f"{API}/user").code == "request.no_call"
    assert rules.match(BARE, (), "GET", f"{API}/user").code == "request.no_call"


def test_a_start_up_request_is_none_of_a_calls() -> None:
    assert not rules.match(ENTRY, ("get_me",), "POST", f"{API}/auth.test").permitted


def test_shared_attribution_permits_what_one_of_the_open_calls_tools_may() -> None:
    assert rules.match(ENTRY, ("get_me", "create_issue"), "POST", f"{API}/repos/a/b/issues").permitted
    assert not rules.match(ENTRY, ("get_me", "create_issue"), "PATCH", f"{API}/repos/a/b/issues").permitted


@pytest.mark.parametrize("method", ["CONNECT", "TRACE", "", "GET ", "GET\r\n", "gEt"])
def test_methods_that_are_never_forwarded(method: str) -> None:
    assert rules.match(BARE, ("x",), method, f"{API}/x").code == "request.method"


@pytest.mark.parametrize(
    "url",
    [
        "https://user:pass@api.github.com/", "https://api.github.com@evil.example/", "https:///x", "https://",
        "https://:443/", "https://api.github.com:/", "https://api.github.com:0/", "https://api.github.com:65536/",
        "https://api.github.com:\uff14\uff14\uff13/", "https://api.github.com\\@evil.example/", "https://api.github.com/a\\b",
        "https://api.github.com/../x", "https://api.github.com/a/..", "https://api.github.com/./a",
        "https://api.github.com/a/%2e%2e/b", "https://api.github.com/a/%2E./b", "https://api.github.com/a%2Fb",
        "https://api.github.com/a%5cb", "https://api.github.com/a%00", "https://api.github.com/a%0d%0aX:y",
        "https://api.github.com/a%252e%252e/b", "https://api.github.com/a/..;x/b", "https://api.github.com/%zz",
        "https://api.github.com/%", "https://api.github.com/#f", "https://api.github.com/a b", "https://äpi.github.com/",
        "https://api.github.com./", "https://api..github.com/", "https://api.git hub.com/", "https://[::1/", "//x/y",
        "https://[::1%25lo]/", "ftp://api.github.com/", "file:///etc/passwd", "HTTPS://api.github.com/", "/user", "",
        "https://api.github.com/\n", "https://api.github.com,evil.example/", "https://" + "a" * 40_000,
        "https://[1::2::3]/", "https://" + ".".join(["a" * 50] * 5), f"https://x.example/{'a' * rules.MAX_URL_LENGTH}",
    ],
)  # fmt: skip
def test_a_url_that_two_parsers_could_read_differently_is_refused(url: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        rules.parse_url(url)
    assert refused.value.code == "request.url"
    assert not rules.match(BARE, ("x",), "GET", url).permitted


def test_a_url_is_taken_apart_and_put_together_again_without_loss() -> None:
    target = rules.parse_url("https://Api.Example.com:8443/a%20b/c;v=1?q=%2e%2e&r=a/b")
    assert (target.host, target.port, target.path) == ("api.example.com", 8443, "/a%20b/c;v=1")
    assert str(target) == "https://api.example.com:8443/a%20b/c;v=1?q=%2e%2e&r=a/b"
    assert rules.parse_url("https://[::1]:443").origin == "https://[::1]"
    assert rules.parse_url("https://x.example?").path_and_query == "/?"
    longest = "https://x.example/".ljust(rules.MAX_URL_LENGTH, "a")
    assert str(rules.parse_url(longest)) == longest
    longest_host = ".".join(["a" * 50] * 4 + ["b" * 49])
    assert rules.parse_url(f"https://{longest_host}").host == longest_host


def test_a_wildcard_covers_no_address() -> None:
    odd = Entry(title="t", delivery="egress", command=(), hosts=(rules.parse_origin("*.0.0.1"),))
    assert not rules.match(odd, ("x",), "GET", "https://127.0.0.1/").permitted


@pytest.mark.parametrize(
    ("text", "origin"),
    [
        ("api.github.com", "https://api.github.com"),
        ("https://API.github.com:443", "https://api.github.com"),
        ("*.slack.com", "https://*.slack.com"),
        ("http://127.0.0.1:9000", "http://127.0.0.1:9000"),
        ("http://localhost:80", "http://localhost"),
    ],
)
def test_an_origin_has_one_normal_form(text: str, origin: str) -> None:
    assert rules.parse_origin(text) == origin


@pytest.mark.parametrize(
    "text",
    ["http://api.github.com", "https://x.example/", "x.example/a", "x.example?a", "*.com", "*.1.1.1.1", "*", "a b", ""],
)
def test_what_is_no_origin_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput):
        rules.parse_origin(text)


def test_rules_stay_fast_on_hostile_globs_and_paths() -> None:
    hard = RequestRule(("GET",), API, "/" + "*a" * 8)
    assert not rules.rule_allows(hard, "GET", rules.parse_url(f"{API}/" + "a" * 30 + "b"))


@pytest.mark.parametrize(
    ("path", "read"),
    [
        ("/projects/a%2Fb", True),
        ("/projects/a%2fb%2Fc/files/d%2Fe.md", True),
        ("/projects/a%2F..%2Fb", False),
        ("/projects/a%2F..", False),
        ("/projects/a%2F.%2Fb", False),
        ("/projects/a%2F..;x/b", False),
        ("/projects/a%2F%2e%2e/b", False),
        ("/projects/a%252Fb", False),
        ("/projects/a%5Cb", False),
    ],
)
def test_an_escaped_slash_is_read_only_where_the_entry_allows_it_and_hides_no_dot_segment(
    path: str, read: bool
) -> None:
    url = f"https://gitlab.example{path}"
    with pytest.raises(InvalidInput):
        rules.parse_url(url)
    if read:
        assert rules.parse_url(url, escaped_slashes=True).path == path
    else:
        with pytest.raises(InvalidInput):
            rules.parse_url(url, escaped_slashes=True)


@pytest.mark.parametrize("address", ["localhost", "", "::ffff:127.0.0.1", "10.0.0.1"])
def test_what_is_not_loopback_itself_is_not_loopback(address: str) -> None:
    assert not rules.is_loopback_address(address)
