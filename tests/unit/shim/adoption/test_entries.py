"""An entry before and after, for a person to read: with nothing in it that might be a key."""

from __future__ import annotations

import json

from percall.adoption.entries import difference

SECRETS = ("detected-key", "an oauth secret", "undetected value", "hunter2", "a0b1", "of-the-query", "nested one")


def test_whatever_is_given_to_the_server_is_masked_but_for_plain_words() -> None:
    before = {
        "command": "npx",
        "args": ["-y", "server", "detected-key"],
        "env": {"KEY": "detected-key", "OTHER": "undetected value", "DEBUG": "true", "PORT": "8080", "REF": "${KEY}"},
        "headers": {"X-Anything": "hunter2"},
        "oauth": {"clientSecret": "an oauth secret", "more": ["nested one"]},
        "settings": {"token": "a0b1"},
        "url": "https://mcp.example/sse?k=of-the-query",
        "alwaysAllow": ["get_item"],
    }
    told = "\n".join(difference(before, {"command": "percall", "args": ["run", "x"]}, {"detected-key": "(key 1)"}))
    assert not [secret for secret in SECRETS if secret in told]
    for kept in ("(key 1)", '"true"', '"8080"', "${KEY}", "get_item", "https://mcp.example/sse?(query)", '"npx"'):
        assert kept in told


def test_values_that_are_the_same_before_and_after_stay() -> None:
    entry = {"env": {"PERCALL_HOME": "/home/a/percall"}}
    assert difference(entry, entry, {}) == [
        f"  {line}" for line in json.dumps(entry, indent=2).replace("/home/a/percall", "(value)").splitlines()
    ]
