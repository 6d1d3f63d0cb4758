"""How both commands say what went wrong."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from harness.processes import COMMANDS
from percall import edge
from percall.errors import UsageError


def failing(error: Exception) -> int:
    def command() -> int:
        raise error

    return edge.guarded("percall", command)


def test_what_a_broker_says_cannot_move_the_terminals_cursor(capsys: pytest.CaptureFixture[str]) -> None:
    assert failing(UsageError("x.y", "Bad \x1b[2Jname\n", "Do\rthis.")) == 2
    shown = capsys.readouterr().err
    assert "\x1b" not in shown
    assert "\r" not in shown
    assert shown.startswith("percall: Bad \\x1b[2Jname")


def test_a_fault_of_ours_shows_its_place_and_not_its_text(capsys: pytest.CaptureFixture[str]) -> None:
    assert failing(RuntimeError("the secret")) == 1
    shown = capsys.readouterr().err
    assert "RuntimeError" in shown
    assert "test_edge.py" in shown
    assert "the secret" not in shown


def test_what_the_system_refuses_is_named_with_its_path(capsys: pytest.CaptureFixture[str]) -> None:
    assert failing(NotADirectoryError(20, "Not a directory", "/etc/passwd/x")) == 1
    assert capsys.readouterr().err.startswith("percall: /etc/passwd/x: Not a directory. [system.refused]")


def test_what_the_outputs_encoding_does_not_have_is_spelt_out() -> None:
    program = "from percall import edge; edge.guarded('percall', lambda: print('zoë ⟨U+202E⟩') or 0)"
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={"PYTHONIOENCODING": "latin-1"},
        capture_output=True,
        check=True,
    )
    assert (done.stdout, done.stderr) == ("zoë \\u27e8U+202E\\u27e9\n".encode("latin-1"), b"")


@pytest.mark.parametrize(
    "command",
    [
        (b"percall", b"log", b"--server", b"\xdc"),
        (b"percall", b"run", b"--agent", b"\xdc", b"github"),
        (b"percall-broker", b"server", b"show", b"\xdc"),
        (b"percall-broker", b"log", b"list", b"--person=\xdc"),
    ],
)
def test_an_argument_that_is_not_utf_8_is_refused_before_anything_takes_it(command: tuple[bytes, ...]) -> None:
    done = subprocess.run([bytes(COMMANDS / command[0].decode()), *command[1:]], capture_output=True, check=False)
    number = next(number for number, argument in enumerate(command) if b"\xdc" in argument)
    assert (done.returncode, done.stdout) == (2, b"")
    assert f"Argument {number} holds a byte that is not UTF-8. [usage.text]" in done.stderr.decode()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="Linux has a device that is always full")
@pytest.mark.parametrize(
    "command", [("percall", "--help"), ("percall-broker", "--help"), ("percall-broker", "recipe", "list")]
)
def test_output_that_finds_its_disk_full_is_named_and_nothing_else_is_said(command: tuple[str, ...]) -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [str(COMMANDS / command[0]), *command[1:]], stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        f"{command[0]}: The output cannot be written: its disk is full. [system.refused]",
        "  Free some space, and run it again.",
    ]


@pytest.mark.parametrize("command", [("percall", "--help"), ("percall", "scan"), ("percall-broker", "recipe", "list")])
def test_output_that_nobody_reads_any_more_ends_a_command_as_it_ends_others(
    command: tuple[str, ...], tmp_path: Path
) -> None:
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        [str(COMMANDS / command[0]), *command[1:]],
        env={"HOME": str(tmp_path), "PATH": "/usr/bin:/bin"},
        stdout=write,
        stderr=subprocess.PIPE,
        check=False,
    )
    os.close(write)
    assert (done.returncode, done.stderr) == (141, b"")
