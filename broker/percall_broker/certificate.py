"""The listener's own certificate, read anew when its files change: a renewal needs no restart."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from typing import TYPE_CHECKING

import structlog

if TYPE_CHECKING:
    from pathlib import Path

LOOK_SECONDS = 60.0

log = structlog.get_logger()


class Certificate:
    """What a TLS context shows on connections from now on. `certificate` and `key` are its PEM files."""

    def __init__(self, context: ssl.SSLContext, certificate: Path, key: Path) -> None:
        self._context = context
        self._files = (certificate, key)
        self._seen = self._state()

    async def keep(self) -> None:
        """Looks at the files from time to time, for the life of the broker."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            self.look()

    def look(self) -> None:
        """Reads the files if they are others than they were. The old certificate stays where they do not fit."""
        if (state := self._state()) == self._seen:
            return
        self._seen = state
        try:
            # First where nothing depends on it: of files that do not fit, a context would keep half. And an encrypted
            # key would be asked for at a terminal.
            for context in (ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), self._context):
                context.load_cert_chain(*self._files, password="")
        except OSError as error:
            reason = getattr(error, "reason", None) or error.strerror or type(error).__name__
            log.warning("the new certificate is not used", file=str(self._files[0]), reason=reason)
        else:
            log.info("the new certificate is used", file=str(self._files[0]))

    def _state(self) -> list[tuple[int, int, int]]:
        """What tells one file from another that has come in its place; of one that is not there, nothing."""
        found = []
        for file in self._files:
            with contextlib.suppress(OSError):
                state = file.stat()
                found.append((state.st_ino, state.st_size, state.st_mtime_ns))
        return found
