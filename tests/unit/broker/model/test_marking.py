"""Text from elsewhere: what would not be seen, or would change what is seen, is named."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from percall_broker.console import rendering
from percall_broker.model.marking import is_hidden, runs, visible, visible_lines

HIDDEN = (
    "\u202e\u2066\u200b\u200d\ufeff\x1b\x00\x7f\x9b\u00a0\u3164\u2028\U000e0041\ue000\u2800\u00ad"  # one of each kind
    "\u180b\u180f\ufe00\ufe0f\U000e0100\U000e01ef\U00016fe4\U0001d159"  # what selects a variant, and fillers
)


@pytest.mark.parametrize("character", list(HIDDEN))
def test_hidden_characters_are_named(character: str) -> None:
    assert visible(f"a{character}b") == f"a⟨U+{ord(character):04X}⟩b"
    assert character not in str(rendering.seen(f"a{character}b"))


def test_a_name_is_one_line() -> None:
    assert visible("get\n\tit\r\x85") == "get⟨U+000A⟩⟨U+0009⟩it⟨U+000D⟩⟨U+0085⟩"
    assert visible_lines("get\n\tit\r") == "get\n\tit⟨U+000D⟩"


def test_what_is_seen_stays_as_it_is() -> None:
    for text in ("get_issue", "naïve Ünïcode", "日本語", "emoji 🙂", "two words", "line\n\tand tab"):
        assert "".join(run.text for run in runs(text)) == text
        assert not any(run.hidden for run in runs(text))


def test_marks_that_pile_up_are_named() -> None:
    assert sum(run.hidden for run in runs("e" + "\u0301" * 30)) == 26


@given(st.text())
def test_nothing_is_lost_and_nothing_hidden_is_left(text: str) -> None:
    found = runs(text)
    hidden = sum(run.hidden for run in found)
    assert sum(1 if run.hidden else len(run.text) for run in found) == len(text)
    assert not any(is_hidden(c) for run in found if not run.hidden for c in run.text if c not in "\n\t")
    assert hidden >= sum(unicodedata.category(c) in {"Cf", "Cc"} and c not in "\n\t" for c in text)


@given(st.text())
def test_markup_is_text(text: str) -> None:
    shown = str(rendering.seen(text))
    assert "<script" not in shown.lower()
    assert shown.count("<") == 2 * sum(run.hidden for run in runs(text))
