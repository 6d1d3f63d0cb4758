"""What we say beside the child's own words: one line, whoever wrote its parts."""

from __future__ import annotations

import subprocess
import sys

_SAYS = """
from percall.run.loop import Loop
from percall.run.streams import Stderr
stderr = Stderr(Loop())
stderr.say({sentence!r})
stderr.finish()
"""


def said(sentence: str) -> str:
    script = _SAYS.format(sentence=sentence)
    return subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True).stderr


def test_a_broker_s_words_drive_no_terminal_and_forge_no_line() -> None:
    told = said("The grant ended. \x1b]0;owned\x07\x1b[2J\npercall: all is well\x1b[8m")
    assert told.count("\n") == 1
    assert "\x1b" not in told
    assert told.startswith("percall: The grant ended. \\x1b]0;owned")


def test_a_long_sentence_is_cut() -> None:
    assert len(said("x" * 100_000)) < 3000
