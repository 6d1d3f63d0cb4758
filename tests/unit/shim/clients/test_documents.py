"""Config files that anybody may have put into a repository: what is no such file is told, whatever it is."""

from __future__ import annotations

import pytest

from percall.clients import documents
from percall.clients.catalogue import JSONC, TOML, XML, YAML
from percall.errors import UsageError

_DEEP = 5_000
_MANY_OF_FEW = "a0: &a0 [x, x, x, x, x, x]\n" + "".join(
    f"a{level}: &a{level} [{', '.join([f'*a{level - 1}'] * 6)}]\n" for level in range(1, 12)
)


@pytest.mark.parametrize(
    ("form", "text"),
    [
        (JSONC, "[" * _DEEP + "]" * _DEEP),
        (JSONC, '{"a":' * _DEEP + "1" + "}" * _DEEP),
        (TOML, "a = " + "[" * _DEEP + "]" * _DEEP),
        (YAML, "[" * _DEEP + "]" * _DEEP),
        (YAML, "- " * _DEEP + "a"),
        (YAML, _MANY_OF_FEW),
        (XML, "<component name='McpProjectServerCommands'>" + "<a>" * _DEEP + "</a>" * _DEEP + "</component>"),
    ],
)
def test_what_nests_too_deep_or_grows_too_large_is_told(form: str, text: str) -> None:
    with pytest.raises(UsageError) as caught:
        documents.read(text, form)
    assert caught.value.code == "config.syntax"


@pytest.mark.parametrize(
    "text",
    [
        "a: 2001-13-40",
        "a: 2001-01-01T99:00:00",
        "args: [-_, b]",
        "a: " + "1" * 5000,
        "a: !!float x",
        "a: !!bool x",
        "? - : b",
        "a: !!set x",
    ],
)
def test_a_value_that_yaml_s_reader_cannot_make_is_told(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        documents.read(text, YAML)
    assert caught.value.code == "config.syntax"
