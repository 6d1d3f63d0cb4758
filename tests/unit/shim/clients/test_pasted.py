"""The key itself, wherever it was pasted, and that there is none of its own in what holds more than a key."""

from __future__ import annotations

import pytest

from percall.clients.pasted import key_in
from percall.clients.servers import Secret

KEY = "ghp_" + "a1B2" * 9


@pytest.mark.parametrize(
    ("kind", "name", "value"),
    [
        ("env", "GITHUB_TOKEN", KEY),
        ("env", "GITHUB_TOKEN", f" {KEY} "),
        ("env", "AUTHORIZATION", f"Bearer {KEY}"),
        ("header", "Authorization", f"Bearer {KEY}"),
        ("header", "authorization", f"token  {KEY}"),
        ("header", "X-Api-Key", KEY),
        ("url", "", f"https://mcp.example.com/?key={KEY}&v=1"),
        ("args", "--api-key", KEY),
        ("args", "--api-key", f"--api-key={KEY}"),
        ("args", "--header", f"Authorization: Bearer {KEY}"),
        ("args", "--header", f"Authorization:{KEY}"),
    ],
)
def test_one_key_is_one_key_however_it_was_pasted(kind: str, name: str, value: str) -> None:
    assert key_in(Secret(kind, name, 0, value)) == KEY


@pytest.mark.parametrize(
    ("kind", "name", "value"),
    [
        ("header", "Authorization", "Basic dXNlcjpwYXNzd29yZA=="),
        ("url", "", f"https://mcp.example.com/?key={KEY}&token=other-{KEY}"),
        ("url", "", f"https://[{KEY}"),
        ("args", "", "postgres://app:hunter22@db.example.com/app"),
    ],
)
def test_what_holds_more_than_a_key_has_none_of_its_own(kind: str, name: str, value: str) -> None:
    assert key_in(Secret(kind, name, 0, value)) == ""


def test_a_variable_of_several_words_is_one_secret() -> None:
    assert key_in(Secret("env", "PASSWORD", -1, "correct horse battery")) == "correct horse battery"
