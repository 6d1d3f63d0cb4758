"""The alert rules speak of figures that there are, and do what they say, by Prometheus' own tool where it is here."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from percall_broker.telemetry.metrics import Metrics

ROOT = Path(__file__).parent.parent.parent
FOLDER = ROOT / "examples" / "alerts"
RULES = YAML(typ="safe").load((FOLDER / "percall.rules.yml").read_text())["groups"][0]["rules"]
NOT_OURS = {"up"}


def figures() -> set[str]:
    """The names of all samples that a broker may serve: a figure without labels yet has no sample, but a type."""
    kinds = re.findall(r"^# TYPE (\S+) (\S+)$", Metrics().text().decode(), re.MULTILINE)
    return {name for name, _ in kinds} | {f"{name}_bucket" for name, kind in kinds if kind == "histogram"}


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: str(rule["alert"]))
def test_a_rule_speaks_of_figures_that_there_are(rule: dict[str, str]) -> None:
    named = set(re.findall(r"\b(?:percall|process)_[a-z_]+\b|\bup\b", rule["expr"]))
    assert named
    assert named - figures() - NOT_OURS == set()


def test_the_how_to_explains_each_rule_and_no_other() -> None:
    told = re.findall(r"`(Percall[A-Z]\w+)`", (ROOT / "docs" / "how-to" / "alerts.md").read_text())
    assert set(told) == {rule["alert"] for rule in RULES}
    assert {rule["labels"]["severity"] for rule in RULES} == {"page", "ticket"}


@pytest.mark.skipif(shutil.which("promtool") is None, reason="needs promtool (Debian's package prometheus)")
def test_prometheus_own_tool_finds_the_rules_right() -> None:
    done = subprocess.run([FOLDER / "run.sh"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(RULES)} rules found" in done.stdout
