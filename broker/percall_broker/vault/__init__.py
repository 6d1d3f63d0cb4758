"""Sealed secrets, and the keys that open them."""

from __future__ import annotations

from percall_broker.vault.sources import KeyFolder, KeySource, Sealed
from percall_broker.vault.vault import Vault

__all__ = ["KeyFolder", "KeySource", "Sealed", "Vault"]
