"""This process's memory: kept from other processes of the same user, and not kept for each thread apart.

Where the system has no such switches (only Linux has them, and glibc), nothing happens. A new program, started by fork
and exec, is open again.
"""

from __future__ import annotations

import sys
from contextlib import suppress

_PR_SET_DUMPABLE = 4  # linux/prctl.h
_M_ARENA_MAX = -8  # malloc.h
_ARENAS = 2


def close() -> None:
    """No core dump, and nobody but root looks inside. Call before the first secret is here. Costs 2 ms: `ctypes`."""
    if sys.platform == "linux":
        with suppress(ImportError, OSError, AttributeError):  # a Python without ctypes, a libc without prctl
            import ctypes  # noqa: PLC0415 - not before it is needed

            ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)


def share() -> None:
    """From now on, threads keep what they free in common: by itself the allocator gives each one room of its own."""
    if sys.platform == "linux":
        with suppress(ImportError, OSError, AttributeError):  # a Python without ctypes, another libc
            import ctypes  # noqa: PLC0415 - not before it is needed

            ctypes.CDLL(None).mallopt(_M_ARENA_MAX, _ARENAS)
