"""An entry is what its file says, and every mistake in the file is answered with its place."""

from __future__ import annotations

import dataclasses
import re

import msgspec
import pytest

from percall_broker.model import entry_file, entry_text
from percall_broker.model.entry import Entry, Recognition, RequestRule, Slot, ToolRule
from percall_broker.model.errors import InvalidInput
from percall_broker.model.marking import visible_lines

WHOLE = """
[server]
title = "A tracker"
delivery = "egress"
command = ["npx", "-y", "tracker@1.0.0"]
deadline_seconds = 30
max_requests = 7
sampling = true
pass_environment = ["HTTP_PROXY"]

[server.environment]
TRACKER_TOKEN = "{key}"
TRACKER_URL = "{listener:https://api.tracker.example}"

[key]
placeholder = "trk_{random:24}"

[[key.slot]]
header = "Authorization"
format = "Bearer {key}"

[[key.slot]]
json = "/api_key"

[egress]
ways = ["base-url", "preload"]
hosts = ["api.tracker.example", "*.files.tracker.example"]
unlisted_hosts = "tunnel"

[startup]
requests = ["GET api.tracker.example/v1/version"]

[defaults]
tools = ["get_*"]

[probe]
tool = "get_me"
arguments = '{"short": true}'

[[tool]]
match = ["get_*", "list_*"]
requests = ["GET,HEAD api.tracker.example/**"]

[[tool]]
match = ["create_issue"]
requests = ["POST https://api.tracker.example/v1/issues"]
"""


def test_every_setting_is_read() -> None:
    entry = entry_file.read(WHOLE, connect={"https://api.tracker.example": "http://127.0.0.1:9000"})
    assert entry.title == "A tracker"
    assert entry.command == ("npx", "-y", "tracker@1.0.0")
    assert entry.slots == (Slot("header", "Authorization", "Bearer {key}"), Slot("json", "/api_key"))
    assert entry.hosts == ("https://api.tracker.example", "https://*.files.tracker.example")
    assert entry.tools == (
        ToolRule(("get_*", "list_*"), (RequestRule(("GET", "HEAD"), "https://api.tracker.example", "/**"),)),
        ToolRule(("create_issue",), (RequestRule(("POST",), "https://api.tracker.example", "/v1/issues"),)),
    )
    assert entry.startup == (RequestRule(("GET",), "https://api.tracker.example", "/v1/version"),)
    assert entry.connect == {"https://api.tracker.example": "http://127.0.0.1:9000"}
    assert (entry.deadline_seconds, entry.max_requests, entry.sampling) == (30, 7, True)
    assert (entry.pass_environment, entry.default_tools) == (("HTTP_PROXY",), ("get_*",))
    assert entry.probe is not None
    assert (entry.probe.tool, entry.probe.arguments) == ("get_me", '{"short": true}')


def test_an_entry_survives_the_store() -> None:
    entry = entry_file.read(WHOLE)
    assert msgspec.json.decode(msgspec.json.encode(entry), type=Entry) == entry


def test_attribution_is_exact_where_tools_have_rules_and_shared_where_they_have_none() -> None:
    assert entry_file.read(WHOLE).attribution == "exact"
    without_rules = WHOLE[: WHOLE.index("[[tool]]")]
    assert entry_file.read(without_rules).attribution == "shared"


def test_the_label_admits_what_an_entry_cannot_promise() -> None:
    assert entry_file.label(entry_file.read(WHOLE)) == "key stays in the broker"
    without_rules = entry_file.read(WHOLE[: WHOLE.index("[[tool]]")])
    assert "not told apart by tool" in entry_file.label(without_rules)
    keyless = entry_file.read('[server]\ntitle = "Clock"\ndelivery = "none"\ncommand = ["clock"]\n')
    assert entry_file.label(keyless) == "no key"


def test_a_loopback_http_host_may_be_named_and_any_other_http_host_may_not() -> None:
    local = WHOLE.replace("https://api.tracker.example", "http://127.0.0.1:9000")
    local = local.replace("api.tracker.example", "http://127.0.0.1:9000")
    assert entry_file.read(local).hosts[0] == "http://127.0.0.1:9000"
    with pytest.raises(InvalidInput, match=r"egress\.hosts.*loopback"):
        entry_file.read(WHOLE.replace('"api.tracker.example"', '"http://api.tracker.example"'))


@pytest.mark.parametrize(
    ("said", "instead", "place"),
    [
        ("deadline_seconds = 30", "deadline_second = 30", "server.deadline_second: there is no such setting"),
        ("deadline_seconds = 30", "deadline_seconds = 0", "server.deadline_seconds"),
        ("deadline_seconds = 30", "deadline_seconds = true", "server.deadline_seconds: a number is"),
        ("sampling = true", "sampling = 1", "server.sampling: true or false is expected"),
        ('title = "A tracker"', "title = 1", "server.title: a text is expected"),
        ('title = "A tracker"', "", "server.title: it is missing"),
        ('command = ["npx", "-y", "tracker@1.0.0"]', 'command = "npx tracker"', "server.command: a list is expected"),
        ("[startup]", "[[startup]]", "startup: a table is expected"),
        ('delivery = "egress"', 'delivery = "magic"', "server.delivery"),
        ('delivery = "egress"', 'delivery = "none"', "server.delivery"),
        ("[startup]", "[start_up]", "start_up: there is no such setting"),
        ("trk_{random:24}", "trk_{random:8}", "key.placeholder: it must hold {random:N}, with N of 16 or more"),
        ("trk_{random:24}", "trk_0123456789abcdefghijklmn", "key.placeholder: it must hold {random:N}, with N of 16"),
        ("trk_{random:24}", "trk_{key}{random:24}", "key.placeholder: only {random:N}"),
        ('TRACKER_TOKEN = "{key}"', 'TRACKER_TOKEN = "{secret}"', "server.environment.TRACKER_TOKEN"),
        ("{listener:https://api.tracker.example}", "{listener:https://evil.example}", "server.environment.TRACKER_URL"),
        (
            "{listener:https://api.tracker.example}",
            "{listener:api/v4}",
            "TRACKER_URL: 'api/v4' is not an origin",
        ),
        ("{listener:https://api.tracker.example}", "{listener:*.files.tracker.example}", "one host, without *"),
        ('ways = ["base-url", "preload"]', 'ways = ["preload"]', "server.environment.TRACKER_URL"),
        ('ways = ["base-url", "preload"]', 'ways = ["base-url", "magic"]', "egress.ways"),
        ('header = "Authorization"', 'header = "Bad Header"', "key.slot[0].header"),
        ('header = "Authorization"', 'header = "Host"', "key.slot[0].header: the header 'Host' has a meaning"),
        ('header = "Authorization"', 'header = "content-length"', "key.slot[0].header"),
        ('format = "Bearer {key}"', 'format = "Bearer {key}\\r\\nX: y"', "key.slot[0].format"),
        ('format = "Bearer {key}"', 'format = "Bearer {key}\\u0000"', "key.slot[0].format: it holds a NUL"),
        ('TRACKER_TOKEN = "{key}"', 'TRACKER_TOKEN = "{key}\\u0000"', "server.environment.TRACKER_TOKEN"),
        ('"tracker@1.0.0"]', '"tracker\\u0000@1.0.0"]', "server.command: it holds a NUL"),
        ("trk_{random:24}", "trk_{random:24}\\n", "key.placeholder: it is of ASCII letters"),
        ("trk_{random:24}", "trk_{random:24}'", "key.placeholder: it is of ASCII letters"),
        ('header = "Authorization"', 'header = "A"\nquery = "q"', "key.slot[0]: a slot is one of header"),
        ('header = "Authorization"', 'heeder = "Authorization"', "key.slot[0]: a slot is one of header"),
        ('format = "Bearer {key}"', 'format = "Bearer"', "key.slot[0].format"),
        ('json = "/api_key"', 'json = "api_key"', "key.slot[1].json"),
        ('json = "/api_key"', 'basic = "passphrase"', "key.slot[1].basic"),
        ('match = ["create_issue"]', 'mach = ["create_issue"]', "tool[1].match: it is missing"),
        ("POST https://api.tracker.example/v1/issues", "post api.tracker.example/v1", "tool[1].requests"),
        ("POST https://api.tracker.example/v1/issues", "POST api.tracker.example", "has no path"),
        ("POST https://api.tracker.example/v1/issues", "POST api.elsewhere.example/v1", "none of egress.hosts"),
        ('unlisted_hosts = "tunnel"', 'unlisted_hosts = "allow"', "egress.unlisted_hosts"),
        ('"api.tracker.example", "*.files', '"api.tracker.example/v1", "*.files', "egress.hosts"),
        ('"api.tracker.example", "*.files', '"api.tracker.example", "*.com", "*.files', "egress.hosts"),
    ],
)
def test_a_mistake_is_answered_with_its_place(said: str, instead: str, place: str) -> None:
    assert said in WHOLE
    with pytest.raises(InvalidInput) as refused:
        entry_file.read(WHOLE.replace(said, instead, 1))
    assert place in refused.value.message
    assert refused.value.code.startswith("entry.")


@pytest.mark.parametrize(
    ("table", "place"),
    [
        ('[probe]\ntool = "get_me"\narguments = "[]"', "probe.arguments: it must be a JSON object"),
        ('[probe]\ntool = "get_me"\narguments = "{"', "probe.arguments: it must be a JSON object"),
        (
            f'[probe]\ntool = "get_me"\narguments = \'{{"a": {"[" * 50_000}\'',
            "probe.arguments: it must be a JSON object",
        ),
        ('[probe]\narguments = "{}"', "probe.tool: it is missing"),
        ('[recognise]\nlaunches = ["tracker-mcp"]', "recognise.launches"),
        ('[recognise]\nkeys = ["A B"]', "recognise.keys"),
        ('[recognise]\nlaunch = "npm:tracker-mcp"', "recognise.launch: there is no such setting"),
    ],
)
def test_a_mistake_in_probe_or_recognition_is_answered_with_its_place(table: str, place: str) -> None:
    text = re.sub(r"\[probe\]\n(?:[^\[].*\n?)*", "", WHOLE) + "\n" + table + "\n"
    with pytest.raises(InvalidInput) as refused:
        entry_file.read(text)
    assert place in refused.value.message


def test_what_is_no_toml_is_refused() -> None:
    with pytest.raises(InvalidInput, match="not TOML"):
        entry_file.read("[server")
    with pytest.raises(InvalidInput, match="nested too deeply"):
        entry_file.read(f"a = {'[' * 50_000}")


def test_a_listener_may_be_named_by_its_host_alone() -> None:
    bare = entry_file.read(WHOLE.replace("{listener:https://api.tracker.example}", "{listener:api.tracker.example}"))
    assert bare.environment["TRACKER_URL"] == "{listener:api.tracker.example}"


@pytest.mark.parametrize(
    ("origin", "stand_in"),
    [
        ("https://elsewhere.example", "http://127.0.0.1:1"),
        ("https://api.tracker.example", "https://127.0.0.1:1"),
        ("https://api.tracker.example", "http://192.0.2.1:1"),
    ],
)
def test_a_stand_in_is_a_loopback_http_origin_for_a_host_of_the_entry(origin: str, stand_in: str) -> None:
    with pytest.raises(InvalidInput, match="connect"):
        entry_file.read(WHOLE, connect={origin: stand_in})


# --- and back ---------------------------------------------------------------------------------------------------------

REMOTE = """
[server]
title = "Notes"
delivery = "relay"
url = "https://notes.example/mcp"

[key]
owner = "personal"

[[key.slot]]
header = "Authorization"
format = "Bearer {key}"
"""
KEYLESS = '[server]\ntitle = "The time"\ndelivery = "none"\ncommand = ["time"]\nattribution = "exact"\n'
# Control characters, quotes, what is not seen, and marks that pile up.
ODD = KEYLESS.replace(
    '["time"]', '["time", "\\u0007\\u007f\\u2028\\u200b \\"\'\\\\", "😀\\t\\r", "a\\u0301\\u0302\\u0303\\u0304\\u0305"]'
)


@pytest.mark.parametrize("text", [WHOLE, REMOTE, KEYLESS, ODD])
def test_an_entry_that_was_written_reads_as_the_same_entry(text: str) -> None:
    entry = entry_file.read(text)
    written = entry_text.written(entry)
    assert entry_file.read(written) == entry
    assert visible_lines(written) == written, "as it is seen, so it is"


@pytest.mark.parametrize("query", ["key=x", "key=", "key", "v=1&k%65y="])
def test_an_address_that_has_the_keys_parameter_already_is_refused(query: str) -> None:
    text = REMOTE.replace("/mcp", f"/mcp?{query}").replace('header = "Authorization"', 'query = "key"')
    with pytest.raises(InvalidInput, match="has the parameter 'key' already"):
        entry_file.read(text.replace('format = "Bearer {key}"\n', ""))


def test_what_is_recognised_is_written_too() -> None:
    entry = dataclasses.replace(entry_file.read(WHOLE), recognition=Recognition(("npm:tracker",), ("TRACKER_PAT",)))
    assert entry_file.read(entry_text.written(entry)) == entry
