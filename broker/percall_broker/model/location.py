"""Where a store is: a PostgreSQL database's URL, or the path of a file, which is SQLite's."""

from __future__ import annotations

_POSTGRESQL = ("postgresql://", "postgres://")


def is_postgresql(location: str) -> bool:
    """Whether a location names a PostgreSQL database rather than a file."""
    return location.startswith(_POSTGRESQL)


def engine_at(location: str) -> str:
    """`postgresql` or `sqlite`."""
    return "postgresql" if is_postgresql(location) else "sqlite"
