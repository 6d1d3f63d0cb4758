"""What cannot be: every field of every administrator's request answers it as the caller's mistake, never as a fault."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pytest

from harness.processes import keyed_entry
from harness.upstream import CANARY, Upstream
from integration.conftest import Served

if TYPE_CHECKING:
    from collections.abc import Iterator

HUGE = (2**62, 2**63, 2**70, -(2**63) - 1)
TEXTS = ("\ud800", "\0", "x\0y", "\ud800" * 300)
SCOPE = {"tools": ["get_*"], "prompts": [], "resources": []}
ANSWER = {"answer": "allow", "digest": "d", "scope": "once", "seconds": 0, "varying": []}
NUMBERS = (
    ("/v1/inbox", "before"),
    ("/v1/admin/calls", "since_ms"),
    ("/v1/admin/calls", "until_ms"),
    ("/v1/admin/calls", "secret_version"),
    ("/v1/admin/changes", "since_ms"),
    ("/v1/admin/changes", "until_ms"),
    ("/v1/admin/tail", "after"),
    ("/v1/calls", "since_ms"),
)
FORMS: tuple[tuple[str, str, dict[str, Any]], ...] = (
    ("POST", "/v1/admin/grants", {"person": "alice", "servers": {"keyed": SCOPE}, "agent": "a", "expires_at": 0}),
    ("POST", "/v1/admin/servers", {"name": "n", "entry": "", "connect": {}, "secret": "s", "expires_at": 0}),
    ("PUT", "/v1/admin/servers/keyed", {"entry": "", "connect": {"https://a.example": "http://127.0.0.1:1"}}),
    ("POST", "/v1/admin/servers/keyed/key", {"secret": "s", "expires_at": 0}),
    ("PUT", "/v1/admin/servers/keyed/key/end", {"expires_at": 0}),
    ("POST", "/v1/admin/servers/keyed/accept-key", {"person": "alice"}),
    ("POST", "/v1/admin/servers/keyed/pins", {"tools": {"get_item": "d"}, "replace": False}),
    ("POST", "/v1/admin/devices/revoke", {"device": "d"}),
    ("POST", "/v1/admin/freezes", {"kind": "person", "name": "alice", "reason": "r"}),
    ("POST", "/v1/admin/policies", {"files": {"a.cedar": "x"}, "message": "m", "expected": -1}),
    (
        "POST",
        "/v1/admin/policies/explain",
        {"person": "p", "server": "s", "tool": "t", "agent": "a", "arguments": "{}"},
    ),
    ("POST", "/v1/admin/policies/replay", {"files": {"a.cedar": "x"}, "days": 7}),
    ("POST", "/v1/admin/groups/leads/join", {"people": ["alice"]}),
    ("POST", "/v1/admin/groups/leads/grants", {"servers": {"keyed": SCOPE}, "agent": "", "expires_seconds": 0}),
    ("POST", "/v1/admin/webhooks", {"url": "http://127.0.0.1:9/x", "format": "json"}),
    ("POST", "/v1/admin/review/resume", {"grants": ["g"]}),
    ("POST", "/v1/inbox/a/answer", ANSWER),
)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, upstream: Upstream) -> Iterator[Served]:
    with Served(tmp_path_factory.mktemp("forms")) as served:
        served.add_server("keyed", keyed_entry(upstream.url), CANARY)
        yield served
        served.stop()


def spoilt(form: Any) -> Iterator[Any]:
    """The form with one value at a time that cannot be, and each of its names too."""
    if isinstance(form, dict):
        for name, value in form.items():
            for other in spoilt(value):
                yield {**form, name: other}
            for text in TEXTS:
                yield {**form, text: value}
    elif isinstance(form, list):
        for place, value in enumerate(form):
            for other in spoilt(value):
                yield [*form[:place], other, *form[place + 1 :]]
    elif isinstance(form, int):
        yield from HUGE
    else:
        yield from TEXTS


@pytest.mark.parametrize(("method", "path", "form"), FORMS, ids=[f"{method} {path}" for method, path, _ in FORMS])
def test_a_value_that_cannot_be_is_the_caller_s_mistake(
    served: Served, method: str, path: str, form: dict[str, Any]
) -> None:
    plain = served.administrator.send(method, path, json.dumps(form).encode())
    assert plain.status == 200 or not plain.code.startswith("request."), plain.body
    for other in spoilt(form):
        answer = served.administrator.send(method, path, json.dumps(other).encode())
        assert 400 <= answer.status < 500, (other, answer.status, answer.body)


@pytest.mark.parametrize(("path", "name"), NUMBERS)
def test_a_number_that_cannot_be_is_the_caller_s_mistake(served: Served, path: str, name: str) -> None:
    for number in HUGE:
        answer = served.administrator.send("GET", f"{path}?{name}={number}")
        assert answer.status in {200, 400}, (number, answer.body)  # before everything is a time too


@pytest.mark.parametrize(
    "path", ["grants", "servers", "calls", "policies", "webhooks", "people", "groups", "approvals"]
)
def test_a_name_that_cannot_be_is_the_caller_s_mistake(served: Served, path: str) -> None:
    for name in ("%00", "x%00y", "%ED%A0%80", "%FF", str(2**70), "-1", quote("\u202e")):
        for more in ("", "/x"):
            answer = served.administrator.send("GET", f"/v1/admin/{path}/{name}{more}")
            assert answer.status < 500, (name, answer.body)


def test_a_form_that_nests_without_end_is_the_callers_mistake_in_words_of_ours(served: Served) -> None:
    for levels in (*range(500, 1000, 50), 3000):  # readers differ in where they give up
        nested = b'{"person":"x","servers":' + b'{"a":' * levels + b"1" + b"}" * (levels + 1)
        answer = served.administrator.send("POST", "/v1/admin/grants", nested)
        assert (levels, answer.status, answer.code) == (levels, 400, "request.form"), answer.body
