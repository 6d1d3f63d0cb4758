"""What the commands print, and the little languages that their options speak."""

from __future__ import annotations

import io
import json
import time
from contextlib import redirect_stdout
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from percall.errors import UsageError
from percall_broker.cli import output
from percall_broker.cli.approval import list_approvals
from percall_broker.cli.log import list_calls
from percall_broker.cli.server import key_end
from percall_broker.cli.times import milliseconds_of, seconds_of

if TYPE_CHECKING:
    from collections.abc import Callable

ROWS = [
    {"server": "github", "title": "GitHub", "created_at": 0, "hosts": []},
    {"server": "time", "title": "The time, anywhere", "created_at": 0, "hosts": ["a"]},
]


def test_a_listing_is_aligned_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    output.lines(ROWS, as_json=False, columns=("server", "title", "hosts"), empty="None.")
    assert capsys.readouterr().out.splitlines() == [
        "SERVER  TITLE               HOSTS",
        "github  GitHub              -",
        "time    The time, anywhere  a",
    ]


def test_an_object_has_a_line_for_each_member_and_for_each_of_many(capsys: pytest.CaptureFixture[str]) -> None:
    rules = [f"tool_{number}: GET https://api.example.com/**" for number in range(3)]
    row = {"server": "time", "created_at": 1_795_678_414, "hosts": ["a", "b"], "tools": rules, "connect": {}}
    output.one(row, as_json=False)
    assert capsys.readouterr().out.splitlines() == [
        "server      time",
        "created_at  2026-11-26 07:33Z",
        "hosts       a, b",
        *(f"{'tools' if rule is rules[0] else '':10}  {rule}" for rule in rules),
        "connect     -",
    ]


def test_a_listing_is_one_object_a_line_for_scripts(capsys: pytest.CaptureFixture[str]) -> None:
    output.lines(ROWS, as_json=True, columns=("server",), empty="None.")
    assert [json.loads(line) for line in capsys.readouterr().out.splitlines()] == ROWS


def test_an_empty_listing_says_so_to_people_and_nothing_to_scripts(capsys: pytest.CaptureFixture[str]) -> None:
    output.lines([], as_json=True, columns=("server",), empty="None.")
    assert capsys.readouterr().out == ""
    output.lines([], as_json=False, columns=("server",), empty="None.")
    assert capsys.readouterr().out == "None.\n"


def test_a_tool_name_cannot_drive_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    output.write("get_\x1b[2Jitem\u202e")
    assert capsys.readouterr().out == "get_⟨U+001B⟩[2Jitem⟨U+202E⟩\n"


def test_a_tool_name_makes_no_line_of_a_listing(capsys: pytest.CaptureFixture[str]) -> None:
    forged = {"tool": "get_item\n2026-11-27  ada  get_harmless\tpermit", "details": {"for": "a\nb"}}
    output.lines([forged], as_json=False, columns=("tool", "details"), empty="None.")
    assert len(capsys.readouterr().out.splitlines()) == 2
    output.one(forged, as_json=False)
    assert len(capsys.readouterr().out.splitlines()) == 2
    output.comma_separated([forged], ("tool",))
    assert len(capsys.readouterr().out.splitlines()) == 2


@given(st.text())
def test_what_scripts_read_is_json_whatever_is_in_it(text: str) -> None:
    written = io.StringIO()
    with redirect_stdout(written):
        output.one({"tool": text}, as_json=True)
    (line,) = written.getvalue().splitlines()
    assert json.loads(line) == {"tool": text}
    assert line.isascii()
    assert line.isprintable()


@pytest.mark.parametrize("cell", ["=1+1", "+1", "-1", "@SUM(A1)", " =1", "  +1", "\uff1d1+1"])
def test_a_cell_of_the_csv_is_no_formula(cell: str, capsys: pytest.CaptureFixture[str]) -> None:
    output.comma_separated([{"tool": cell}], ("tool",))
    assert capsys.readouterr().out.splitlines()[1].strip('"').startswith("'")


def test_an_id_of_the_csv_is_what_it_is_looked_up_by(capsys: pytest.CaptureFixture[str]) -> None:
    output.comma_separated([{"call": "-BnJx9vO0m1S7UoWbGQyDQ"}], ("call",))
    assert capsys.readouterr().out.splitlines()[1] == "-BnJx9vO0m1S7UoWbGQyDQ"


@pytest.mark.parametrize(("text", "seconds"), [("90s", 90), ("15m", 900), ("12h", 43200), ("30d", 2592000)])
def test_a_duration_is_a_number_and_a_unit(text: str, seconds: int) -> None:
    assert seconds_of(text) == seconds


@pytest.mark.parametrize("text", ["", "30", "d", "0d", "-1d", "1.5h", "30 d", "1y", "٣d"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="not a duration"):
        seconds_of(text)


def test_a_moment_is_iso_8601_in_utc_or_so_long_ago() -> None:
    assert milliseconds_of("1970-01-01T00:00:01") == 1000
    assert milliseconds_of("1970-01-01T01:00:01+01:00") == 1000
    assert milliseconds_of("") == 0
    assert abs(milliseconds_of("2h") - (time.time() - 7200) * 1000) < 5000
    with pytest.raises(UsageError, match="'yesterday' is no time") as caught:
        milliseconds_of("yesterday")
    assert "ISO 8601" in caught.value.next_step


@pytest.mark.parametrize(
    ("command", "next_step"),
    [
        (lambda: key_end("github", "2026-12-12"), "Write 30d, 12h, 15m or 90s; or never."),
        (lambda: key_end("github", ""), "Write 30d, 12h, 15m or 90s; or never."),  # a script's variable that is empty
        (lambda: list_approvals("nope"), "There are: pending, allowed, used, denied, ended, expired, all."),
        (lambda: list_calls(as_csv=True, as_json=True), "Say --csv or --json, not both."),
    ],
)
def test_what_an_option_cannot_be_is_answered_with_all_that_it_can(command: Callable[[], None], next_step: str) -> None:
    with pytest.raises(UsageError) as refused:
        command()
    assert refused.value.next_step == next_step
