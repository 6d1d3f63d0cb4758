"""Sealed secrets, and the keys that open them."""

from __future__ import annotations

from percall_broker.vault.keys import KeyFolder
from percall_broker.vault.vault import Vault

__all__ = ["KeyFolder", "Vault"]
