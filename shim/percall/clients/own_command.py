"""The command that stands for a server in a client's config: `percall run`, and where that is.

In a user's own file it is the path that an upgrade keeps; in a file that a project shares, the bare name.
"""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from percall import home
from percall.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from percall.home import Found

NAME = "percall"


def run(found: Found, more: Sequence[str] = (), *, shared: bool) -> tuple[str, ...]:
    """What runs a granted server; `more` is a command in the place of the entry's. Raises UsageError."""
    agent = () if found.login.agent == home.DEFAULT_AGENT else ("--agent", found.login.agent)
    return (NAME if shared else path(), "run", *agent, found.granted.entry.name, *more)


def path() -> str:
    """Where this command is, by the path that an upgrade keeps. Raises UsageError."""
    ours = Path(sys.argv[0])
    found = shutil.which(NAME)
    if found and (not ours.exists() or Path(found).samefile(ours)):
        return found  # as the PATH has it: a link there is what an upgrade keeps
    if ours.is_file():
        return str(ours.absolute())
    raise UsageError(
        "command.missing", f"The command `{NAME}` is not on this terminal's PATH.", "Add it, then try again."
    )


def environment(*, shared: bool) -> dict[str, str]:
    """Clients start `run` with little of this environment, so a home of its own goes into a user's file."""
    named = os.environ.get(home.VARIABLE, "")
    return {home.VARIABLE: str(Path(named).absolute())} if named and not shared else {}
