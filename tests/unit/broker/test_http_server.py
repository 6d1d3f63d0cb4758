"""Which signals end a broker."""

from __future__ import annotations

import signal
from typing import Any

import pytest
import uvicorn

from percall_broker.http_server import Server

pytestmark = pytest.mark.anyio


@pytest.fixture(params=[False, True], ids=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, bool]]:
    return "asyncio", {"use_uvloop": request.param}


async def nothing(_scope: Any, _receive: Any, _send: Any) -> None:
    """What is never asked."""


async def test_a_broker_that_was_started_to_outlive_its_terminal_does() -> None:
    """As `nohup` starts it."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with Server(uvicorn.Config(nothing, log_config=None)).capture_signals():
            assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
            assert signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)
