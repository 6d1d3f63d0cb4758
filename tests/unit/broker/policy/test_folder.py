"""Tests of policies say what failed, and a broken file is named."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

import pytest

from percall_broker.model.errors import InvalidInput
from percall_broker.policy import folder, read

if TYPE_CHECKING:
    from pathlib import Path

CASE = '[[test]]\nname = "reads"\nperson = "a"\nserver = "s"\ntool = "get_x"\nexpect = "{}"\n{}\n'


def results(path: Path, *cases: str) -> list[str]:
    (path / "a.cedar").write_text('@id("all") permit(principal, action, resource);')
    (path / "a.test.toml").write_text("".join(cases))
    return [one.wrong for one in folder.run(read(folder.read_files(path), 0), folder.read_cases(path))]


def test_a_case_holds_or_says_what_came_instead(tmp_path: Path) -> None:
    held, wrong, other = results(
        tmp_path, CASE.format("permit", ""), CASE.format("forbid", ""), CASE.format("permit", 'policy = "other"')
    )
    assert held == ""
    assert wrong.startswith("expected forbid, got permit")
    assert "'other'" in other


@pytest.mark.parametrize("at", ["2026-11-23T23:00:00", "2026-11-23T23:00:00Z", "2026-11-24T01:00:00+02:00"])
def test_a_time_without_a_zone_is_one_of_utc_wherever_the_tests_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: str
) -> None:
    (tmp_path / "a.cedar").write_text("permit(principal, action, resource) when { context.hour == 23 };")
    (tmp_path / "a.test.toml").write_text(CASE.format("permit", f"at = {at}"))
    monkeypatch.setenv("TZ", "America/New_York")
    time.tzset()
    try:
        (result,) = folder.run(read(folder.read_files(tmp_path), 0), folder.read_cases(tmp_path))
    finally:
        monkeypatch.delenv("TZ")
        time.tzset()
    assert result.wrong == ""


def test_a_case_that_is_misspelt_is_no_case(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput) as caught:
        results(tmp_path, CASE.format("permit", 'preson = "b"'))
    assert caught.value.code == "policy.test"
    assert "preson" in caught.value.message


def test_a_folder_that_is_none_is_told(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput) as caught:
        folder.read_files(tmp_path / "none")
    assert caught.value.code == "policy.folder"


def test_what_is_no_file_or_has_no_end_is_not_read(tmp_path: Path) -> None:
    """A folder that somebody else sent may hold anything."""
    for name in ("zero.cedar", "zero.test.toml"):
        (tmp_path / name).symlink_to("/dev/zero")
    os.mkfifo(tmp_path / "pipe.cedar")
    for reading in (folder.read_files, folder.read_cases):
        with pytest.raises(InvalidInput, match="is no file") as caught:
            reading(tmp_path)
        assert caught.value.code == "policy.folder"


def test_a_file_that_is_too_large_is_named(tmp_path: Path) -> None:
    with (tmp_path / "a.cedar").open("wb") as file:
        file.truncate(1024**3)
    with pytest.raises(InvalidInput, match=r"a\.cedar is too large"):
        folder.read_files(tmp_path)
