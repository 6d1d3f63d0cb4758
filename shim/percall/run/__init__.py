"""The path of a call: `percall run`. One thread polls the client, the child and the broker; the child starts first.

Only the standard library here, and `nacl` and `h11` once the child runs.
"""

from __future__ import annotations

import os

from percall.errors import PercallError


def main(server: str, agent: str | None, command: list[str] | None) -> int:
    """Run a server behind the gate until its client leaves. Returns the exit code; says on stderr what went wrong."""
    from percall.run import early  # noqa: PLC0415 - `percall --help` needs none of this

    child = early.start(server, agent, command)
    try:
        from percall.run.launch import Launch  # noqa: PLC0415 - beside the child's own start

        launch = Launch(server, agent, command)
        if child is None and launch.may_start:
            child = launch.start()
    except PercallError as error:
        if child is not None:
            child.release()
        os.write(2, f"percall: {error} [{error.code}]\n".encode(errors="replace"))
        return error.exit_code
    from percall.run.shim import Shim  # noqa: PLC0415 - the same

    return Shim(launch, child).run()
