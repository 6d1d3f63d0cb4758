"""A renewed certificate is shown to whoever connects from then on; one that does not fit is not."""

from __future__ import annotations

import asyncio
import os
import ssl
from typing import TYPE_CHECKING

import pytest
import trustme

from percall_broker.certificate import Certificate

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.anyio


def put(issued: trustme.LeafCert, certificate: Path, key: Path) -> None:
    """As who renews one does: new files in the place of the old ones."""
    for file, blob in ((certificate, issued.cert_chain_pems[0]), (key, issued.private_key_pem)):
        new = file.with_suffix(".new")
        blob.write_to_path(new)
        os.replace(new, file)  # noqa: PTH105 - one step


async def shown(port: int) -> bytes:
    """The certificate that a new connection is shown."""
    trusting = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    trusting.check_hostname, trusting.verify_mode = False, ssl.CERT_NONE
    _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=trusting)
    found: bytes = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    writer.close()
    await writer.wait_closed()
    return found


async def test_a_renewed_certificate_is_used_and_one_that_does_not_fit_is_not(tmp_path: Path) -> None:
    authority = trustme.CA()
    certificate, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    put(authority.issue_cert("localhost"), certificate, key)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    own = Certificate(context, certificate, key)

    async def answer(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0, ssl=context) as server:
        port = server.sockets[0].getsockname()[1]
        first = await shown(port)
        own.look()
        assert await shown(port) == first
        put(authority.issue_cert("localhost"), certificate, key)
        own.look()
        second = await shown(port)
        assert second != first
        third = authority.issue_cert("localhost")
        third.cert_chain_pems[0].write_to_path(certificate)  # and its key is not there yet
        own.look()
        assert await shown(port) == second
        third.private_key_pem.write_to_path(key)
        own.look()
        latest = await shown(port)
        assert latest not in {first, second}
        key.unlink()
        own.look()
        assert await shown(port) == latest
