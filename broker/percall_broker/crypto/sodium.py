"""Sealing, signatures and the check of public keys, over libsodium; the broker's only import of nacl.

A sealed value is a fresh nonce and an XChaCha20-Poly1305 ciphertext, bound to a context: the same bytes under another
context do not open. No function here logs, and no error quotes what it was given.
"""

from __future__ import annotations

import hmac
import os

from nacl import bindings, exceptions

KEY_BYTES = 32
_NONCE_BYTES = bindings.crypto_aead_xchacha20poly1305_ietf_NPUBBYTES
_ED25519_BYTES = 32
_SIGNATURE_BYTES = 64


class SealBrokenError(Exception):
    """A sealed value does not open: another key, another context, or bytes that were changed."""


def new_key() -> bytes:
    """A fresh key of 32 random bytes."""
    return os.urandom(KEY_BYTES)


def seal(key: bytes, plain: bytes, context: bytes) -> bytes:
    """Encrypts and authenticates, bound to the context."""
    nonce = os.urandom(_NONCE_BYTES)
    return nonce + bindings.crypto_aead_xchacha20poly1305_ietf_encrypt(plain, context, nonce, key)


def unseal(key: bytes, sealed: bytes, context: bytes) -> bytes:
    """What was sealed under this key and context. Raises SealBrokenError."""
    nonce, ciphertext = sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:]
    try:
        return bindings.crypto_aead_xchacha20poly1305_ietf_decrypt(ciphertext, context, nonce, key)
    except (exceptions.CryptoError, ValueError):
        raise SealBrokenError from None


def public_key(seed: bytes) -> bytes:
    """The Ed25519 public key of a 32-byte seed."""
    return bindings.crypto_sign_seed_keypair(seed)[0]


def sign(seed: bytes, message: bytes) -> bytes:
    """An Ed25519 signature of 64 bytes."""
    _, secret = bindings.crypto_sign_seed_keypair(seed)
    return bindings.crypto_sign(message, secret)[:_SIGNATURE_BYTES]


def signature_holds(public: bytes, message: bytes, signature: bytes) -> bool:
    """Whether an Ed25519 signature is this key's, over this message."""
    if len(signature) != _SIGNATURE_BYTES:
        return False
    try:
        bindings.crypto_sign_open(signature + message, public)
    except (exceptions.CryptoError, ValueError):
        return False
    return True


def is_sound_public_key(public: bytes) -> bool:
    """Whether these are the canonical bytes of an Ed25519 point of the prime-order group.

    A point of small order would accept signatures that nobody made.
    """
    return len(public) == _ED25519_BYTES and bool(bindings.crypto_core_ed25519_is_valid_point(public))


def mac(key: bytes, message: bytes) -> bytes:
    """HMAC-SHA-256."""
    return hmac.digest(key, message, "sha256")


def same(left: bytes, right: bytes) -> bool:
    """Whether two values are equal, in a time that does not tell where they differ."""
    return hmac.compare_digest(left, right)
