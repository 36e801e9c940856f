"""Tests of `services.gateway.auth.development`."""

from __future__ import annotations

import pytest

from services.chassis.failures import Failure
from services.gateway.auth.development import DevelopmentVerifier


async def test_the_token_is_the_developer() -> None:
    """Who administers, and whose proof does not end."""
    principal = await DevelopmentVerifier(token="secret-secret-secret").verify(
        "secret-secret-secret"
    )

    assert ("users/dev", True, None, "") == (
        principal.user,
        principal.admin,
        principal.expire_time,
        principal.key,
    )


@pytest.mark.parametrize("token", ["", "secret", "secret-secret-secre", "한\ud800\x00"])
async def test_anything_else_is_nobody(token: str) -> None:
    """Whatever its length and characters."""
    with pytest.raises(Failure) as raised:
        await DevelopmentVerifier(token="secret-secret-secret").verify(token)

    assert "TOKEN_INVALID" == raised.value.reason_name
