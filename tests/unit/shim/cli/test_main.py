"""How `percall` reads its command line."""

from __future__ import annotations

import subprocess
import sys

import pytest

from percall import __main__ as entry
from percall.errors import UsageError
from percall.identity.enrolment import broker_url


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["github"], ("github", None, None)),
        (["--agent", "claude", "github"], ("github", "claude", None)),
        (["--agent=claude", "github"], ("github", "claude", None)),
        (["github", "--agent", "claude"], ("github", "claude", None)),
        (["github", "--", "npx", "-y", "server"], ("github", None, ["npx", "-y", "server"])),
        (["github", "npx", "-y", "server", "--agent", "x"], ("github", None, ["npx", "-y", "server", "--agent", "x"])),
        (["github", "--", "--odd-program", "--"], ("github", None, ["--odd-program", "--"])),
    ],
)
def test_run_takes_a_server_an_agent_and_a_command_with_or_without_the_dashes(
    words: list[str], expected: tuple[str, str | None, list[str] | None]
) -> None:
    parsed = entry.parse_run(words)
    assert parsed is not None
    assert (parsed.server, parsed.agent, parsed.command) == expected


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["--agent"],
        ["--agent", "--", "x"],
        ["--agnet", "x", "github"],
        ["--", "npx"],
        ["github", "--"],
        ["--agent=", "x"],
    ],
)
def test_a_command_line_that_run_cannot_use_is_named(words: list[str]) -> None:
    with pytest.raises(UsageError, match="percall run --help"):
        entry.parse_run(words)


@pytest.mark.parametrize("words", [["--help"], ["-h"], ["github", "--help"], ["--agent", "x", "-h"]])
def test_run_asked_for_help_leaves_it_to_typer(words: list[str]) -> None:
    assert entry.parse_run(words) is None


def test_help_among_the_commands_own_words_is_the_commands() -> None:
    parsed = entry.parse_run(["github", "npx", "--help"])
    assert parsed is not None
    assert parsed.command == ["npx", "--help"]


def test_run_starts_without_the_command_lines_library() -> None:
    probe = (
        "import sys; sys.argv = ['percall', 'run', 'nothing']\n"
        "from percall.__main__ import main; code = main()\n"
        "heavy = {'typer', 'keyring', 'httpx', 'asyncio', 'cryptography', 'nacl', 'mcp'} & set(sys.modules)\n"
        "sys.exit(f'imported {heavy}' if heavy else code)"
    )
    done = subprocess.run(
        [sys.executable, "-c", probe], capture_output=True, text=True, check=False, env={"PERCALL_HOME": "/nonexistent"}
    )
    assert done.returncode == 2, done.stderr
    assert "percall login" in done.stderr
    assert done.stdout == ""


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("https://percall.example.com/", "https://percall.example.com"),
        ("HTTPS://Percall.Example.com:443", "https://percall.example.com"),
        ("https://example.com:8443/percall/", "https://example.com:8443/percall"),
        ("http://127.0.0.1:8000", "http://127.0.0.1:8000"),
        ("http://[::1]:8000/", "http://[::1]:8000"),
        ("http://localhost", "http://localhost"),
    ],
)
def test_a_brokers_url_is_kept_in_one_form(given: str, kept: str) -> None:
    assert broker_url(given) == kept


@pytest.mark.parametrize(
    ("given", "code"),
    [
        ("http://percall.example.com", "login.plain_http"),
        ("http://10.0.0.1", "login.plain_http"),
        ("http://localhost.example.com", "login.plain_http"),
        ("http://127.0.0.1.nip.io", "login.plain_http"),
        ("ftp://127.0.0.1", "login.url"),
        ("percall.example.com", "login.url"),
        ("https://", "login.url"),
        ("https://user:word@example.com", "login.url"),
        ("https://example.com/?q", "login.url"),
        ("https://example.com/#f", "login.url"),
        ("https://example.com:99999", "login.url"),
        ("https://exa mple.com", "login.url"),
        ("https://example.com\\@evil.com", "login.url"),
        ("", "login.url"),
    ],
)
def test_a_url_that_is_no_brokers_or_would_send_the_grant_in_the_clear_is_refused(given: str, code: str) -> None:
    with pytest.raises(UsageError) as caught:
        broker_url(given)
    assert caught.value.code == code
