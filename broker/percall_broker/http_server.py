"""The HTTP server that every application of a broker runs in: how it is set, and how a signal ends it."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from typing import TYPE_CHECKING, Any

import uvicorn

from percall_broker.listening import BACKLOG, protocol

if TYPE_CHECKING:
    import ssl
    from collections.abc import Iterator

    from percall_broker.asgi import Door
    from percall_broker.settings import Settings

KEEP_ALIVE_SECONDS = 300
GRACE_SECONDS = 4
"""How long what is under way may go on once the broker ends; then it is told so."""
_SHUTDOWN_SECONDS = GRACE_SECONDS + 1
_ENDING = [signal.Signals[name] for name in ("SIGTERM", "SIGINT", "SIGHUP") if name in signal.Signals.__members__]


def plain(application: Door, **more: Any) -> uvicorn.Config:
    """What both listeners' servers have in common: nothing that logs, names itself or believes a proxy."""
    return uvicorn.Config(
        application,
        loop="none",  # the loop runs already
        lifespan="off",
        interface="asgi3",
        ws="none",
        access_log=False,
        log_config=None,
        log_level="error",  # it would log each line that is no request, of whomever
        server_header=False,
        proxy_headers=False,
        **more,
    )


def config(application: Door, settings: Settings, tls: ssl.SSLContext | None) -> uvicorn.Config:
    """The settings of the one that laptops reach. TLS is our protocol's own, and nothing that uvicorn knows of."""
    return plain(
        application,
        http=protocol(settings, tls),
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=_SHUTDOWN_SECONDS,
        backlog=BACKLOG,
    )


class Server(uvicorn.Server):
    """Ends on a signal, and lets what is around it end too: with the store closed and exit code 0."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Ask it to end: SIGTERM, SIGINT and, where there is one, SIGHUP, as of a terminal that closes; but none that
        whoever started it has it ignore, as `nohup` does.
        """
        loop = asyncio.get_running_loop()
        ending = [number for number in _ENDING if signal.getsignal(number) is not signal.SIG_IGN]
        for number in ending:
            loop.add_signal_handler(number, self.handle_exit, number, None)
        try:
            yield
        finally:
            for number in ending:
                loop.remove_signal_handler(number)
