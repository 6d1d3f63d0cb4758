"""The path of a call: `percall run`. One thread polls the client, the child and the broker; the child starts first.

Only the standard library here, and `nacl` and `h11` once the child runs.
"""

from __future__ import annotations

from percall.errors import PercallError


def main(server: str, agent: str | None, command: list[str] | None) -> int:
    """Run a server behind the gate until its client leaves. Returns the exit code.

    Raises PercallError when it cannot be started.
    """
    from percall.run import early  # noqa: PLC0415 - `percall --help` needs none of this

    child = early.start(server, agent, command)
    try:
        from percall.run.launch import Launch  # noqa: PLC0415 - beside the child's own start

        launch = Launch(server, agent, command)
        if child is None and launch.may_start:
            child = launch.start()
    except PercallError:
        if child is not None:
            child.release()
        raise
    from percall.run.shim import Shim  # noqa: PLC0415 - the same

    return Shim(launch, child).run()
