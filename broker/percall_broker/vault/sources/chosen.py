"""Chooses the source of key-encryption keys from the settings. Each one's libraries are loaded where it is used."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import TYPE_CHECKING

from percall_broker.model.errors import InvalidInput
from percall_broker.vault.sources.folder import KeyFolder
from percall_broker.vault.sources.os_keyring import KeyringKeys
from percall_broker.vault.sources.protocol import AWS, FILES, KEYRING, TRANSIT
from percall_broker.vault.sources.several import KeySources

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from percall_broker.settings import Settings
    from percall_broker.vault.sources.protocol import KeySource

# ruff: noqa: PLC0415

SYSTEMD_CREDENTIALS = "CREDENTIALS_DIRECTORY"
_PREFIXES = {"file": FILES, "systemd": FILES, "keyring": KEYRING, "transit": TRANSIT, "aws": AWS}


def key_source(settings: Settings) -> KeySource:
    """The chosen source, with those that may have wrapped before it: all that the settings still name.

    Raises InvalidInput, Unavailable.
    """
    sources: dict[str, KeySource] = {FILES: _files(settings), KEYRING: KeyringKeys(settings.home)}
    if settings.key_source == "transit" or settings.transit_address:
        sources[TRANSIT] = _transit(settings)
    if settings.key_source == "aws" or settings.aws_kms_key:
        sources[AWS] = _aws(settings)
    return KeySources(_PREFIXES[settings.key_source], sources)


@contextlib.asynccontextmanager
async def opened(settings: Settings) -> AsyncIterator[KeySource]:
    """The same for as long as a block lasts. Raises InvalidInput, Unavailable."""
    source = key_source(settings)
    try:
        yield source
    finally:
        await source.close()


def _files(settings: Settings) -> KeySource:
    if settings.key_source != "systemd":
        return KeyFolder(settings.keys)
    given = os.environ.get(SYSTEMD_CREDENTIALS, "")
    if not given:
        raise InvalidInput(
            "keys.systemd",
            f"key_source is systemd, and there is no {SYSTEMD_CREDENTIALS}.",
            "Run this from the broker's unit, with LoadCredentialEncrypted=; or by `systemd-run` with the same.",
        )
    return KeyFolder(Path(given), is_given=True)


def _transit(settings: Settings) -> KeySource:
    from percall_broker.vault.sources.transit import TransitKeys

    if not settings.transit_address or settings.transit_token_file is None:
        raise InvalidInput("keys.transit", "transit_address and transit_token_file are both needed.")
    return TransitKeys(
        settings.transit_address,
        settings.transit_token_file,
        key=settings.transit_key,
        mount=settings.transit_mount,
        namespace=settings.transit_namespace,
        ca_file=settings.transit_ca_file,
    )


def _aws(settings: Settings) -> KeySource:
    if not settings.aws_kms_key:
        raise InvalidInput("keys.aws", "aws_kms_key is needed: the id, ARN or alias of a key.")
    try:
        from percall_broker.vault.sources.aws import AwsKeys
    except ImportError:
        raise InvalidInput(
            "keys.aws",
            "AWS' library is not installed here.",
            "Install Percall's extra `aws` too: in a clone, `uv tool install '.[broker,aws]'`, or by pip.",
        ) from None
    return AwsKeys(settings.aws_kms_key, settings.aws_region, settings.aws_kms_endpoint)
