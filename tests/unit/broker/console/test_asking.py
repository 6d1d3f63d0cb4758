"""What a console's pages share."""

from __future__ import annotations

import pytest

from percall_broker.console.asking import is_ended


@pytest.mark.parametrize(
    ("state", "expires_at", "ended"),
    [
        ("active", 0, False),
        ("suspended", 0, False),
        ("revoked", 0, True),
        ("expired", 1, True),
        ("expired", 0, False),
        ("expired", 2**40, False),
    ],
)
def test_a_grant_is_over_that_nothing_brings_back_and_a_sign_in_brings_back_what_lapsed_with_it(
    state: str, expires_at: int, ended: bool
) -> None:
    assert is_ended({"state": state, "expires_at": expires_at}) is ended
