"""The bill of materials names what an installation brings, in the versions that are tested, and nothing else."""

from __future__ import annotations

import json
import re
import subprocess
import tomllib
from pathlib import Path

import pytest

from percall import __version__

ROOT = Path(__file__).parent.parent.parent


def plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


@pytest.mark.timeout(300)
def test_the_bill_of_materials_is_valid_and_names_the_locked_versions() -> None:
    from cyclonedx.schema import SchemaVersion  # noqa: PLC0415 - seconds, for each worker that only collects this
    from cyclonedx.validation.json import JsonStrictValidator  # noqa: PLC0415

    # As for an environment that is ready: it is the one that runs this.
    done = subprocess.run(
        ["make", "-s", "-o", ".venv/.ready", "sbom"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    text = (ROOT / "dist" / "percall.cdx.json").read_text()
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    bill = json.loads(text)
    root = bill["metadata"]["component"]
    assert (root["name"], root["version"]) == ("percall", __version__)
    found = {plain(one["name"]): one["version"] for one in bill["components"]}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    wanted = list(project["project"]["dependencies"])
    for extra in project["project"]["optional-dependencies"].values():
        wanted += extra
    names = {plain(re.split(r"[\[<>=~ ]", one)[0]) for one in wanted}
    assert names - set(found) == set()
    lock = (ROOT / "requirements" / "dev.txt").read_text()
    locked = dict(re.findall(r"^([A-Za-z0-9._-]+)==([^ ;]+)", lock, re.MULTILINE))
    assert {name: version for name, version in found.items() if locked[name] != version} == {}
    assert {"pytest", "ruff", "mypy"} & set(found) == set()
    assert str(ROOT) not in text
