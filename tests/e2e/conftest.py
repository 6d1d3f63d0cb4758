"""One broker and one upstream for a module; a person of its own for each test."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from harness.processes import Broker, keyed_entry
from harness.upstream import CANARY, Upstream

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="module")
def upstream() -> Iterator[Upstream]:
    with Upstream(CANARY) as running:
        yield running


@pytest.fixture(scope="module")
def broker(upstream: Upstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    with Broker(tmp_path_factory.mktemp("installation")) as running:
        running.add_server("keyed", keyed_entry(upstream.url), CANARY)
        yield running


@pytest.fixture
def person(request: pytest.FixtureRequest) -> str:
    """A name that no other test of the module uses."""
    return "p" + str(abs(hash(request.node.name)) % 10**8)
