"""The log may not be written; whoever writes it goes on."""

from __future__ import annotations

import logging
import os
import sys
from typing import TYPE_CHECKING

import pytest
import structlog

from percall_broker.telemetry import logs

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def reader_that_left(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A stderr that nobody reads any more: every write to it fails."""
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "wb", buffering=0) as raw:
        before = logging.getLogger().handlers[:]
        monkeypatch.setattr(sys, "stderr", open(raw.fileno(), "w", closefd=False, encoding="utf-8"))  # noqa: SIM115
        with pytest.raises(BrokenPipeError):
            os.write(writing, b"x")
        yield
        logging.getLogger().handlers[:] = before
        logging.captureWarnings(capture=False)
        structlog.reset_defaults()


@pytest.mark.usefixtures("reader_that_left")
def test_a_line_that_cannot_be_written_fails_nobody() -> None:
    logs.configure()
    for _ in range(3):
        structlog.get_logger().warning("sweep failed", code="store.locked")
        logging.getLogger("library").warning("something")


def test_a_fault_is_placed_by_file_and_line_without_a_value() -> None:
    with pytest.raises(ValueError, match="secret") as caught:
        int("secret")
    assert logs.where(caught.value).startswith(f"{__file__}:")
