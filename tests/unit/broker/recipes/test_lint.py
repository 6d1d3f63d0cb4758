"""What a reviewer would ask about an entry, asked by the machine."""

from __future__ import annotations

import json
import re
import tomllib

import jsonschema
import pytest

from percall_broker import recipes
from percall_broker.model.errors import InvalidInput
from percall_broker.recipes.lint import Tool, findings

SCHEMA = json.loads(recipes.SCHEMA_FILE.read_text())
GOOD = """
[server]
title = "A tracker"
command = ["npx", "-y", "tracker-mcp@1.2.3"]
[server.environment]
TRACKER_TOKEN = "{key}"
[key]
placeholder = "trk_{random:24}"
[[key.slot]]
header = "Authorization"
format = "Bearer {key}"
[egress]
ways = ["preload"]
hosts = ["api.tracker.example"]
[recognise]
launches = ["npm:tracker-mcp"]
[defaults]
tools = ["get_*"]
[probe]
tool = "get_me"
[[tool]]
match = ["get_*"]
requests = ["GET api.tracker.example/**"]
[[tool]]
match = ["create_issue"]
requests = ["POST api.tracker.example/issues"]
"""
TOOLS = (Tool("get_me", reads=True), Tool("create_issue", reads=False))


def codes(text: str, tools: tuple[Tool, ...] = ()) -> list[tuple[str, str]]:
    return [(finding.level, finding.code) for finding in findings(text, tools)]


def test_there_is_nothing_to_object_to_in_a_good_entry() -> None:
    assert codes(GOOD, TOOLS) == []


@pytest.mark.parametrize("name", recipes.names())
def test_no_recipe_that_ships_has_an_error_and_each_fits_the_schema(name: str) -> None:
    text = recipes.text_of(name)
    assert [finding for finding in findings(text) if finding.level == "error"] == []
    jsonschema.validate(tomllib.loads(text), SCHEMA)


@pytest.mark.parametrize(
    ("said", "instead", "finding"),
    [
        ("tracker-mcp@1.2.3", "tracker-mcp", ("error", "recipe.unpinned")),
        ("tracker-mcp@1.2.3", "tracker-mcp@latest", ("error", "recipe.unpinned")),
        ("tracker-mcp@1.2.3", "@scope/tracker-mcp", ("error", "recipe.unpinned")),
        ('tool = "get_me"', 'tool = "create_issue"', ("error", "recipe.probe")),
        ('match = ["get_*"]', 'match = ["get_issue"]', ("error", "recipe.probe")),
        ('[probe]\ntool = "get_me"\n', "", ("warning", "recipe.no_probe")),
        ('tools = ["get_*"]', "tools = []", ("warning", "recipe.no_defaults")),
        ('["GET api', '["GET,PATCH api', ("warning", "recipe.writes")),
        ("npm:tracker-mcp", "npm:other", ("warning", "recipe.recognise")),
        ("api.tracker.example", "http://127.0.0.1:9000", ("warning", "recipe.loopback")),
        ("[server.environment]", '[server.environment]\nLD_PRELOAD = "/tmp/x.so"', ("warning", "recipe.loader")),
    ],
)
def test_what_is_doubtful_is_found(said: str, instead: str, finding: tuple[str, str]) -> None:
    assert said in GOOD
    assert finding in codes(GOOD.replace(said, instead))


def test_an_entry_without_rules_says_that_any_request_may_be_made() -> None:
    assert codes(re.sub(r"\[\[tool\]\][^\[]*\[[^\[]*\[[^\[]*", "", GOOD)) == [("warning", "recipe.no_rules")]


@pytest.mark.parametrize(
    ("tools", "finding"),
    [
        ((*TOOLS, Tool("delete_issue")), ("warning", "recipe.unmapped")),
        (TOOLS[:1], ("warning", "recipe.pattern")),
        ((Tool("get_all"), TOOLS[1]), ("error", "recipe.probe")),
        ((*TOOLS, Tool("get_rid_of", reads=False)), ("warning", "recipe.hint")),
    ],
)
def test_an_entry_is_held_against_the_tools_that_its_server_lists(
    tools: tuple[Tool, ...], finding: tuple[str, str]
) -> None:
    assert finding in codes(GOOD, tools)


def test_what_cannot_be_read_is_no_finding_but_an_error() -> None:
    with pytest.raises(InvalidInput, match="no such setting"):
        findings(GOOD.replace("[recognise]", "[recognize]"))


@pytest.mark.parametrize(
    "change",
    [
        ("[recognise]", "[recognize]"),
        ('title = "A tracker"', ""),
        ('ways = ["preload"]', 'ways = ["magic"]'),
        ('"GET api.tracker.example/**"', '"get api.tracker.example/**"'),
        ("npm:tracker-mcp", "tracker-mcp"),
    ],
)
def test_the_schema_refuses_what_the_reader_refuses(change: tuple[str, str]) -> None:
    jsonschema.validate(tomllib.loads(GOOD), SCHEMA)
    assert change[0] in GOOD
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(tomllib.loads(GOOD.replace(*change)), SCHEMA)
    with pytest.raises(InvalidInput):
        findings(GOOD.replace(*change))
