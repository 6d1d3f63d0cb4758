"""What is taken for a pasted secret, and what is not."""

from __future__ import annotations

import time

import pytest

from percall.clients.literal_secrets import (
    is_secret,
    is_secret_header,
    is_secret_url,
    may_be_shown,
    places_in_arguments,
)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("GITHUB_PERSONAL_ACCESS_TOKEN", "ghp_" + "a1B2" * 9),
        ("ANYTHING", "sk-ant-" + "a1B2" * 9),
        ("NOTION_TOKEN", "ntn_" + "1a" * 20),
        ("API_KEY", "correct horse battery"),
        ("apiKey", "0123456789abcdef"),
        ("DATABASE_URL", "postgres://app:hunter22@db.example.com/app"),
        ("ENDPOINT", "https://api.example.com/v1?api_key=0123456789abcdef"),
        ("SOMETHING", "9f86d081884c7d659a2feaa0c55ad015"),
        ("JIRA_API_TOKEN", "ATATT3xFfGF0" + "a1B2" * 9),
        ("GRAFANA_API_KEY", "Q7kZmy3rT9xVb2Lw8NcD5sGh"),
        ("GRAFANA_API_KEY", "x8KyourT9b2Lw8NcD5sGhQ7kZ1pR4txxx"),
        ("DB_PASSWORD", "S3cr$tPass9word"),
        ("DATABASE_URL", "postgres://app:pw$x9q@db.example.com/app"),
    ],
)
def test_a_pasted_key_is_one(name: str, value: str) -> None:
    assert is_secret(name, value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("GITHUB_TOKEN", "${GITHUB_TOKEN}"),
        ("GITHUB_TOKEN", "${GITHUB_TOKEN:-none}"),
        ("GITHUB_TOKEN", "${input:token}"),
        ("GITHUB_TOKEN", "{env:GITHUB_TOKEN}"),
        ("GITHUB_TOKEN", "$GITHUB_TOKEN"),
        ("AUTHORIZATION", "Bearer $GITHUB_TOKEN"),
        ("DATABASE_URL", "postgres://$DB_USER:$DB_PASSWORD@db.example.com:5432/app?sslmode=$MODE"),
        ("API_KEY", "my-api-key-goes-here"),
        ("GITHUB_TOKEN", "%GITHUB_TOKEN%"),
        ("GITHUB_TOKEN", "<your token here>"),
        ("API_KEY", "YOUR_API_KEY"),
        ("API_KEY", ""),
        ("API_KEY_FILE", "/etc/keys/github"),
        ("API_URL", "https://api.example.com/v1"),
        ("DATABASE_URL", "postgres://localhost/app"),
        ("LOG_LEVEL", "debug-with-everything"),
        ("CLIENT_ID", "app-client-4711"),
        ("TOKEN_LIMIT", "100000000"),
        ("PATH", "/usr/local/bin:/usr/bin:/bin"),
        ("HOME", "/home/somebody/with/a/long/path"),
    ],
)
def test_a_reference_a_placeholder_or_a_plain_setting_is_none(name: str, value: str) -> None:
    assert not is_secret(name, value)


@pytest.mark.parametrize(
    ("arguments", "found"),
    [
        (["-y", "server", "--api-key", "0123456789abcdef"], [(3, "--api-key")]),
        (["server", "--api-key=0123456789abcdef"], [(1, "--api-key")]),
        (["server", "API_KEY=0123456789abcdef"], [(1, "API_KEY")]),
        (["mcp-remote", "https://x.example", "--header", "Authorization: Bearer abcdefgh12345678"], [(3, "--header")]),
        (["mcp-remote", "https://x.example", "--header", "Authorization:${AUTH}"], []),
        (["server", "postgres://app:hunter22@db/app"], [(1, "")]),
        (["server", "--port", "8080", "--name", "my-long-server-name"], []),
        (["-y", "@modelcontextprotocol/server-filesystem", "/home/somebody/Documents"], []),
    ],
)
def test_arguments_are_read_with_their_flags(arguments: list[str], found: list[tuple[int, str]]) -> None:
    assert places_in_arguments(arguments) == found


def test_headers_and_urls_carry_secrets_too() -> None:
    assert is_secret_header("Authorization", "Bearer abcdefgh12345678")
    assert is_secret_header("X-Api-Key", "abcdefgh12345678")
    assert not is_secret_header("Authorization", "Bearer ${TOKEN}")
    assert not is_secret_header("Content-Type", "application/json")
    assert is_secret_url("https://u:abcdefgh@api.example.com/mcp")
    assert is_secret_url("https://mcp.example.com/s/a1B2c3D4e5F6g7H8i9J0k1L2m3/mcp")
    assert not is_secret_url("https://mcp.linear.app/mcp")
    assert not is_secret_url("https://mcp.example.com/?key=${KEY}")


_OPENINGS = (
    "${",
    "{env:",
    "{file:",
    "$(",
    "<",
    "{{",
    "{",
    "%a",
    "$a ",
    "$(a{{",
    "eyJ",
    "pat",
    "-----BEGIN ",
    "_expir",
    "SG.",
)


@pytest.mark.parametrize("opening", _OPENINGS)
def test_a_long_value_is_looked_at_in_no_time_whatever_opens_and_never_closes_in_it(opening: str) -> None:
    """A project's config is anybody's, and this runs in the midst of an edit, or of a scan of many."""
    value = opening * (200_000 // len(opening))
    began = time.process_time()
    is_secret("API_KEY", value)
    is_secret(value, "abcdefgh12345678")
    may_be_shown(value)
    places_in_arguments([value, "--api-key", value])
    is_secret_url(value)
    assert time.process_time() - began < 2


@pytest.mark.parametrize(
    "reference", ["${A:-${B}}", "$(op read $(cat name))", "$(op read 'a (b) c')", "a{{ x }} and {{ y }}"]
)
def test_a_reference_within_a_reference_is_one(reference: str) -> None:
    assert not is_secret("API_KEY", reference)


@pytest.mark.parametrize(
    "where", ["{reference} {filler} {key}", "{key} {filler} {reference}", "{filler}{reference}{key}"]
)
def test_a_reference_hides_no_key_wherever_both_stand_in_a_long_value(where: str) -> None:
    value = where.format(reference="${TOKEN}", filler="with words " * 1000, key="ghp_" + "a1B2" * 9)
    assert is_secret("ANYTHING", value)
