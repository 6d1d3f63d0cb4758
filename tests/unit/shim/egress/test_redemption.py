"""One request at a time carries a call's credential, until one has redeemed it."""

from __future__ import annotations

import pytest

from percall.egress import redemption
from percall.egress.redemption import Redemptions
from percall.run.windows import Windows
from percall.wire import Window


@pytest.fixture
def windows() -> Windows:
    found = Windows()
    found.open("call-1", "a credential")
    return found


def test_a_credential_is_one_requests_alone_and_the_next_ones_once_that_has_failed(
    windows: Windows, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redemption, "PATIENCE_SECONDS", 0.01)
    redemptions = Redemptions(windows.current, windows.redeemed)
    first = redemptions.claim()
    assert first == (Window("call-1", "a credential"),)
    assert redemptions.claim() == (Window("call-1", None),), "the first one may be a stream that takes its time"
    redemptions.release(first, redeemed=False)
    second = redemptions.claim()
    assert second == first
    redemptions.release(second, redeemed=True)
    assert redemptions.claim() == windows.current() == (Window("call-1", None),)


def test_a_window_is_open_from_its_call_to_the_answer(windows: Windows) -> None:
    windows.open("call-2", None, "a span")
    assert windows.current() == (Window("call-2", None, "a span"), Window("call-1", "a credential"))
    windows.redeemed("call-1")
    assert windows.current() == (Window("call-2", None, "a span"), Window("call-1", None))
    windows.close("call-2")
    assert windows.current() == (Window("call-1", None),)
    windows.open("call-3", "another")
    windows.close_all()
    assert windows.current() == ()
