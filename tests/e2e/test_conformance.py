"""The official conformance suite through Percall, beside the same suite straight to the same server."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from conformance import suite, ways
from conformance.run import lost

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.node, pytest.mark.timeout(300)]


@dataclass(frozen=True)
class Straight:
    """What the suite finds at the fixture server itself, for one revision."""

    revision: str
    found: dict[str, suite.Scenario]


@pytest.fixture(scope="module", params=suite.REVISIONS)
def direct(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Straight:
    folder = tmp_path_factory.mktemp("direct")
    with ways.direct(folder) as url:
        return Straight(request.param, suite.run(url, request.param, folder / "results"))


def test_the_fixture_server_passes_every_required_scenario(direct: Straight) -> None:
    assert {one.name: one.failures for one in direct.found.values() if not one.unscored and not one.passes} == {}
    assert sum(not one.unscored for one in direct.found.values()) >= 30


@pytest.mark.parametrize(
    ("direct", "way"),
    [
        (suite.REVISIONS[0], "bridged"),
        (suite.REVISIONS[0], "broker"),
        (suite.REVISIONS[1], "spawned"),
        (suite.REVISIONS[1], "bridged"),
        (suite.REVISIONS[1], "broker"),
    ],
    indirect=["direct"],
)
def test_no_required_scenario_is_lost_on_any_way_through_percall(direct: Straight, way: str, tmp_path: Path) -> None:
    with ways.ALL[way](tmp_path) as url:
        columns = {"direct": direct.found, way: suite.run(url, direct.revision, tmp_path / "results")}
    assert lost(columns, scored=True) == []
