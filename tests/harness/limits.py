"""What the system allows this process, made less for a while: a disk that is full, files that are used up."""

from __future__ import annotations

import contextlib
import resource
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextlib.contextmanager
def limited(which: int, most: int) -> Iterator[None]:
    """At most so much of one of `resource.RLIMIT_…`."""
    soft, hard = resource.getrlimit(which)
    resource.setrlimit(which, (most, hard))
    try:
        yield
    finally:
        resource.setrlimit(which, (soft, hard))


def full_disk() -> contextlib.AbstractContextManager[None]:
    """No file of this process can be written."""
    return limited(resource.RLIMIT_FSIZE, 0)


def no_descriptor() -> contextlib.AbstractContextManager[None]:
    """This process gets no further descriptor.

    One, which is in use: with none at all, other threads' polling would be refused, too (poll(2), EINVAL).
    """
    return limited(resource.RLIMIT_NOFILE, 1)
