"""The command `percall-broker`, which every installation has: it says how to install the broker where it is missing.

The administrator's requests need no more than the laptop's part; `init`, `serve` and the other local commands do.
"""

from __future__ import annotations

import sys

from percall import edge, own_memory

_OURS = {"percall", "percall_broker"}


def main() -> int:
    """The command `percall-broker`."""
    return edge.guarded("percall-broker", _run)


def _run() -> int:
    """Runs the broker's command line, or says what to install."""
    own_memory.close()
    try:
        from percall_broker import cli  # noqa: PLC0415 - an extra that may not be there

        cli.main()
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing in _OURS and error.name != "percall_broker":
            raise
        sys.stderr.write(
            f"percall-broker: the broker's part is not installed (no {missing}). [broker.not_installed]\n"
            "  Install Percall with its extra `broker`: in a clone, `uv tool install '.[broker]'`, or "
            "`pipx install --force '.[broker]'`.\n"
        )
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
