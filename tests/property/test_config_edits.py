"""Whatever a config file holds: an edit changes one value, and keeps every character of the rest."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from percall.clients import documents, jsonc
from percall.clients.catalogue import JSONC, TOML, YAML
from percall.errors import UsageError

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
scalars = st.none() | st.booleans() | st.integers(-(2**53), 2**53) | texts
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=4), max_leaves=8
)
objects = st.dictionaries(texts, values, min_size=1, max_size=5)
comments = st.sampled_from(["", " ", "\n", "// a remark\n", "/* two\nlines */", "\r\n\t"])


@st.composite
def documents_with_comments(draw: st.DrawFn) -> tuple[str, dict[str, Any]]:
    value = draw(objects)

    def write(node: Any) -> str:
        before, after = draw(comments), draw(comments)
        trailing = "," if draw(st.booleans()) else ""
        if isinstance(node, dict):
            members = [
                f"{draw(comments)}{json.dumps(name)}{draw(comments)}:{write(member)}" for name, member in node.items()
            ]
            return f"{before}{{{','.join(members)}{trailing if members else ''}{draw(comments)}}}{after}"
        if isinstance(node, list):
            return f"{before}[{','.join(map(write, node))}{trailing if node else ''}{draw(comments)}]{after}"
        return f"{before}{json.dumps(node)}{after}"

    return write(value), value


@given(documents_with_comments())
def test_comments_and_trailing_commas_change_nothing_of_what_is_read(document: tuple[str, dict[str, Any]]) -> None:
    text, value = document
    assert jsonc.parse(text).value == value


@given(documents_with_comments(), values, st.data())
def test_a_replaced_value_leaves_all_else_as_it_was(
    document: tuple[str, dict[str, Any]], value: Any, data: st.DataObject
) -> None:
    text, before = document
    name = data.draw(st.sampled_from(list(before)))
    node = jsonc.find(jsonc.parse(text), [name])
    assert node is not None
    edited = jsonc.replaced(text, [name], value)
    assert jsonc.parse(edited).value == {**before, name: value}
    assert edited.startswith(text[: node.start])
    assert edited.endswith(text[node.end :])


@given(documents_with_comments(), texts, values)
def test_an_inserted_member_is_there_and_the_others_are_too(
    document: tuple[str, dict[str, Any]], name: str, value: Any
) -> None:
    text, before = document
    assert jsonc.parse(jsonc.inserted(text, [name], value)).value == {**before, name: value}


def test_half_a_surrogate_pair_is_written_as_the_escape_that_it_was() -> None:
    text = '{"\\ud83d": "é", "args": ["\\ud83d"]}'
    value = jsonc.parse(text).value
    for edited in (jsonc.replaced(text, ["args"], value["args"]), jsonc.inserted("{}", ["\ud83d"], value)):
        assert "\\ud83d" in edited.encode().decode()
    assert jsonc.replaced(text, ["args"], value["args"]).count("é") == 1
    assert jsonc.parse(jsonc.inserted("{}", ["\ud83d"], value)).value == {"\ud83d": value}


@given(documents_with_comments(), st.data())
def test_a_removed_member_is_gone_and_the_others_are_not(
    document: tuple[str, dict[str, Any]], data: st.DataObject
) -> None:
    text, before = document
    name = data.draw(st.sampled_from(list(before)))
    assert jsonc.parse(jsonc.removed(text, [name])).value == {k: v for k, v in before.items() if k != name}


@given(st.text(max_size=60))
def test_any_text_is_a_document_or_a_clear_error(text: str) -> None:
    with suppress(UsageError):
        jsonc.parse(text)


@pytest.mark.parametrize(
    ("form", "text"),
    [
        (JSONC, '{\n  // mine\n  "servers": {\n    "a": {"command": "npx"} // first\n  }\n}\n'),
        (TOML, '# mine\nmodel = "x" # best\n\n[servers.a]\ncommand = "npx" # first\n'),
        (YAML, "# mine\nservers:\n  a:\n    command: npx # first\n"),
    ],
)
def test_every_form_keeps_its_comments_through_insert_replace_and_remove(form: str, text: str) -> None:
    more = documents.inserted(text, form, ["servers", "b"], {"command": "percall", "args": ["run", "b"]})
    assert documents.read(more, form)["servers"]["b"] == {"command": "percall", "args": ["run", "b"]}
    changed = documents.replaced(more, form, ["servers", "b"], {"command": "percall", "args": ["run", "c"]})
    assert documents.read(changed, form)["servers"]["b"]["args"] == ["run", "c"]
    back = documents.removed(changed, form, ["servers", "b"])
    assert documents.read(back, form) == documents.read(text, form)
    assert "mine" in back
    assert "first" in back


@pytest.mark.parametrize(
    ("form", "text"),
    [
        (TOML, 'model = "x" # best\n\n[servers.a]\ncommand = "npx"\n'),
        (YAML, "servers:\n  a:\n    command: npx # first\n"),
    ],
)
def test_a_mark_and_line_ends_stay_as_they_are(form: str, text: str) -> None:
    text = "\ufeff" + text.replace("\n", "\r\n")
    more = documents.inserted(text, form, ["servers", "b"], {"command": "percall", "args": ["run", "b"]})
    assert more.startswith("\ufeff")
    assert more.count("\n") == more.count("\r\n") > text.count("\n")
    assert documents.read(more, form)["servers"]["b"]["args"] == ["run", "b"]
    back = documents.removed(more, form, ["servers", "b"])
    assert documents.read(back, form) == documents.read(text, form)
    assert back.count("\n") == back.count("\r\n")


def test_an_edit_that_would_change_something_else_is_refused() -> None:
    text = 'mcp_servers.a.command = "npx"\nmcp_servers.a.args = ["-y"]\n'
    with pytest.raises(UsageError) as refused:
        documents.inserted(text, TOML, ["mcp_servers", "b"], {"command": "percall", "env": {"X": "1"}})
    assert refused.value.code == "config.shape"
    assert "by hand" in str(refused.value)
