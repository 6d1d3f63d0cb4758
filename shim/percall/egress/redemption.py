"""Which request of the child carries a call's credential: the first, and no other beside it.

A credential works once. Requests that come while the first is on its way wait for it, but not for long: it may be a
stream that takes its time, and the broker redeems before it forwards.
"""

from __future__ import annotations

import time
from threading import Condition
from typing import TYPE_CHECKING

from percall.wire import Window

if TYPE_CHECKING:
    from collections.abc import Callable

PATIENCE_SECONDS = 2.0
"""How long a request waits for another one of its call that redeems the credential."""


class Redemptions:
    """Hands each credential to one request at a time, until one has redeemed it."""

    def __init__(self, open_windows: Callable[[], tuple[Window, ...]], redeemed: Callable[[str], None]) -> None:
        self._open_windows = open_windows
        self._redeemed = redeemed
        self._on_its_way: set[str] = set()
        self._condition = Condition()

    def claim(self) -> tuple[Window, ...]:
        """The open windows for one request; those with a credential are this request's to redeem."""
        end = time.monotonic() + PATIENCE_SECONDS
        with self._condition:
            while True:
                windows = self._open_windows()
                waiting = any(window.credential and window.call in self._on_its_way for window in windows)
                left = end - time.monotonic()
                if not waiting or left <= 0:
                    break
                self._condition.wait(left)
            claimed = tuple(Window(w.call, None, w.traceparent) if w.call in self._on_its_way else w for w in windows)
            self._on_its_way.update(window.call for window in claimed if window.credential)
            return claimed

    def release(self, windows: tuple[Window, ...], *, redeemed: bool) -> None:
        """The request that claimed these windows was answered; unless redeemed, the next one may try."""
        calls = [window.call for window in windows if window.credential]
        if not calls:
            return
        with self._condition:
            for call in calls:
                if redeemed:
                    self._redeemed(call)
                self._on_its_way.discard(call)
            self._condition.notify_all()
