"""Clocks two hours apart: a sentence that names both, for login, status and run alike. Needs Debian's libfaketime."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from harness.processes import Laptop, UnusualBroker, keyed_entry
from harness.upstream import CANARY, Upstream

LIBRARY = next(iter(sorted(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"))), None)
MISSING = "no clock to set: apt-get install --no-install-recommends libfaketime"
pytestmark = pytest.mark.skipif(LIBRARY is None, reason=MISSING)


def off_by(hours: int) -> dict[str, str]:
    """The variables that set a process's clock."""
    return {"LD_PRELOAD": str(LIBRARY), "FAKETIME": f"{hours:+d}h", "FAKETIME_DONT_FAKE_MONOTONIC": "1"}


@pytest.mark.parametrize(("brokers", "laptops"), [(0, 2), (2, 0)])
def test_clocks_two_hours_apart_are_named_with_their_difference(
    upstream: Upstream, tmp_path: Path, person: str, brokers: int, laptops: int
) -> None:
    words = f"2 h {'ahead of' if laptops > brokers else 'behind'} the broker's"
    with UnusualBroker(tmp_path, extra=off_by(brokers)) as broker:
        broker.add_server("keyed", keyed_entry(upstream.url), CANARY)
        laptop = broker.enrol(person, "keyed", expires="1h")  # which the laptop's clock may call over
        laptop.extra = off_by(laptops)

        status = laptop.run("status", check=False)
        assert status.returncode == 6
        assert words in status.stdout
        doctor = laptop.run("doctor", "--no-start", check=False)
        assert doctor.returncode != 0
        assert "problem  clock" in doctor.stdout

        with laptop.client("keyed") as client:
            assert "result" in client.initialize()
            refused = client.call("get_item")
        assert refused["isError"] is True
        assert words in refused["content"][0]["text"]

        made = broker.administrator.administer("person", "invite", person, "--json")
        late = Laptop(tmp_path / "late", off_by(laptops))
        login = late.run(
            "login", broker.url, "--invite", json.loads(made.stdout)["invite"], "--keyring", "file", check=False
        )
        assert login.returncode == 6
        assert words in login.stderr

        laptop.extra = off_by(brokers)
        with laptop.client("keyed") as client:
            client.initialize()
            assert client.call_text("get_item").startswith("200 "), "once the clocks agree"
