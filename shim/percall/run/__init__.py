"""The path of a call: `percall run`. One thread polls the client, the server and the broker; a child starts first, or
for a remote server the helper that reads the keyring.

Only the standard library here, and `nacl` and `h11` once the child runs.
"""

from __future__ import annotations

from percall.errors import PercallError, UsageError, word

TYPE_CHECKING = False  # `typing` itself costs 10 ms of each start
if TYPE_CHECKING:
    from percall.home import Found
    from percall.run.child import Child
    from percall.system.posix import Fork

_IDENTITY_SECONDS = 0.15
"""How long a child's start is left alone before the helper that reads the keyring is started beside it."""


def main(server: str, agent: str | None, command: list[str] | None) -> int:
    """Run a server behind the gate until its client leaves. Returns the exit code.

    Raises PercallError when it cannot be started.
    """
    from percall.run import early  # noqa: PLC0415 - `percall --help` needs none of this

    started = early.start(server, agent, command)
    try:
        from percall import home  # noqa: PLC0415 - beside the child's own start

        found = home.find_server(server, agent)
        if found.granted.entry.delivery == "relay":
            return _bridge(found, command, started.reader_of(found.login.grant))
        return _spawn(found, command, started.child)
    except PercallError:
        started.undo()
        raise


def _spawn(found: Found, command: list[str] | None, child: Child | None) -> int:
    from percall.run.launch import Launch  # noqa: PLC0415 - the same

    launch = Launch(found, command)
    try:
        launch.prepare()
        if child is None and launch.may_start:
            child = launch.start()
    except PercallError:
        launch.close()
        raise
    from percall.http1 import Address  # noqa: PLC0415 - the same
    from percall.run.broker import Signer  # noqa: PLC0415 - the same
    from percall.run.shim import Shim  # noqa: PLC0415 - the same
    from percall.run.spawned import Spawned  # noqa: PLC0415 - the same

    signer = launch.egress.signer if launch.egress else Signer(Address.parse(found.login.broker, found.login.proxy))
    shim = Shim(found, signer)
    return shim.run(Spawned(shim, launch, child), _IDENTITY_SECONDS)


def _bridge(found: Found, command: list[str] | None, reader: Fork | None) -> int:
    if command:
        raise UsageError(
            "run.remote",
            f"Server {found.granted.entry.name!r} is a remote one: there is no command to replace.",
            f"Leave it out: percall run {word(found.granted.entry.name)}",
        )
    from percall.http1 import Address  # noqa: PLC0415 - only where it is needed
    from percall.run.bridge import Bridge  # noqa: PLC0415 - the same
    from percall.run.broker import Signer  # noqa: PLC0415 - the same
    from percall.run.shim import Shim  # noqa: PLC0415 - the same

    shim = Shim(found, Signer(Address.parse(found.login.broker, found.login.proxy)), reader)
    return shim.run(Bridge(shim, found), 0.0)
