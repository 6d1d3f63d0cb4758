"""The organisation's OpenID provider: where people sign in, and what it says of them."""

from __future__ import annotations

from percall_broker.oidc.id_token import Account
from percall_broker.oidc.provider import Client, Provider

__all__ = ["Account", "Client", "Provider"]
