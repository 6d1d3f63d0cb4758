"""How a broker ends: what is under way may finish, and what has not is told so in words."""

from __future__ import annotations

import signal
import socket
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from harness.processes import keyed_entry
from harness.upstream import CANARY
from integration.conftest import Served
from percall import wire

if TYPE_CHECKING:
    from pathlib import Path


def test_a_request_that_has_not_finished_when_the_broker_ends_is_told_that_it_may_have_been_done(
    tmp_path: Path,
) -> None:
    with Served(tmp_path) as served, socket.create_server(("127.0.0.1", 0)) as silent, ThreadPoolExecutor(1) as pool:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        served.add_server("keyed", keyed_entry(url), CANARY)
        laptop, _ = served.enrol()
        call = laptop.call("keyed", "get_item")
        answer = pool.submit(laptop.request, "keyed", f"{url}/items/1", wire.Window(call["call"], call["credential"]))
        connection, _ = silent.accept()
        with connection:
            assert served.stop(signal.SIGHUP) == 0, "as when a terminal closes"
            assert answer.result(20).code == "request.cut"
            assert "may have got it" in answer.result().json["error"]["next_step"]
        assert not [line for line in served.stderr.text if b'"level": "error"' in line], "it is no fault"
