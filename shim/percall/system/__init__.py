"""What differs between operating systems under `percall run`: polling, our own streams, children. One interface.

`posix` is what is tested; `windows` is written to the same interface, and its parts that are plain Python are tested
on POSIX, but it has never run on Windows. Chosen once, at import; on the path of a call nothing is added.
"""

from __future__ import annotations

import sys

if sys.platform == "win32":
    from percall.system.windows import (
        DEFAULT_PATH,
        ENDING,
        INHERITED,
        PIPE_BYTES,
        READ,
        WRITE,
        Poll,
        Process,
        close,
        find,
        forked,
        incoming,
        is_deaf,
        on_child_end,
        pipe,
        read,
        standard,
        unblocked,
        widen,
        write,
    )
else:
    from percall.system.posix import (
        DEFAULT_PATH,
        ENDING,
        INHERITED,
        PIPE_BYTES,
        READ,
        WRITE,
        Poll,
        Process,
        close,
        find,
        forked,
        incoming,
        is_deaf,
        on_child_end,
        pipe,
        read,
        standard,
        unblocked,
        widen,
        write,
    )

__all__ = [
    "DEFAULT_PATH",
    "ENDING",
    "INHERITED",
    "PIPE_BYTES",
    "READ",
    "WRITE",
    "Poll",
    "Process",
    "close",
    "find",
    "forked",
    "incoming",
    "is_deaf",
    "on_child_end",
    "pipe",
    "read",
    "standard",
    "unblocked",
    "widen",
    "write",
]
