"""What a person types without seeing it: keys and passphrases."""

from __future__ import annotations

import getpass
import sys


def hidden(question: str) -> str:
    """One line. Raises KeyboardInterrupt where they stop instead (Ctrl-C, Ctrl-D), on a line of its own."""
    try:
        return getpass.getpass(question)  # turns the echo off before it asks
    except (KeyboardInterrupt, EOFError):
        sys.stderr.write("\n")
        raise KeyboardInterrupt from None
