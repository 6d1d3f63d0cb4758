"""Two engines, one SQL: `open_store` and `migrate` take a PostgreSQL URL or the path of a file."""

from __future__ import annotations

from percall_broker.store.opening import check_schema, check_unserved, make, migrate, open_store, pending
from percall_broker.store.protocol import Row, Statement, Store

__all__ = ["Row", "Statement", "Store", "check_schema", "check_unserved", "make", "migrate", "open_store", "pending"]
