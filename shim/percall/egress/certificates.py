"""Helper process of the way in `proxy`: an authority for this run of the child, and one leaf for the listed hosts.

It writes the certificates that the child will trust, prints the leaf with the leaf's key on its standard output, and
ends. The authority's key is never written or printed: it dies with this process, before the child starts.
"""

from __future__ import annotations

import datetime as dt
import json
import os
import secrets
import shutil
import ssl
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from percall import home
from percall.egress.authority import HELD
from percall.errors import PercallError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
    from cryptography.x509 import Certificate

LIFETIME = dt.timedelta(days=397)  # a client may be left running for months; some libraries take none of 399
FOLDER = "certificates"
_BEGINNING_SECONDS = 3600
_NAME_BYTES = 8
_COMMON_ROOTS = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/cert.pem",
    "/etc/ssl/ca-bundle.pem",
)


def make(names: list[str]) -> tuple[bytes, bytes]:
    """An authority's certificate, and a leaf with its key; all in PEM."""
    from cryptography import x509  # noqa: PLC0415 - only this process pays for it
    from cryptography.hazmat.primitives import hashes, serialization  # noqa: PLC0415
    from cryptography.hazmat.primitives.asymmetric import ec  # noqa: PLC0415

    authority_key = ec.generate_private_key(ec.SECP256R1())
    leaf_key = ec.generate_private_key(ec.SECP256R1())
    authority_name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "Percall, this run of one server only")])
    authority = (
        _builder(authority_name, authority_name, authority_key)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(signs_certificates=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(authority_key.public_key()), critical=False)
        .sign(authority_key, hashes.SHA256())
    )
    leaf = (
        _leaf_builder(authority, leaf_key, names)
        .add_extension(_key_usage(signs_certificates=False), critical=True)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key()), critical=False)
        .sign(authority_key, hashes.SHA256())
    )
    encoding = serialization.Encoding.PEM
    private = leaf_key.private_bytes(encoding, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return authority.public_bytes(encoding), leaf.public_bytes(encoding) + private


def _builder(subject: Any, issuer: Any, key: EllipticCurvePrivateKey) -> Any:
    from cryptography import x509  # noqa: PLC0415 - only this process pays for it

    now = dt.datetime.now(dt.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(hours=1))
        .not_valid_after(now + LIFETIME)
    )


def _leaf_builder(authority: Certificate, key: EllipticCurvePrivateKey, names: list[str]) -> Any:
    from cryptography import x509  # noqa: PLC0415 - only this process pays for it

    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "Percall listener")])
    return (
        _builder(subject, authority.subject, key)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([_name(name) for name in names]), critical=False)
        .add_extension(x509.ExtendedKeyUsage([x509.oid.ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def _name(text: str) -> Any:
    import ipaddress  # noqa: PLC0415 - only this process pays for it

    from cryptography import x509  # noqa: PLC0415

    try:
        return x509.IPAddress(ipaddress.ip_address(text.strip("[]")))
    except ValueError:
        return x509.DNSName(text)


def _key_usage(*, signs_certificates: bool) -> Any:
    from cryptography import x509  # noqa: PLC0415 - only this process pays for it

    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def system_roots() -> bytes:
    """The roots that this machine trusts: OpenSSL's own file, a distribution's, or certifi's."""
    own = ssl.get_default_verify_paths().openssl_cafile
    for candidate in (own, *_COMMON_ROOTS):
        if candidate and Path(candidate).is_file():
            return Path(candidate).read_bytes()
    import certifi  # noqa: PLC0415 - only where the system has none

    return Path(certifi.where()).read_bytes()


def _existing(path: str) -> bytes:
    """A file that a variable of the child's named; one that cannot be read adds nothing, as Node and Python do."""
    try:
        return Path(path).read_bytes().rstrip() + b"\n" if path else b""
    except OSError:
        return b""


def _remove_left() -> None:
    """What runs that were killed have left; nobody else would remove it."""
    place = Path(home.path(FOLDER))
    for other in place.iterdir() if place.exists() else ():
        if _is_left(other):
            shutil.rmtree(other, ignore_errors=True)


def _is_left(folder: Path) -> bool:
    """Whether the run that holds it is over; while one begins, nobody holds it yet."""
    try:
        age = time.time() - folder.stat().st_mtime
        if age < _BEGINNING_SECONDS or sys.platform == "win32":
            return age > LIFETIME.total_seconds()
        import fcntl  # noqa: PLC0415 - not on Windows

        with (folder / HELD).open("a") as held:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def main() -> int:
    """Read the names and the child's own bundles from standard input; write the files; print where, and the leaf.

    They lie in Percall's own folder: a cleaner of the system's takes from a temporary one what a client that was left
    running over a weekend does not touch.
    """
    request = json.load(sys.stdin)
    authority, leaf = make(request["names"])
    extra = _existing(request["node_extra"])
    roots = _existing(request["bundle"]) or system_roots().rstrip() + b"\n"
    run = f"{FOLDER}/{secrets.token_hex(_NAME_BYTES)}"
    try:
        _remove_left()
        home.write(f"{run}/node-extra.pem", extra + authority)
        home.write(f"{run}/bundle.pem", roots + extra + authority)
    except (OSError, PercallError) as error:
        answer = {"problem": str(error)}
    else:
        answer = {"folder": home.path(run), "leaf": leaf.decode("ascii")}
    os.write(sys.stdout.fileno(), json.dumps(answer).encode())
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
