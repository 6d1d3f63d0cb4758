"""The migrations that this version knows, and what it says of a store that has others."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from percall_broker.model.errors import Unavailable

if TYPE_CHECKING:
    from collections.abc import Iterable

MIGRATIONS = Path(__file__).parent / "migrations"


@dataclass(frozen=True, slots=True)
class Migration:
    """One numbered script, with the engines' own words still to be put in."""

    number: int
    path: Path

    @property
    def name(self) -> str:
        """Its number and name, as the store keeps it."""
        return self.path.stem

    def statements(self, words: dict[str, str]) -> list[str]:
        """Its statements, in an engine's words."""
        # Comments speak of the words too, and a comment may hold a semicolon.
        script = re.sub(r"--.*$", "", self.path.read_text(encoding="utf-8"), flags=re.MULTILINE)
        for word, meaning in words.items():
            script = script.replace(word, meaning)
        return [statement for statement in script.split(";") if statement.strip()]


def known() -> list[Migration]:
    """All of them, in their order."""
    return [Migration(int(path.name[:4]), path) for path in sorted(MIGRATIONS.glob("[0-9][0-9][0-9][0-9]_*.sql"))]


def missing(applied: Iterable[int]) -> list[Migration]:
    """What a store still lacks. Raises Unavailable for a store that a newer version has written."""
    applied = set(applied)
    if unknown := applied - {migration.number for migration in known()}:
        raise newer(unknown)
    return [migration for migration in known() if migration.number not in applied]


def newer(unknown: Iterable[int]) -> Unavailable:
    """What is said of a store or a backup with migrations that this version has not heard of."""
    numbers = ", ".join(f"{number:04}" for number in sorted(unknown))
    return Unavailable(
        "store.newer",
        f"A newer version of the broker has written this: it has the migrations {numbers}.",
        "Install that version, or restore the backup made before the upgrade.",
    )
