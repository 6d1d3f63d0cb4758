"""A config that is no file: nothing waits for a pipe that a repository brings, and no device is set going."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from percall.adoption import config_file
from percall.clients import servers
from percall.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = pytest.mark.skipif(os.name != "posix", reason="no such files there")


@pytest.mark.timeout(20)
@pytest.mark.parametrize("read", [config_file.read, servers.read_text])
def test_a_pipe_a_device_and_a_folder_are_no_config_files(read: Callable[[Path], object], tmp_path: Path) -> None:
    pipe, device, folder = tmp_path / "pipe.json", tmp_path / "device.json", tmp_path / "folder.json"
    os.mkfifo(pipe)
    device.symlink_to("/dev/zero")
    folder.mkdir()
    for path in (pipe, device, folder):
        with pytest.raises(UsageError) as refused:
            read(path)
        assert refused.value.code == "config.read"
