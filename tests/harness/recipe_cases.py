"""How each recipe is proven with its real package: what the fake upstream answers, and what the tool tells of it."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from percall_broker import recipes
from percall_broker.model import entry_file

if TYPE_CHECKING:
    from percall_broker.model.entry import Entry

# What `tools/list` of the pinned packages answers: those for a read-only grant, and the others. Remote servers' tools
# are not ours to pin.
TOOLS: dict[str, dict[str, str]] = json.loads((Path(__file__).parent / "recipe_tools.json").read_text())
REMOTE = ("github-remote", "linear", "stripe")


@dataclass(frozen=True)
class Case:
    """What the fake upstream answers to the probe, what of it the tool tells, and what the upstream saw.

    `call` and `arguments` take the probe's place; `more` goes to the program besides what the recipe gives it.
    """

    told: str
    seen: str = ""
    answers: dict[str, Any] = field(default_factory=dict)
    call: str = ""
    arguments: dict[str, Any] = field(default_factory=dict)
    more: tuple[str, ...] = ()
    values: tuple[str, ...] = ()


PERSON = {"id": "U1", "name": "robin", "real_name": "Robin", "profile": {"display_name": "robin"}}
SLACK = {
    "slack.com/api/auth.test": {
        "ok": True,
        "url": "https://acme.slack.com/",
        "team": "Acme",
        "user": "robin",
        "team_id": "T1",
        "user_id": "U1",
    },
    "acme.slack.com/api/users.list": {"ok": True, "members": [PERSON], "response_metadata": {"next_cursor": ""}},
    "acme.slack.com/api/client.userBoot": {"ok": True},
    "acme.slack.com/api/conversations.list": {
        "ok": True,
        "channels": [{"id": "C1", "name": "general", "is_channel": True, "topic": {"value": "found it"}}],
        "response_metadata": {"next_cursor": ""},
    },
}
NOTHING = {"total_count": 0, "incomplete_results": False, "items": []}
PLACE = {"geometry": {"location": {"lat": 51.5, "lng": 0}}, "formatted_address": "found it", "place_id": "p"}
DESIGN = {
    "name": "found it",
    "lastModified": "2026-01-01",
    "thumbnailUrl": "",
    "document": {"id": "0:0", "name": "D", "type": "DOCUMENT", "children": []},
    "components": {},
    "componentSets": {},
    "styles": {},
}
FOUND = {"id": "1", "title": "found it", "url": "https://a.example", "text": "t", "snippet": "s", "description": "d"}
BASE = {"id": "app1", "name": "found it", "permissionLevel": "read"}
LIBRARY = {"id": "/a/b", "title": "found it", "description": "d", "state": "finalized", "totalSnippets": 1}
SITE = ("--set", "site=acme.atlassian.net", "--set", "email=bot@acme.example")
ISSUE = {"id": "1", "key": "DEMO-1", "fields": {"summary": "found it"}}
NODE = {
    "airtable": Case("found it", "GET /v0/meta/bases", {"api.airtable.com/v0/meta/bases": {"bases": [BASE]}}),
    "brave-search": Case(
        "found it", "GET /res/v1/web/search?q=percall", {"api.search.brave.com/": {"web": {"results": [FOUND]}}}
    ),
    "context7": Case(
        "found it", "GET /api/v2/libs/search", {"context7.com/api/v2/libs/search": {"results": [LIBRARY]}}
    ),
    "exa": Case("found it", "POST /search", {"api.exa.ai/search": {"requestId": "1", "results": [FOUND]}}),
    "figma": Case(
        "found it",
        "GET /v1/files/abc",
        {"api.figma.com/v1/files/": DESIGN},
        call="get_figma_data",
        arguments={"fileKey": "abc"},
    ),
    "firecrawl": Case("found it", "GET /v2/monitor", {"api.firecrawl.dev/v2/monitor": {"data": ["found it"]}}),
    "github": Case("total_count", "GET /search/repositories?q=percall", {"api.github.com/search/": NOTHING}),
    "gitlab": Case(  # a project by its path, whose slash is escaped
        "found it",
        "GET /api/v4/projects/acme%2Fshop",
        {"gitlab.com/api/v4/projects/acme%2Fshop": {"id": 7, "name": "found it"}},
        call="get_project",
        arguments={"project_id": "acme/shop"},
    ),
    "google-maps": Case(
        "found it",
        "GET /maps/api/geocode/json?address=Greenwich&key=",
        {"maps.googleapis.com/maps/api/geocode/json": {"status": "OK", "results": [PLACE]}},
    ),
    "hubspot": Case(
        "found it",
        "POST /oauth/v2/private-apps/get/access-token-info",
        {"api.hubspot.com/oauth/": {"userId": 7, "scopes": ["found it"]}},
    ),
    "notion": Case(
        "found it", "GET /v1/users/me", {"api.notion.com/v1/users/me": {"object": "user", "name": "found it"}}
    ),
    "perplexity": Case("found it", "POST /search", {"api.perplexity.ai/search": {"id": "1", "results": [FOUND]}}),
    "sentry": Case(
        "found-it",
        "GET /api/0/organizations/",
        {
            "sentry.io/api/0/organizations/": [
                {"id": "1", "slug": "found-it", "name": "Acme", "links": {"organizationUrl": "https://acme.sentry.io"}}
            ]
        },
    ),
    "slack": Case("found it", "POST /api/conversations.list", SLACK),
    "supabase": Case(
        "found it",
        "GET /v1/organizations",
        {"api.supabase.com/v1/organizations": [{"id": "1", "name": "found it"}]},
        more=("--features", "account,database,debugging,development,functions,branching,storage"),  # not the web's docs
    ),
    "tavily": Case(
        "found it",
        "POST /search",
        {"api.tavily.com/search": {"query": "percall", "answer": "found it", "results": [], "response_time": 0.1}},
    ),
    "filesystem": Case("/tmp", values=("--set", "folder=/tmp")),
    "memory": Case("entities"),
    "sequential-thinking": Case("thoughtHistoryLength"),
    "playwright": Case("", call="-"),  # without a browser: its tools alone are compared
}
PYTHON = {
    "atlassian": Case(
        "found it",
        "GET /rest/api/3/issue/DEMO-1",
        {"acme.atlassian.net/rest/api/3/issue/DEMO-1": ISSUE, "acme.atlassian.net/rest/api/2/issue/DEMO-1": ISSUE},
        call="jira_get_issue",
        arguments={"issue_key": "DEMO-1"},
        values=SITE,
    ),
    "fetch": Case("alive", call="fetch"),
    "git": Case("found it", call="git_log"),
    "time": Case("UTC", more=("--local-timezone", "UTC")),
}
CASES = {**NODE, **PYTHON}
# Tools of a package that a test starts without them: they ask the public web when they are listed.
UNLISTED = {"supabase": {"search_docs"}}


def filled(name: str) -> Entry:
    """The recipe's entry, with the parameters of its case."""
    values = [pair.split("=", 1) for pair in CASES[name].values[1::2]] if name in CASES else []
    return entry_file.read(recipes.fill(recipes.text_of(name), dict(values)))
