"""What an approver reads: a call's arguments as they were written, with nothing that hides or drives the terminal."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from percall_broker.cli.approval import meaning, tell, unescaped

ROW: dict[str, Any] = {
    "approval": "ap_1", "state": "pending", "kind": "call", "person": "alice", "agent": "default", "device": "laptop",
    "server": "github", "method": "tools/call", "tool": "merge", "reason": "why", "policies": ["grants", "merges"],
    "policy_version": 3, "separate": True, "wanted": None, "asked_at": 1_700_000_000, "expires_at": 1_700_003_600,
    "answer": "", "scope": "", "varying": [], "lasting": "", "lasts_until": 0, "call": "c1", "used_by": "",
    "url": "https://broker/console/approvals/ap_1", "why_not": "",
    "groups": [{"group": "leads", "person": "", "presence": "", "answered_at": 0}],
}  # fmt: skip


def told(capsys: pytest.CaptureFixture[str], text: str | None) -> str:
    tell({**ROW, "arguments": {"text": text, "bytes": len(text or ""), "digest": "d1gest", "names": []}})
    return capsys.readouterr().out


def test_everything_is_shown_with_length_and_digest(capsys: pytest.CaptureFixture[str]) -> None:
    shown = told(capsys, '{"n":1.50,"title":"caf\\u00e9"}')
    assert '{"n":1.50,"title":"café"}' in shown
    assert "30 bytes, SHA-256 d1gest" in shown
    assert "policies        grants, merges\n" in shown
    assert "leads" in shown


@pytest.mark.parametrize("hidden", ["\u202e", "\u200b", "\x1b", "\x9b", "\u2066", "\ufeff", "\u00ad", "\r"])
def test_a_character_that_would_not_be_seen_is_named(capsys: pytest.CaptureFixture[str], hidden: str) -> None:
    for text in (f'{{"a":"x{hidden}y"}}', json.dumps({"a": f"x{hidden}y"})):
        shown = told(capsys, text)
        assert hidden not in shown
        assert f"{ord(hidden):04X}" in shown or f"\\u{ord(hidden):04x}" in shown or "\\r" in shown
    shown = told(capsys, json.dumps({"a": "\\\\u0041"}))
    assert "\\\\\\\\u0041" in shown, "an escaped backslash is no beginning of an escape"


def test_arguments_that_are_gone_are_said_to_be(capsys: pytest.CaptureFixture[str]) -> None:
    assert "cannot be shown any more" in told(capsys, None)


@given(st.recursive(st.none() | st.integers() | st.text(), lambda inner: st.dictionaries(st.text(), inner)))
def test_what_is_shown_is_the_same_json(value: Any) -> None:
    for spelt in (json.dumps(value), json.dumps(value, ensure_ascii=False)):
        assert json.loads(unescaped(spelt)) == value


def test_whoever_gives_a_grant_is_told_all_that_it_names(capsys: pytest.CaptureFixture[str]) -> None:
    scope = {"tools": ["get_*", *(f"delete_{number}" for number in range(60))], "prompts": ["p*"], "resources": []}
    row = {**ROW, "kind": "grant", "tool": "get_*", "wanted": {"scope": scope, "seconds": 3600, "tools": ["get_*"]}}
    tell(row)
    scope_in_words = "tools get_*, " + ", ".join(f"delete_{number}" for number in range(60)) + "; prompts p*"
    assert f"wanted          {scope_in_words}, for 1 hour\n" in capsys.readouterr().out
    told = meaning(row, {"answer": "allow"})
    assert told.startswith("Gives alice's agent default a grant of github until ")
    assert told.endswith(f": {scope_in_words}.")
