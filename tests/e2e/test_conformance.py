"""The official conformance suite through Percall, beside the same suite straight to the same server."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

import pytest

from conformance import suite, ways
from conformance.run import lost

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = [pytest.mark.node, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def direct(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], dict[str, suite.Scenario]]:
    """What the suite finds at the fixture server itself, for a revision: run once for all that compare with it."""

    @functools.cache
    def found(revision: str) -> dict[str, suite.Scenario]:
        folder = tmp_path_factory.mktemp("direct")
        with ways.direct(folder) as url:
            return suite.run(url, revision, folder / "results")

    return found


@pytest.mark.parametrize("revision", suite.REVISIONS)
def test_the_fixture_server_passes_every_required_scenario(
    direct: Callable[[str], dict[str, suite.Scenario]], revision: str
) -> None:
    found = direct(revision)
    assert {one.name: one.failures for one in found.values() if not one.unscored and not one.passes} == {}
    assert sum(not one.unscored for one in found.values()) >= 30


@pytest.mark.parametrize(
    ("revision", "way"),
    [
        (suite.REVISIONS[0], "bridged"),
        (suite.REVISIONS[0], "broker"),
        (suite.REVISIONS[1], "spawned"),
        (suite.REVISIONS[1], "bridged"),
        (suite.REVISIONS[1], "broker"),
    ],
)
def test_no_required_scenario_is_lost_on_any_way_through_percall(
    direct: Callable[[str], dict[str, suite.Scenario]], revision: str, way: str, tmp_path: Path
) -> None:
    with ways.ALL[way](tmp_path) as url:
        columns = {"direct": direct(revision), way: suite.run(url, revision, tmp_path / "results")}
    assert lost(columns, scored=True) == []
