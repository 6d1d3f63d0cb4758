"""Placeholders: in the key's own form, and nothing else that a broker could want in an accepted variable."""

from __future__ import annotations

import re

import pytest

from percall import placeholder


def test_a_placeholder_has_the_key_s_form_and_is_another_each_time() -> None:
    made = {placeholder.make("pat{random:14}.{random:64}") for _ in range(20)}
    assert len(made) == 20
    assert all(re.fullmatch(r"pat[A-Za-z0-9]{14}\.[A-Za-z0-9]{64}", one) for one in made)


@pytest.mark.parametrize(
    "pattern",
    [
        "",
        "x",
        "{random:15}",
        "{random:9999}",
        "{random:900}" * 200,
        '{random:20}", "X-Other": "y',
        "{random:20}\nNODE_OPTIONS=--import=x",
        "{random:20} --eval",
        "{random:20}$(id)",
        "{random:20}\u00e9",
        "{random:20}{key}",
        "{random:20}{",
    ],
)
def test_what_is_no_plain_unguessed_text_is_refused(pattern: str) -> None:
    assert placeholder.objection(pattern)


def test_nothing_is_said_against_the_formats_of_keys() -> None:
    for pattern in ("ghp_{random:36}", "pat{random:14}.{random:64}", "{random:8}-{random:4}-{random:12}"):
        assert not placeholder.objection(pattern)
