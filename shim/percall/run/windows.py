"""The open windows, as the loop opens and closes them and the egress listener's threads read them."""

from __future__ import annotations

from _thread import allocate_lock

from percall.wire import Window


class Windows:
    """Open calls that an API request of the child may belong to, newest first. Safe to use from several threads."""

    def __init__(self) -> None:
        self._lock = allocate_lock()
        self._open: tuple[Window, ...] = ()

    def current(self) -> tuple[Window, ...]:
        """The windows that are open now."""
        return self._open

    def open(self, call: str, credential: str | None, traceparent: str | None = None) -> None:
        """A call has been permitted and goes to the child."""
        with self._lock:
            self._open = (Window(call, credential, traceparent), *self._open)

    def redeemed(self, call: str) -> None:
        """The call's credential has been used; the window stays open."""
        with self._lock:
            self._open = tuple(
                Window(call, None, window.traceparent) if window.call == call else window for window in self._open
            )

    def close(self, call: str) -> None:
        """The call has its answer, or nobody waits for one any more."""
        with self._lock:
            self._open = tuple(window for window in self._open if window.call != call)

    def close_all(self) -> None:
        """The grant has ended."""
        with self._lock:
            self._open = ()
