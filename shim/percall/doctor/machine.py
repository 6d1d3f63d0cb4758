"""This machine: the folder of Percall's files, the command on the PATH, and the certificates that children trust."""

from __future__ import annotations

import os
import shutil
import ssl
import stat
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from percall import __version__, home
from percall.clients import own_command
from percall.doctor.finding import ok, problem, warning
from percall.errors import LaunchError, PercallError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from percall import wire
    from percall.doctor.finding import Finding
    from percall.home import Login

_TRIED = "https://percall.invalid"


def findings(logins: Sequence[Login]) -> Iterator[Finding]:
    """What does not depend on a broker."""
    yield _folder()
    yield _command()
    if any("proxy" in granted.entry.ways for session in _sessions(logins) for granted in session.servers):
        yield _certificates()


def _folder() -> Finding:
    place = Path(home.folder())
    try:
        status = place.stat()
    except FileNotFoundError:
        return ok("files", str(place), "It is not there yet; the first login makes it.")
    except OSError as error:
        return problem("files", str(place), UsageError("home.read", f"It cannot be looked at: {error.strerror}."))
    if os.name == "posix" and status.st_uid != os.getuid():
        return problem("files", str(place), UsageError("home.owner", "It belongs to somebody else."))
    if os.name == "posix" and stat.S_IMODE(status.st_mode) & 0o077:
        return warning(
            "files",
            str(place),
            "Others on this machine may look into it.",
            f"Close it: chmod 700 {place}",
            code="home.open",
        )
    return ok("files", str(place), "It is yours alone.")


def _command() -> Finding:
    """Whether the name that projects' shared files use leads here."""
    found = shutil.which(own_command.NAME)
    if found is None:
        return warning(
            "command",
            own_command.NAME,
            "It is not on this terminal's PATH, so projects' shared files do not find it.",
            f"Add {Path(sys.argv[0]).absolute().parent} to your PATH.",
            code="command.missing",
        )
    try:
        done = subprocess.run(
            [found, "--version"], capture_output=True, text=True, timeout=30, check=False, stdin=subprocess.DEVNULL
        )
        said = done.stdout.strip()
    except (OSError, subprocess.TimeoutExpired):
        said = "nothing"
    if said != f"percall {__version__}":
        return warning(
            "command",
            found,
            f"It says {said or 'nothing'!r}, and this is percall {__version__}.",
            "Remove the older one, or put this one first on your PATH.",
            code="command.other",
        )
    return ok("command", found, f"It is percall {__version__}.")


def _certificates() -> Finding:
    """The way in `proxy`, tried: a child trusts an authority of its own run, and the listener speaks for a host."""
    from percall.egress.authority import Authority  # noqa: PLC0415 - only where a server needs it
    from percall.egress.origins import Listed  # noqa: PLC0415

    authority = None
    try:
        authority = Authority(Listed((_TRIED,)), os.environ)
        bundle = authority.environment()["SSL_CERT_FILE"]
        _shake_hands(authority.context(), ssl.create_default_context(cafile=bundle))
    except (OSError, PercallError) as error:
        reason = error if isinstance(error, PercallError) else f"they do not work ({error})."
        return problem(
            "certificates",
            "children",
            LaunchError("egress.certificates", f"The certificates for the way in 'proxy': {reason}"),
        )
    finally:
        if authority is not None:
            authority.close()
    return ok("certificates", "children", "An authority that one child trusts can be made, and works.")


def _shake_hands(ours: ssl.SSLContext, childs: ssl.SSLContext) -> None:
    """A TLS handshake in memory. Raises OSError."""
    one, two = ssl.MemoryBIO(), ssl.MemoryBIO()
    server = ours.wrap_bio(one, two, server_side=True)
    client = childs.wrap_bio(two, one, server_hostname=_TRIED.removeprefix("https://"))
    waiting = [client, server]
    for _ in range(10):
        for side in list(waiting):
            try:
                side.do_handshake()
                waiting.remove(side)
            except ssl.SSLWantReadError:
                continue
        if not waiting:
            return
    raise OSError("the handshake did not come to an end")


def _sessions(logins: Sequence[Login]) -> list[wire.Session]:
    found = []
    for login in logins:
        session = home.session(login.grant)
        if session is not None:
            found.append(session)
    return found
