"""Loads the named statements of `queries/*.sql`, once, in an engine's own way of writing parameters.

The SQL is the same for both engines but for `/*+ … */`: PostgreSQL reads what is inside, SQLite does not. What several
statements have in common is said once, as a part: `{as_decided}` stands for what follows `-- part: as_decided`.
A statement whose comment begins with `Long reading` may read much, so SQLite runs it away from the event loop.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from aiosql.query_loader import QueryLoader
from aiosql.utils import VAR_REF

if TYPE_CHECKING:
    from collections.abc import Mapping

QUERIES = Path(__file__).parent / "queries"
_PART = re.compile(r"^-- part: (\w+)\n(?:--[^\n]*\n)*(.*?)(?=^-- (?:part|name):|\Z)", re.DOTALL | re.MULTILINE)
_PLACE = re.compile(r"\{(\w+)\}")
_POSTGRESQL_ONLY = re.compile(r"/\*\+(.*?)\*/", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Query:
    """One statement, ready for its engine's driver."""

    name: str
    sql: str
    long: bool


class _SqliteDialect:
    """`:name` parameters are the driver's own."""

    def process_sql(self, _name: str, _operation: Any, sql: str) -> str:
        return _POSTGRESQL_ONLY.sub("", sql)


class _PostgresqlDialect:
    """`:name` becomes psycopg's `%(name)s`."""

    def process_sql(self, _name: str, _operation: Any, sql: str) -> str:
        opened = _POSTGRESQL_ONLY.sub(r"\1", sql).replace("%", "%%")
        return VAR_REF.sub(_to_pyformat, opened)


def _to_pyformat(match: re.Match[str]) -> str:
    name = match["var_name"]
    return match[0] if name is None else f"{match['lead']}%({name})s"


_DIALECTS = {"sqlite": _SqliteDialect, "postgresql": _PostgresqlDialect}


@cache
def load(dialect: str, *folders: Path) -> Mapping[str, Query]:
    """Every statement of `queries/` and of further folders, by name. `dialect`: sqlite or postgresql.

    Raises ValueError when two statements have one name.
    """
    adapter: Any = _DIALECTS[dialect]()  # only its `process_sql` is used: we run the statements ourselves
    loader = QueryLoader(adapter, None, mandatory_parameters=False)
    texts = {path: path.read_text(encoding="utf-8") for folder in (QUERIES, *folders) for path in folder.glob("*.sql")}
    parts = dict(pair for text in texts.values() for pair in _PART.findall(text))
    queries: dict[str, Query] = {}
    for path, text in sorted(texts.items()):
        whole = _PLACE.sub(lambda place: parts[place[1]].strip(), _PART.sub("", text))
        for datum in loader.load_query_data_from_sql(whole, [], path):
            name = datum.query_name
            if name in queries:
                raise ValueError(f"{path}: the statement {name} exists twice.")
            sql = datum.sql.rstrip().removesuffix(";")
            queries[name] = Query(name, sql, long=datum.doc_comments.startswith("Long reading"))
    return MappingProxyType(queries)
