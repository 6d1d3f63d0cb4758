"""Files that commands read and write."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from percall.errors import UsageError
from percall_broker.cli.files import text_of, write_new

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


def test_what_can_be_neither_read_nor_written_is_told_with_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "latin").write_bytes(b"\xe4")
    for file, said in {"none": "cannot be read: No such file or directory.", "latin": "is no text in UTF-8."}.items():
        with pytest.raises(UsageError) as told:
            text_of(tmp_path / file)
        assert told.value.message.endswith(said)
        assert told.value.next_step
    with pytest.raises(UsageError, match="cannot be written: Not a directory") as told:
        write_new(tmp_path / "latin" / "rules", {"one.cedar": "1"})
    assert told.value.next_step
