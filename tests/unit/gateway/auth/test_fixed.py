"""Tests of `services.gateway.auth.fixed`."""

from __future__ import annotations

import pytest

from services.chassis.failures import Failure
from services.gateway.auth.fixed import ADMINISTRATOR, DEVELOPER, FixedVerifier


@pytest.mark.parametrize("user", [DEVELOPER, ADMINISTRATOR])
async def test_the_token_is_one_user(user: str) -> None:
    """Who administers, and whose proof does not end."""
    verifier = FixedVerifier(token="secret-secret-secret", user=user)
    principal = await verifier.verify("secret-secret-secret")

    assert (user, True, None, "") == (
        principal.user,
        principal.admin,
        principal.expire_time,
        principal.key,
    )


@pytest.mark.parametrize("token", ["", "secret", "secret-secret-secre", "한\ud800\x00"])
async def test_anything_else_is_nobody(token: str) -> None:
    """Whatever its length and characters."""
    with pytest.raises(Failure) as raised:
        await FixedVerifier(token="secret-secret-secret", user=DEVELOPER).verify(token)

    assert "TOKEN_INVALID" == raised.value.reason_name
