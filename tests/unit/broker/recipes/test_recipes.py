"""Every recipe that ships: readable, pinned, and with rules for the tools that the real package has."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

import pytest

from percall.clients.launches import launched
from percall_broker import recipes
from percall_broker.model import entry_file, rules
from percall_broker.model.errors import InvalidInput, NotFound

if TYPE_CHECKING:
    from percall_broker.model.entry import Entry

EXAMPLES = {"site": "acme.atlassian.net", "email": "robin@acme.example"}

# What `tools/list` of the pinned packages answered; reads, then writes.
TOOLS = {
    "github": (
        (
            "search_repositories get_file_contents list_commits list_issues search_code search_issues search_users "
            "get_issue get_pull_request list_pull_requests get_pull_request_files get_pull_request_status "
            "get_pull_request_comments get_pull_request_reviews"
        ),
        (
            "create_or_update_file create_repository push_files create_issue create_pull_request fork_repository "
            "create_branch update_issue add_issue_comment create_pull_request_review merge_pull_request "
            "update_pull_request_branch"
        ),
    ),
    "notion": (
        (
            "API-get-user API-get-users API-get-self API-post-search API-get-block-children API-retrieve-a-block "
            "API-retrieve-a-page API-retrieve-a-page-property API-retrieve-a-comment API-query-data-source "
            "API-retrieve-a-data-source API-list-data-source-templates API-retrieve-a-database "
            "API-retrieve-page-markdown"
        ),
        (
            "API-patch-block-children API-update-a-block API-delete-a-block API-patch-page API-post-page "
            "API-create-a-comment API-update-a-data-source API-create-a-data-source API-move-page "
            "API-update-page-markdown"
        ),
    ),
    "tavily": ("tavily_search tavily_extract tavily_crawl tavily_map tavily_research", ""),
    "time": ("get_current_time convert_time", ""),
}
WRITING = {"POST", "PUT", "PATCH", "DELETE"}
# Searches that an API offers as POST: they read. Nothing else that writes may be open to a reading tool.
READING_POSTS = {
    "/v1/search",
    "/v1/data_sources/*/query",
    "/rest/api/3/search/jql",
    "/rest/api/2/search/jql",
    "/rest/api/3/search/approximate-count",
    *(f"/{name}" for name in ("search", "extract", "crawl", "map", "research")),
}


def entry_of(name: str) -> Entry:
    text = recipes.text_of(name)
    return entry_file.read(recipes.fill(text, {key: EXAMPLES[key] for key in recipes.parameters(text)}))


def may_write(entry: Entry, tool: str) -> set[str]:
    return {
        request.path
        for rule in entry.tools
        if rules.name_matches(rule.match, tool)
        for request in rule.requests
        if WRITING & set(request.methods)
    }


@pytest.mark.parametrize("name", recipes.names())
def test_a_recipe_is_an_entry_whose_package_is_pinned_and_whose_hosts_are_https(name: str) -> None:
    entry = entry_of(name)
    assert re.search(r"(@|==)\d+\.\d+", entry.command[-1]), entry.command
    assert all(host.startswith("https://") for host in entry.hosts)
    assert not entry.connect
    assert entry.default_tools
    if entry.delivery == "egress":
        assert entry.attribution == "exact"
        assert any("{key}" in value for value in entry.environment.values())
        assert "{{" not in repr(entry)


@pytest.mark.parametrize("name", recipes.names())
def test_a_recipe_names_a_read_only_probe_among_its_default_tools(name: str) -> None:
    entry = entry_of(name)
    assert entry.probe is not None
    assert rules.name_matches(entry.default_tools, entry.probe.tool)
    assert isinstance(json.loads(entry.probe.arguments), dict)


@pytest.mark.parametrize("name", TOOLS)
def test_the_default_tools_are_those_that_read(name: str) -> None:
    entry, (reads, writes) = entry_of(name), TOOLS[name]
    assert [tool for tool in reads.split() if not rules.name_matches(entry.default_tools, tool)] == []
    assert [tool for tool in writes.split() if rules.name_matches(entry.default_tools, tool)] == []


@pytest.mark.parametrize("name", [name for name in TOOLS if name != "time"])
def test_every_tool_of_the_package_has_a_rule(name: str) -> None:
    entry, (reads, writes) = entry_of(name), TOOLS[name]
    tools = (reads + " " + writes).split()
    ruled = {tool for tool in tools if any(rules.name_matches(rule.match, tool) for rule in entry.tools)}
    assert set(tools) - ruled == set()
    assert all(may_write(entry, tool) for tool in writes.split())


@pytest.mark.parametrize("name", recipes.names())
def test_a_tool_that_reads_can_only_read(name: str) -> None:
    entry = entry_of(name)
    reads = TOOLS[name][0].split() if name in TOOLS else ["jira_get_issue", "jira_search", "jira_get_transitions"]
    for tool in reads:
        assert may_write(entry, tool) <= READING_POSTS, tool


@pytest.mark.parametrize(
    ("name", "tool", "method", "url", "permitted"),
    [
        ("github", "get_issue", "GET", "https://api.github.com/repos/o/r/issues/1", True),
        ("github", "get_issue", "DELETE", "https://api.github.com/repos/o/r/issues/1", False),
        ("github", "get_issue", "GET", "https://uploads.github.com/repos/o/r/issues/1", False),
        ("github", "create_issue", "POST", "https://api.github.com/repos/o/r/issues", True),
        ("github", "create_issue", "POST", "https://api.github.com/repos/o/r/issues/1/comments", False),
        ("github", "create_branch", "GET", "https://api.github.com/repos/o/r/git/refs/heads/main", True),
        ("github", "create_branch", "POST", "https://api.github.com/repos/o/r/git/refs", True),
        ("github", "push_files", "PATCH", "https://api.github.com/repos/o/r/git/refs/heads/main", True),
        ("github", "merge_pull_request", "PUT", "https://api.github.com/repos/o/r/pulls/7/merge", True),
        ("github", "fork_repository", "POST", "https://api.github.com/repos/o/r/forks?organization=x", True),
        ("github", "an_unknown_tool", "GET", "https://api.github.com/user", False),
        ("notion", "API-post-search", "POST", "https://api.notion.com/v1/search", True),
        ("notion", "API-get-users", "GET", "https://api.notion.com/v1/users?page_size=3", True),
        ("notion", "API-retrieve-a-page", "PATCH", "https://api.notion.com/v1/pages/abc", False),
        ("notion", "API-delete-a-block", "DELETE", "https://api.notion.com/v1/blocks/abc", True),
        ("tavily", "tavily_search", "POST", "https://api.tavily.com/search", True),
        ("tavily", "tavily_search", "POST", "https://api.tavily.com/crawl", False),
        ("tavily", "tavily_research", "GET", "https://api.tavily.com/research/abc", True),
        ("atlassian", "jira_get_issue", "GET", "https://acme.atlassian.net/rest/api/3/issue/A-1", True),
        ("atlassian", "jira_search", "POST", "https://acme.atlassian.net/rest/api/3/search/jql", True),
        ("atlassian", "jira_get_issue", "DELETE", "https://acme.atlassian.net/rest/api/3/issue/A-1", False),
        ("atlassian", "jira_assign_issue", "PUT", "https://acme.atlassian.net/rest/api/3/issue/A-1/assignee", True),
        ("atlassian", "jira_get_issue", "GET", "https://evil.atlassian.net/rest/api/3/issue/A-1", False),
    ],
)
def test_rules_fit_the_requests_that_the_packages_make(
    name: str, tool: str, method: str, url: str, permitted: bool
) -> None:
    assert rules.match(entry_of(name), (tool,), method, url).permitted is permitted


def test_the_key_of_tavily_goes_into_a_header_and_into_the_body() -> None:
    assert [(slot.kind, slot.name) for slot in entry_of("tavily").slots] == [
        ("header", "Authorization"),
        ("json", "/api_key"),
    ]


def test_a_recipe_asks_for_its_parameters_and_takes_no_others() -> None:
    text = recipes.text_of("atlassian")
    with pytest.raises(InvalidInput, match=r"needs (site|email)"):
        recipes.fill(text, {})
    with pytest.raises(InvalidInput, match="no parameter"):
        recipes.fill(text, {**EXAMPLES, "colour": "red"})


@pytest.mark.parametrize("site", ['a"\nhosts = ["evil.example', "a{key}", "", "a b", "x" * 300])
def test_a_parameter_cannot_break_out_of_its_string(site: str) -> None:
    with pytest.raises(InvalidInput):
        recipes.fill(recipes.text_of("atlassian"), {**EXAMPLES, "site": site})


@pytest.mark.parametrize("name", recipes.names())
def test_a_recipe_recognises_its_own_launch_in_a_config(name: str) -> None:
    entry = entry_of(name)
    assert name in recipes.recognised(launched(entry.command, entry.url))


def test_what_no_recipe_knows_is_recognised_by_none() -> None:
    assert recipes.recognised("npm:nobodys-server") == []
    assert recipes.recognised("") == []


def test_a_url_is_recognised_with_what_lies_below_it_and_no_other_host() -> None:
    known = ("https://mcp.example/mcp",)
    assert recipes.launch_fits("https://mcp.example/mcp", known)
    assert recipes.launch_fits("https://mcp.example/mcp/x", known)
    assert not recipes.launch_fits("https://mcp.example/mcp-other", known)
    assert not recipes.launch_fits("https://mcp.example.evil/mcp", known)


def test_parameters_are_read_from_the_environment_of_a_config() -> None:
    text = recipes.text_of("atlassian")
    pasted = {"JIRA_URL": "https://acme.atlassian.net/", "JIRA_USERNAME": "robin@acme.example", "JIRA_API_TOKEN": "x"}
    assert recipes.parameters_of(text, pasted) == EXAMPLES
    assert recipes.parameters_of(text, {"JIRA_URL": "http://acme.atlassian.net"}) == {}
    assert recipes.parameters_of(recipes.text_of("github"), pasted) == {}


def test_an_unknown_recipe_is_answered_with_those_there_are() -> None:
    with pytest.raises(NotFound) as refused:
        recipes.text_of("../entry")
    assert "github" in refused.value.next_step
