"""A key source that takes its time: what happens meanwhile counts."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from harness.openbao import openbao
from harness.processes import keyed_entry, wait_for
from harness.remote import Remote, entry
from harness.upstream import CANARY, Upstream
from integration.conftest import Served
from integration.relaying import call, opened, refusal_code, settled
from percall import wire

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from harness.openbao import OpenBao


@pytest.fixture(scope="module")
def bao(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpenBao]:
    with openbao(tmp_path_factory.mktemp("openbao")) as running:
        running.make_key("percall")
        yield running


@pytest.fixture
def sealed(bao: OpenBao, tmp_path: Path) -> Iterator[Served]:
    """A broker that asks the source for every request's key."""
    settings = {"key_source": "transit", "transit_address": bao.url, "transit_token_file": str(bao.token)}
    with Served(tmp_path, settings=settings | {"data_keys_kept_seconds": "0"}) as served:
        yield served


def recorded(served: Served, call: str = "") -> str:
    return json.dumps(served.administrator.administer("GET", f"/v1/admin/calls/{call}".rstrip("/")))


def test_a_grant_that_is_revoked_meanwhile_gets_no_key_at_the_egress_door(
    sealed: Served, bao: OpenBao, upstream: Upstream
) -> None:
    sealed.add_server("keyed", keyed_entry(upstream.url), CANARY)
    laptop, grant = sealed.enrol()
    permitted = laptop.call("keyed", "get_item")
    window = wire.Window(permitted["call"], permitted["credential"])
    seen = len(upstream.seen)
    with ThreadPoolExecutor(1) as pool:
        with bao.stopped():
            asked = pool.submit(laptop.request, "keyed", f"{upstream.url}/items/1", window)
            wait_for(lambda: '"request"' in recorded(sealed, window.call), "the request is on record")
            sealed.change(grant, "revoke")
        answer = asked.result(30)
    assert (answer.status, answer.code) == (403, "grant.revoked")
    assert len(upstream.seen) == seen


def test_nor_does_it_at_a_remote_server_and_its_call_has_failed(sealed: Served, bao: OpenBao) -> None:
    with Remote() as remote, ThreadPoolExecutor(1) as pool:
        sealed.add_server("remote", entry(remote.url), CANARY)
        laptop, grant = sealed.enrol("remote")
        session = opened(laptop)
        remote.seen.clear()
        with bao.stopped():
            asked = pool.submit(laptop.relay, "remote", call("get_item"), session)
            wait_for(lambda: grant in recorded(sealed), "the call is on record")
            sealed.change(grant, "suspend")
        assert refusal_code(asked.result(30)) == "grant.suspended"
        assert remote.seen == []
        sealed.change(grant, "resume")
        settled(laptop, "failed")
