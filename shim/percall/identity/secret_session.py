"""What a Secret Service answers in an encrypted session (`dh-ietf1024-sha256-aes128-cbc-pkcs7`), opened.

Apart from `secret_service`, which loads this while the service works on its answers.
"""

from __future__ import annotations

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

_KEY_BYTES = 16


def opened(shared: bytes, vector: bytes, sealed: bytes) -> bytes:
    """The secret: SECRET, never log. `shared` is what both sides of the session know. Raises ValueError."""
    key = HKDF(SHA256(), _KEY_BYTES, salt=None, info=b"").derive(shared)
    decryptor = Cipher(algorithms.AES(key), modes.CBC(vector)).decryptor()
    padded = decryptor.update(sealed) + decryptor.finalize()
    return padded[: -padded[-1]]
