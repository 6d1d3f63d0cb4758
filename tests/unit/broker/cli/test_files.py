"""Files that commands write."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from percall.errors import UsageError
from percall_broker.cli.files import write_new

if TYPE_CHECKING:
    from pathlib import Path


def test_files_are_written_into_a_new_folder_at_any_depth(tmp_path: Path) -> None:
    write_new(tmp_path / "a" / "rules", {"one.cedar": "1", "team/two.cedar": "ä"})
    assert (tmp_path / "a" / "rules" / "team" / "two.cedar").read_text(encoding="utf-8") == "ä"
    with pytest.raises(UsageError, match="is there already"):
        write_new(tmp_path / "a" / "rules", {"one.cedar": "2"})
    assert (tmp_path / "a" / "rules" / "one.cedar").read_text() == "1"


@pytest.mark.parametrize("name", ["../one.cedar", "/tmp/one.cedar", "a/../../one.cedar", "one\0.cedar"])
def test_a_broker_does_not_say_what_else_is_written(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match="Nothing was written"):
        write_new(tmp_path / "rules", {"fine.cedar": "", name: ""})
    assert list(tmp_path.iterdir()) == []
