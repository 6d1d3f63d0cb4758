from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

WITHOUT = """
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "pydantic_settings":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Absent())
from percall.broker_command import main
sys.argv = ["percall-broker", "init"]
sys.exit(main())
"""


def test_without_the_brokers_part_its_command_says_how_to_install_it(tmp_path: Path) -> None:
    folder = tmp_path / "broker"
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT],
        env={"PERCALL_BROKER_HOME": str(folder)},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 2
    assert "in a clone, `uv tool install '.[broker]'`, or `pipx install --force '.[broker]'`" in done.stderr
    assert "Traceback" not in done.stderr
    assert not folder.exists()
