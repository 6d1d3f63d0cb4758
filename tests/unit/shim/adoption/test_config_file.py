"""A config is replaced whole, and nothing of an edit that was killed stays beside it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from percall.adoption import config_file

if TYPE_CHECKING:
    from pathlib import Path


def test_what_a_killed_edit_left_goes_with_the_next_one_and_nothing_else_does(tmp_path: Path) -> None:
    path = tmp_path / "mcp.json"
    path.write_text("{}")
    left, under_way = tmp_path / ".mcp.json.percall-a1b2c3d4", tmp_path / ".mcp.json.percall-e5f6a7b8"
    others = [tmp_path / ".mcp.json.original", tmp_path / ".mcp.json.bak", tmp_path / "mcp.json.percall-a1b2c3d4"]
    for file in (left, under_way, *others):
        file.write_text("a pasted key")
        if file is not under_way:
            os.utime(file, (1, 1))
    config_file.read(path).replaced_by('{"a": 1}')
    assert path.read_text() == '{"a": 1}'
    assert set(tmp_path.iterdir()) == {path, under_way, *others}


def test_what_is_no_file_of_an_edits_stays_and_holds_up_none(tmp_path: Path) -> None:
    path, secret = tmp_path / "mcp.json", tmp_path / "elsewhere"
    path.write_text("{}")
    secret.write_text("somebody's")
    folder, link = tmp_path / ".mcp.json.percall-folder", tmp_path / ".mcp.json.percall-link"
    folder.mkdir()
    link.symlink_to(secret)
    for one in (folder, link):
        os.utime(one, (1, 1), follow_symlinks=False)
    config_file.read(path).replaced_by('{"a": 1}')
    assert path.read_text() == '{"a": 1}'
    assert set(tmp_path.iterdir()) == {path, secret, folder, link}
