"""Key-encryption keys and where they are: each source wraps and unwraps data keys, and none hands out its own key.

Whoever has both the store and its key-encryption key has every secret; whoever has one of them has none.
"""

from __future__ import annotations

from percall_broker.vault.sources.folder import KeyFolder
from percall_broker.vault.sources.protocol import KeySource, Sealed, Wrapped
from percall_broker.vault.sources.several import KeySources

__all__ = ["KeyFolder", "KeySource", "KeySources", "Sealed", "Wrapped"]
