"""The log may not be written; whoever writes it goes on."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from percall_broker.telemetry import logs

_LOGS = """
import logging
import structlog
from percall_broker.telemetry import logs
logs.configure()
for _ in range(3):
    structlog.get_logger().warning("sweep failed", code="store.locked")
    logging.getLogger("library").warning("something")
print("went on")
"""


def test_a_line_that_cannot_be_written_fails_nobody() -> None:
    reading, writing = os.pipe()
    os.close(reading)  # nobody reads any more: every write fails
    try:
        done = subprocess.run([sys.executable, "-c", _LOGS], stdout=subprocess.PIPE, stderr=writing, check=False)
    finally:
        os.close(writing)
    assert done.stdout == b"went on\n"


def test_a_fault_is_placed_by_file_and_line_without_a_value() -> None:
    with pytest.raises(ValueError, match="secret") as caught:
        int("secret")
    assert logs.where(caught.value).startswith(f"{__file__}:")
