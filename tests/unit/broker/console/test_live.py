"""The stream of news: it says that a session has ended only where it has."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from fastapi.routing import APIRoute

from percall_broker.console.pages import live
from percall_broker.model.errors import BrokerError, Unauthenticated, Unavailable

pytestmark = pytest.mark.anyio


def pages(error: BrokerError) -> Any:
    """Of a broker whose sessions cannot be read any more once the stream has begun."""

    async def of(_token: str, _now: float, *, touch: bool) -> None:
        assert not touch
        raise error

    async def anybody(_request: object) -> Any:
        return SimpleNamespace(token_hash="t", person="ada")

    console = SimpleNamespace(sessions=SimpleNamespace(of=of))
    broker = SimpleNamespace(changes=SimpleNamespace(closed=False, generation=0), console=console)
    return SimpleNamespace(broker=broker, origin="http://localhost", anybody=anybody)


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (Unauthenticated("console.session", "You are not signed in."), [b"event: ended\ndata: \n\n"]),
        (Unavailable("store.slow", "The store did not answer in time."), []),
    ],
)
async def test_a_session_is_said_to_have_ended_only_where_it_has(error: BrokerError, told: list[bytes]) -> None:
    """Else a page would load anew, into an error, and what was typed there be lost."""
    (route,) = live.router(pages(error)).routes
    assert isinstance(route, APIRoute)
    request = SimpleNamespace(scope={"headers": []}, query_params={"since": "1.1.1"})
    assert [one async for one in (await route.endpoint(request)).body_iterator] == told
