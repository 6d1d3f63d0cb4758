"""The npm packages that recipes launch, at the versions that the recipes name."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING

from harness import npm
from harness.recipe_cases import NODE, filled

if TYPE_CHECKING:
    from pathlib import Path


def node_packages() -> Path:
    """The node_modules folder that has them all."""
    return npm.packages((filled(name).command[2] for name in NODE), "npm")


def program_of(name: str, packages: Path) -> list[str]:
    """How the installed package is started, with the recipe's own arguments: what npx would do."""
    command = filled(name).command
    package = packages / command[2].rpartition("@")[0]
    programs = json.loads((package / "package.json").read_text())["bin"]
    program = programs if isinstance(programs, str) else next(iter(programs.values()))
    return [shutil.which("node") or npm.NODE, str(package / program), *command[3:]]
