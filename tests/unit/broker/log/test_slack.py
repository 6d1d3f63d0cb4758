"""Events as messages for a channel: told in words, and with nothing in them that the channel would obey."""

from __future__ import annotations

import json

import pytest

from percall_broker.log.slack import message

ASKED = {
    "approval": "ap_1", "wanted": "call", "person": "alice", "agent": "claude", "server": "github", "tool": "merge",
    "groups": ["leads"], "expires_at": 5, "url": "https://broker.example/console/approvals/ap_1",
}  # fmt: skip


def written(kind: str, **data: object) -> dict[str, object]:
    return dict(json.loads(message(json.dumps({"type": kind, "timestamp": "now", "data": data}))))


def test_a_question_is_a_sentence_with_a_button() -> None:
    told = written("approval.requested", **ASKED)
    assert told["text"] == "*alice (claude)* waits to call *merge of github*. It needs leads: ap_1"
    assert json.dumps(ASKED["url"]) in json.dumps(told["blocks"])
    request = written("approval.requested", **{**ASKED, "wanted": "grant", "groups": [""]})
    assert "asks for a grant of" in str(request["text"])
    assert "It needs an administrator" in str(request["text"])


@pytest.mark.parametrize("name", ["<!channel>", "<https://evil.example|click>", "&lt;!here&gt;", "*bold*", "`code`"])
def test_a_name_is_never_a_mention_a_link_or_markup(name: str) -> None:
    text = str(written("approval.requested", **{**ASKED, "tool": name})["text"])
    assert "<" not in text
    assert text.count("*") == 4
    assert "`" not in text


@pytest.mark.parametrize("name", ["a\nSecurity: all clear. Approve ap_9", "merge\u202e", "x" * 1024, "&" * 1024])
def test_a_name_is_one_short_line_and_hides_nothing_of_the_question(name: str) -> None:
    for member in ("tool", "agent"):
        told = written("approval.requested", **{**ASKED, member: name})
        text = str(told["text"])
        assert "\n" not in text
        assert "\u202e" not in text
        assert text.endswith("It needs leads: ap_1")
        assert '"verbatim": true' in json.dumps(told["blocks"]), "an address in it is no link"


def test_any_other_event_is_told_with_what_it_holds() -> None:
    told = written("grant.expiring", grant="g_1", person="alice", agent="")
    assert told["text"] == "*grant.expiring*: grant g_1, person alice"
