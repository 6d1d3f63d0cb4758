"""Backups: a store in one file that says whether it is whole, and a store made from such a file."""

from __future__ import annotations

from percall_broker.backup.archive import Archive, Header
from percall_broker.backup.create import create
from percall_broker.backup.restore import Restored, authentic, restore

__all__ = ["Archive", "Header", "Restored", "authentic", "create", "restore"]
