"""This process's memory, kept from other processes of the same user: no core dump, and nobody but root looks inside.

Where the system has no such switch (only Linux has it), nothing happens. A new program, started by fork and exec, is
open again.
"""

from __future__ import annotations

import sys
from contextlib import suppress

_PR_SET_DUMPABLE = 4  # linux/prctl.h


def close() -> None:
    """Call before the first secret is here. Costs 2 ms, for `ctypes`."""
    if sys.platform == "linux":
        with suppress(ImportError, OSError, AttributeError):  # a Python without ctypes, a libc without prctl
            import ctypes  # noqa: PLC0415 - not before it is needed

            ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
