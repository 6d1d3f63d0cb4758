"""Moments as text: the same wherever the tests run."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from percall_broker.model import moments

if TYPE_CHECKING:
    from collections.abc import Iterator

MS = 1_795_428_005_050


@pytest.fixture(autouse=True)
def elsewhere(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A machine that is not in UTC."""
    monkeypatch.setenv("TZ", "Asia/Kolkata")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def test_a_moment_is_of_utc_in_each_of_its_forms() -> None:
    assert moments.stamp(MS / 1000) == "2026-11-23T10:00:05Z"
    assert moments.fine_stamp(MS) == "2026-11-23T10:00:05.050Z"
    assert moments.in_full(MS / 1000) == "2026-11-23 10:00:05 UTC"
    assert moments.to_the_minute(MS / 1000) == "2026-11-23 10:00"
