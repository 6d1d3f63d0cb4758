"""Every recipe that ships: readable, pinned, and with rules for the tools that the real package has."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

import pytest

from harness.recipe_cases import REMOTE, TOOLS
from percall.clients.launches import fits, launched
from percall_broker import recipes
from percall_broker.model import entry_file, entry_text, rules
from percall_broker.model.errors import InvalidInput, NotFound

if TYPE_CHECKING:
    from percall_broker.model.entry import Entry

EXAMPLES = {"site": "acme.atlassian.net", "email": "robin@acme.example", "folder": "/home/robin/notes"}
ATLASSIAN = {name: EXAMPLES[name] for name in ("site", "email")}
WITHOUT_PROBE = {"figma", "git", "playwright"}  # each says why
WRITING = {"POST", "PUT", "PATCH", "DELETE"}
# What an API offers as POST although it only reads. Nothing else that writes may be open to a reading tool.
READING_POSTS = {
    "atlassian": {"/rest/api/3/search/jql", "/rest/api/2/search/jql", "/rest/api/3/search/approximate-count"},
    "exa": {"/search", "/contents"},
    "firecrawl": {"/v2/scrape", "/v2/map", "/v2/search", "/v2/search/research/**"},
    "hubspot": {
        "/oauth/v2/private-apps/get/access-token-info",
        "/crm/v3/objects/*/search",
        "/crm/v3/objects/*/batch/read",
    },
    "notion": {"/v1/search", "/v1/data_sources/*/query"},
    "perplexity": {"/search", "/v1/agent", "/v1/agent/*/cancel"},
    "slack": {
        f"/api/{method}"
        for method in [
            "users.list",
            "users.conversations",
            "users.prefs.get",
            "usergroups.list",
            "conversations.list",
            "conversations.info",
            "conversations.history",
            "conversations.replies",
            "search.all",
            "search.messages",
            "client.counts",
        ]
    },
    "tavily": {"/search", "/extract", "/crawl", "/map", "/research"},
}


def entry_of(name: str) -> Entry:
    text = recipes.text_of(name)
    wanted = [name for name, parameter in recipes.parameters(text).items() if not parameter.default]
    return entry_file.read(recipes.fill(text, {key: EXAMPLES[key] for key in wanted}))


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
    if entry.delivery == "relay":
        assert entry.url.startswith("https://")
    else:
        assert any(re.search(r"(@|==)\d+\.\d+", word) for word in entry.command), entry.command
    assert all(host.startswith("https://") for host in entry.hosts)
    assert not entry.connect
    assert entry.default_tools
    assert "{{" not in repr(entry)
    if entry.delivery == "egress":
        assert entry.attribution == "exact"
        assert any("{key}" in value for value in entry.environment.values())


@pytest.mark.parametrize("name", recipes.names())
def test_a_recipe_that_was_added_can_be_written_down_again(name: str) -> None:
    assert entry_file.read(entry_text.written(entry_of(name))) == entry_of(name)


@pytest.mark.parametrize("name", recipes.names())
def test_a_recipe_names_a_read_only_probe_among_its_default_tools(name: str) -> None:
    entry = entry_of(name)
    if name in WITHOUT_PROBE:
        assert "no probe" in recipes.text_of(name)
        return
    assert entry.probe is not None
    assert rules.name_matches(entry.default_tools, entry.probe.tool)
    assert isinstance(json.loads(entry.probe.arguments), dict)


def test_the_tools_of_every_package_are_known() -> None:
    assert set(recipes.names()) - set(TOOLS) - set(REMOTE) - {"atlassian"} == set()


@pytest.mark.parametrize("name", TOOLS)
def test_the_default_tools_are_those_that_read(name: str) -> None:
    entry, tools = entry_of(name), TOOLS[name]
    assert [tool for tool in tools["reads"].split() if not rules.name_matches(entry.default_tools, tool)] == []
    assert [tool for tool in tools["others"].split() if rules.name_matches(entry.default_tools, tool)] == []


@pytest.mark.parametrize("name", TOOLS)
def test_every_tool_of_a_package_with_a_key_has_a_rule(name: str) -> None:
    entry, tools = entry_of(name), TOOLS[name]
    if entry.delivery == "egress":
        every = (tools["reads"] + " " + tools["others"]).split()
        assert [tool for tool in every if not any(rules.name_matches(rule.match, tool) for rule in entry.tools)] == []


@pytest.mark.parametrize("name", [*TOOLS, "atlassian"])
def test_a_tool_that_reads_can_only_read(name: str) -> None:
    entry = entry_of(name)
    reads = TOOLS[name]["reads"].split() if name in TOOLS else ["jira_get_issue", "jira_search", "jira_get_transitions"]
    for tool in reads:
        assert may_write(entry, tool) <= READING_POSTS.get(name, set()), tool


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
        ("brave-search", "brave_news_search", "GET", "https://api.search.brave.com/res/v1/news/search?q=x", True),
        ("brave-search", "brave_news_search", "POST", "https://api.search.brave.com/res/v1/news/search", False),
        ("firecrawl", "firecrawl_scrape", "POST", "https://api.firecrawl.dev/v2/scrape", True),
        ("firecrawl", "firecrawl_scrape", "POST", "https://api.firecrawl.dev/v2/scrape/1/interact", False),
        ("firecrawl", "firecrawl_monitor_checks", "GET", "https://api.firecrawl.dev/v2/monitor/1/checks?limit=3", True),
        ("gitlab", "get_project", "GET", "https://gitlab.com/api/v4/projects/acme%2Fshop", True),
        ("gitlab", "get_file_contents", "GET", "https://gitlab.com/api/v4/projects/7/repository/files/a%2Fb.md", True),
        ("gitlab", "get_issue", "PUT", "https://gitlab.com/api/v4/projects/7/issues/1", False),
        ("gitlab", "list_ci_catalog_resources", "POST", "https://gitlab.com/api/graphql", False),
        ("gitlab", "create_issue", "POST", "https://gitlab.com/api/v4/projects/acme%2Fshop/issues", True),
        ("gitlab", "create_issue", "POST", "https://gitlab.com/api/v4/projects/acme/shop/issues", False),
        ("gitlab", "create_or_update_file", "PUT", "https://gitlab.com/api/v4/projects/7/repository/files/a%2Fb", True),
        ("gitlab", "delete_issue", "DELETE", "https://gitlab.com/api/v4/projects/7/issues/1%2F..%2F..%2F", False),
        ("hubspot", "hubspot-list-objects", "GET", "https://api.hubspot.com/crm/v3/objects/contacts?limit=1", True),
        (
            "hubspot",
            "hubspot-search-objects",
            "POST",
            "https://api.hubspot.com/crm/v3/objects/contacts/batch/read",
            False,
        ),
        ("airtable", "list_records", "GET", "https://api.airtable.com/v0/app1/Tasks", True),
        ("airtable", "get_record", "DELETE", "https://api.airtable.com/v0/app1/Tasks/rec1", False),
        ("sentry", "search_issues", "GET", "https://us.sentry.io/api/0/organizations/acme/issues/", True),
        ("sentry", "execute_sentry_tool", "PUT", "https://us.sentry.io/api/0/organizations/acme/issues/1/", False),
        ("sentry", "update_issue", "PUT", "https://sentry.io/api/0/organizations/acme/issues/SHOP-1/", True),
        ("slack", "conversations_history", "POST", "https://acme.slack.com/api/conversations.history", True),
        ("slack", "conversations_history", "POST", "https://acme.slack.com/api/chat.postMessage", False),
        ("slack", "conversations_history", "POST", "https://slack.com.evil.example/api/conversations.history", False),
        ("supabase", "list_projects", "GET", "https://api.supabase.com/v1/projects", True),
        ("supabase", "list_projects", "POST", "https://api.supabase.com/v1/projects/abc/database/query", False),
        ("google-maps", "maps_geocode", "GET", "https://maps.googleapis.com/maps/api/geocode/json?address=x", True),
        ("elevenlabs", "list_agents", "GET", "https://api.elevenlabs.io/v1/convai/agents", True),
        ("elevenlabs", "list_agents", "POST", "https://api.elevenlabs.io/v1/convai/agents/create", False),
        ("context7", "query-docs", "GET", "https://context7.com/api/v2/context?libraryId=x", True),
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
    two = '[parameters]\nsite = "Whose?"\nteam = "Which?"\n\n[server]\n'
    with pytest.raises(InvalidInput, match=r"needs site: Whose\?; team: Which\?") as missing:
        recipes.fill(two, {})
    assert missing.value.next_step == "Write: --set site=… --set team=…"
    with pytest.raises(InvalidInput, match="no parameter"):
        recipes.fill(text, {**ATLASSIAN, "colour": "red"})


def test_a_parameter_with_a_default_need_not_be_given() -> None:
    text = recipes.text_of("gitlab")
    assert recipes.parameters(text)["host"].default == "gitlab.com"
    assert entry_file.read(recipes.fill(text, {})).hosts == ("https://gitlab.com",)
    own = entry_file.read(recipes.fill(text, {"host": "git.acme.example"}))
    assert own.hosts == ("https://git.acme.example",)
    assert own.environment["GITLAB_API_URL"] == "{listener:https://git.acme.example}/api/v4"


@pytest.mark.parametrize(
    ("recipe", "name", "value", "host"),
    [
        ("atlassian", "site", "https://acme.atlassian.net", "acme.atlassian.net"),
        ("atlassian", "site", "acme.atlassian.net/jira", "acme.atlassian.net"),
        ("gitlab", "host", "https://git.acme.example:8443/api", "git.acme.example:8443"),
        ("gitlab", "host", "https://", "HOST"),
        ("sentry", "host", "robin@sentry.io", "HOST"),
    ],
)
def test_a_parameter_that_is_a_host_takes_no_address(recipe: str, name: str, value: str, host: str) -> None:
    others = ATLASSIAN if recipe == "atlassian" else {}
    with pytest.raises(InvalidInput, match=f"{name!r} is a host") as refused:
        recipes.fill(recipes.text_of(recipe), {**others, name: value})
    assert refused.value.next_step.endswith(f"--set {name}={host}")


def test_a_host_may_have_a_port() -> None:
    own = entry_file.read(recipes.fill(recipes.text_of("gitlab"), {"host": "git.acme.example:8443"}))
    assert own.hosts == ("https://git.acme.example:8443",)


@pytest.mark.parametrize(
    "table", ["a = 1", "a = {}x", "a = { meaning = 1 }", "a = { sense = 'x' }", "a = { kind = 'x' }"]
)
def test_parameters_of_another_form_are_refused(table: str) -> None:
    with pytest.raises(InvalidInput):
        recipes.parameters(f"[parameters]\n{table}\n\n[server]\n")


@pytest.mark.parametrize(
    ("email", "refused"),
    [
        ('a"\nhosts = ["evil.example', r"may not contain '\\n', .* '=', '\['"),
        ("a{key}", "may not contain '{', '}'"),
        ("", "needs email"),
        ("a b", "may not contain ' '"),
        ("x" * 300, "longer than 200"),
    ],
)
def test_a_parameter_cannot_break_out_of_its_string_and_is_told_what_is_wrong_with_it(email: str, refused: str) -> None:
    with pytest.raises(InvalidInput, match=refused):
        recipes.fill(recipes.text_of("atlassian"), {**ATLASSIAN, "email": email})


@pytest.mark.parametrize("name", recipes.names())
def test_a_recipe_recognises_its_own_launch_in_a_config(name: str) -> None:
    entry = entry_of(name)
    assert fits(launched(entry.command, entry.url), entry.recognition.launches)


def test_an_unknown_recipe_is_answered_with_those_there_are() -> None:
    with pytest.raises(NotFound) as refused:
        recipes.text_of("../entry")
    assert "github" in refused.value.next_step
