"""The official conformance suite through Percall, beside the same suite straight to the same server."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from conformance import suite, ways
from conformance.run import lost

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.node, pytest.mark.timeout(300)]


@pytest.fixture(scope="module", params=suite.REVISIONS)
def direct(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, suite.Scenario]:
    folder = tmp_path_factory.mktemp("direct")
    with ways.direct(folder) as url:
        return suite.run(url, request.param, folder / "results")


def test_the_fixture_server_passes_every_required_scenario(direct: dict[str, suite.Scenario]) -> None:
    assert {one.name: one.failures for one in direct.values() if not one.unscored and not one.passes} == {}
    assert sum(not one.unscored for one in direct.values()) >= 30


def test_a_spawned_server_loses_no_required_scenario_of_the_stateless_revision(tmp_path: Path) -> None:
    with ways.direct(tmp_path) as url, ways.spawned(tmp_path) as through:
        columns = {
            "direct": suite.run(url, suite.REVISIONS[1], tmp_path / "direct"),
            "spawned": suite.run(through, suite.REVISIONS[1], tmp_path / "spawned"),
        }
    assert lost(columns, scored=True) == []
