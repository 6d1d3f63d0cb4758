"""Where clients keep their configs, also where a variable has moved them."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

from percall.clients.catalogue import CLIENTS, backup_files, client, clients_of, project_files, user_files, user_place

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("name", "variable", "usual", "moved"),
    [
        ("claude-code", "CLAUDE_CONFIG_DIR", ".claude.json", ".claude.json"),
        ("codex", "CODEX_HOME", ".codex/config.toml", "config.toml"),
        ("opencode", "XDG_CONFIG_HOME", ".config/opencode/opencode.json", "opencode/opencode.json"),
        pytest.param(
            "zed", "XDG_CONFIG_HOME", ".config/zed/settings.json", "zed/settings.json",
            marks=pytest.mark.skipif(sys.platform != "linux", reason="Zed follows it on Linux alone"),
        ),
        pytest.param(
            "vscode", "XDG_CONFIG_HOME", ".config/Code/User/mcp.json", "Code/User/mcp.json",
            marks=pytest.mark.skipif(sys.platform != "linux", reason="VS Code follows it on Linux alone"),
        ),
    ],
)  # fmt: skip
def test_a_client_whose_folder_a_variable_moves_is_found_there(
    name: str, variable: str, usual: str, moved: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = client(name)
    assert one is not None
    for other in ("CLAUDE_CONFIG_DIR", "CODEX_HOME", "XDG_CONFIG_HOME"):
        monkeypatch.delenv(other, raising=False)
    assert user_place(one, tmp_path) == tmp_path / usual
    monkeypatch.setenv(variable, str(tmp_path / "elsewhere"))
    place = tmp_path / "elsewhere" / moved
    assert user_place(one, tmp_path) == place
    place.parent.mkdir(parents=True)
    place.write_text("")
    assert user_files(one, tmp_path) == [place]
    assert one in clients_of(f"dotfiles/{usual}"), "in a repository, by its usual name"


def test_the_backups_of_claude_code_are_found_where_its_folder_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = client("claude-code")
    assert one is not None
    for folder in (".claude", "elsewhere"):
        (tmp_path / folder / "backups").mkdir(parents=True)
        (tmp_path / folder / "backups" / ".claude.json.backup.1").write_text("")
    monkeypatch.delenv("CLAUDE_CONFIG_DIR", raising=False)
    assert backup_files(one, tmp_path) == [tmp_path / ".claude/backups/.claude.json.backup.1"]
    monkeypatch.setenv("CLAUDE_CONFIG_DIR", str(tmp_path / "elsewhere"))
    assert backup_files(one, tmp_path) == [tmp_path / "elsewhere/backups/.claude.json.backup.1"]


def test_a_project_whose_path_no_file_can_have_has_no_files(tmp_path: Path) -> None:
    for one in CLIENTS:
        for length in (300, 5000):
            assert project_files(one, tmp_path / ("x" * length)) == []
