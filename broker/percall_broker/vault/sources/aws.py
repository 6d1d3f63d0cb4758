"""Key-encryption keys in AWS KMS: it wraps and unwraps, and its keys never leave it.

A data key is bound to its row by the encryption context, which CloudTrail shows: it names servers, never a secret.
Credentials come from where AWS' tools look for them. botocore blocks, so each request has a thread.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from botocore.config import Config  # type: ignore[import-untyped]
from botocore.exceptions import BotoCoreError, ClientError  # type: ignore[import-untyped]
from botocore.session import get_session  # type: ignore[import-untyped]

from percall_broker.crypto.sodium import SealBrokenError
from percall_broker.model.errors import Unavailable
from percall_broker.vault.sources.protocol import AWS, Sealed, Wrapped

if TYPE_CHECKING:
    from collections.abc import Callable

TIMEOUT_SECONDS = 5
_BROKEN = {"InvalidCiphertextException", "IncorrectKeyException"}
_MISSING = {"NotFoundException", "InvalidArnException", "ValidationException"}


class AwsKeys:
    """One key of KMS, by its id, ARN or alias. KMS rotates what is inside of it on its own."""

    def __init__(self, key: str, region: str = "", endpoint: str = "") -> None:
        """`region` and `endpoint` empty: as AWS' own configuration says. Raises Unavailable."""
        self._key = key
        retries: Any = {"max_attempts": 2, "mode": "standard"}
        config = Config(connect_timeout=TIMEOUT_SECONDS, read_timeout=TIMEOUT_SECONDS, retries=retries)
        try:
            self._kms: Any = get_session().create_client(
                "kms", region_name=region or None, endpoint_url=endpoint or None, config=config
            )
        except (BotoCoreError, ValueError) as error:
            raise Unavailable(
                "keys.aws", f"AWS KMS cannot be asked: {str(error).rstrip('.')}.", "Set aws_region."
            ) from None

    async def newest(self) -> str:
        """The ARN of the key that the settings name."""
        answer = await self._ask(self._kms.describe_key, KeyId=self._key)
        return AWS + str(answer["KeyMetadata"]["Arn"])

    async def wrap(self, data_key: bytes, context: bytes) -> Wrapped:
        """The data key, encrypted by KMS."""
        asked = {"Plaintext": data_key, "EncryptionContext": _context(context)}
        answer = await self._ask(self._kms.encrypt, KeyId=self._key, **asked)
        return Wrapped(AWS + str(answer["KeyId"]), bytes(answer["CiphertextBlob"]))

    async def unwrap(self, wrapped: Wrapped, context: bytes) -> bytes:
        """The data key. Raises SealBrokenError, Sealed, Unavailable."""
        asked = {"CiphertextBlob": wrapped.ciphertext, "EncryptionContext": _context(context)}
        answer = await self._ask(self._kms.decrypt, KeyId=wrapped.key.removeprefix(AWS), **asked)
        return bytes(answer["Plaintext"])

    async def rotate(self) -> str:
        """The key that the settings name now: to rotate is to name another one, and wrap everything anew."""
        return await self.newest()

    async def close(self) -> None:
        """Closes the connections."""
        await asyncio.to_thread(self._kms.close)

    async def _ask(self, verb: Callable[..., Any], **asked: Any) -> dict[str, Any]:
        try:
            answer: dict[str, Any] = await asyncio.to_thread(verb, **asked)
        except ClientError as error:
            code = str(error.response.get("Error", {}).get("Code", ""))
            if code in _BROKEN:
                raise SealBrokenError from None
            if code in _MISSING:
                raise Unavailable("keys.missing", f"AWS KMS has no such key ({code}).", "Check aws_kms_key.") from None
            raise Sealed("keys.source_down", f"AWS KMS refuses ({code}).", "Check its state and policy.") from None
        except BotoCoreError as error:
            raise Sealed(
                "keys.source_down",
                f"AWS KMS does not answer ({type(error).__name__}).",
                "Check network and credentials.",
            ) from None
        return answer


def _context(context: bytes) -> dict[str, str]:
    return {"percall": context.decode()}
