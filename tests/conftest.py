"""What tests of more than one kind use."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from harness import database

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def anyio_backend() -> str:
    """What runs tests that are coroutines: the broker knows no other."""
    return "asyncio"


@pytest.fixture(scope="session")
def postgresql() -> Iterator[str]:
    """The URL of a server that lives as long as the tests."""
    with database.postgresql() as url:
        yield url
