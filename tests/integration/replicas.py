"""A second broker over the same store."""

from __future__ import annotations

import contextlib
import socket
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from integration.conftest import Served


@contextlib.contextmanager
def replicas(served: Served) -> Iterator[list[str]]:
    """The URLs of all brokers over this store: on PostgreSQL a second process beside the first."""
    if not served.database:
        yield [served.url]
        return
    second = type(served)(served.folder)
    folder = served.folder / "second"
    folder.mkdir(exist_ok=True)
    for name in ("settings.toml", "keys"):
        with contextlib.suppress(FileExistsError):
            (folder / name).symlink_to(served.folder / "broker" / name)
    # One public URL, as behind a balancer: proofs are for it, whichever process answers.
    second.environment = {**served.environment, "PERCALL_BROKER_HOME": str(folder)}
    second.environment["PERCALL_BROKER_PUBLIC_URL"] = served.url
    with socket.create_server(("127.0.0.1", 0)) as free:
        own = second.url = f"http://127.0.0.1:{free.getsockname()[1]}"
    second.start()
    try:
        yield [served.url, own]
    finally:
        second.stop()
