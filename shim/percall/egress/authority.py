"""The certificates of one run: started early in a helper process, collected when they are needed, removed at the end.

This process sees the leaf and its key, never the authority's key.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from threading import Lock
from typing import TYPE_CHECKING

from percall.errors import LaunchError

if TYPE_CHECKING:
    import ssl
    from collections.abc import Mapping

    from percall.egress.origins import Listed

_PATIENCE_SECONDS = 15.0
HELD = "held"
"""The file that a run keeps locked for as long as it needs its folder."""


class Authority:
    """An authority that one child trusts, for the origins that its entry lists."""

    def __init__(self, listed: Listed, base: Mapping[str, str]) -> None:
        self._folder = ""
        self._held = -1
        self._leaf = ""
        self._context: ssl.SSLContext | None = None
        self._lock = Lock()
        request = {
            "names": listed.certificate_names(),
            "node_extra": base.get("NODE_EXTRA_CA_CERTS", ""),
            "bundle": base.get("SSL_CERT_FILE", "") or base.get("REQUESTS_CA_BUNDLE", ""),
        }
        try:
            self._helper = subprocess.Popen(
                # -P: the client's working directory must not provide our modules.
                [sys.executable, "-P", "-m", "percall.egress.certificates"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
            )
            assert self._helper.stdin is not None  # noqa: S101 - it is a pipe
            self._helper.stdin.write(json.dumps(request).encode())
            self._helper.stdin.close()
            self._helper.stdin = None
        except OSError as error:
            raise _failed(str(error)) from None

    def environment(self) -> dict[str, str]:
        """The variables that make the child trust this authority beside what it trusted. Raises LaunchError."""
        self._collect()
        bundle, extra = f"{self._folder}/bundle.pem", f"{self._folder}/node-extra.pem"
        return {
            "NODE_EXTRA_CA_CERTS": extra,
            "SSL_CERT_FILE": bundle,
            "REQUESTS_CA_BUNDLE": bundle,
            "CURL_CA_BUNDLE": bundle,
        }

    def context(self) -> ssl.SSLContext:
        """The listener's side of TLS, for the listed hosts. Raises OSError, LaunchError."""
        with self._lock:
            if self._context is None:
                self._collect()
                self._context = self._load()
            return self._context

    def _collect(self) -> None:
        if self._folder:
            return
        try:
            answer, _ = self._helper.communicate(timeout=_PATIENCE_SECONDS)
        except subprocess.TimeoutExpired:
            self._helper.kill()
            self._helper.wait()
            raise _failed("it took too long") from None
        if self._helper.returncode != 0:
            raise _failed(f"it ended with {self._helper.returncode}")
        found = json.loads(answer)
        if "problem" in found:
            raise _failed(found["problem"].rstrip("."))
        self._folder, self._leaf = found["folder"], found["leaf"]
        self._hold()

    def _hold(self) -> None:
        """Until we end, however we do, no other run takes the folder for one that was left."""
        try:
            self._held = os.open(f"{self._folder}/{HELD}", os.O_RDWR | os.O_CREAT, 0o600)
            if sys.platform != "win32":
                import fcntl  # noqa: PLC0415 - not on Windows

                fcntl.flock(self._held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise _failed(str(error.strerror)) from None

    def _load(self) -> ssl.SSLContext:
        import ssl  # noqa: PLC0415 - a child that never uses the proxy does not pay for it

        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_alpn_protocols(["http/1.1"])
        path = f"{self._folder}/leaf.pem"
        # OpenSSL reads a key only from a file; this one lives for a moment, in a folder that only we may enter.
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            try:
                os.write(descriptor, self._leaf.encode())
            finally:
                os.close(descriptor)
            context.load_cert_chain(path)
        finally:
            os.unlink(path)  # noqa: PTH108 - pathlib costs start-up time
        self._leaf = ""
        return context

    def close(self) -> None:
        """End the helper, and remove the files."""
        if self._helper.poll() is None:
            self._helper.kill()
        if self._helper.stdout is not None and not self._helper.stdout.closed:
            self._helper.stdout.close()
        self._helper.wait()
        if self._held >= 0:
            os.close(self._held)
            self._held = -1
        for name in ("bundle.pem", "node-extra.pem", HELD):
            if self._folder and os.path.exists(f"{self._folder}/{name}"):  # noqa: PTH110 - see above
                os.unlink(f"{self._folder}/{name}")  # noqa: PTH108 - see above
        if self._folder and os.path.isdir(self._folder):  # noqa: PTH112 - see above
            os.rmdir(self._folder)  # noqa: PTH106 - see above


def _failed(reason: str) -> LaunchError:
    return LaunchError("egress.certificates", f"The certificates for the way in 'proxy' could not be made: {reason}.")
