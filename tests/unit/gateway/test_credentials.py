"""Proofs, as long as the platform's time is not known."""

from __future__ import annotations

from typing import Any, cast

import pytest
from prometheus_client import CollectorRegistry, Counter

from moorline.errors.v1 import errors_pb2
from services.chassis.failures import Failure
from services.gateway.auth.chain import Chain
from services.gateway.auth.fixed import FixedVerifier
from services.gateway.auth.verifier import Principal, token_invalid, untimely
from services.gateway.credentials import Credentials, Origins

UNAVAILABLE = errors_pb2.ERROR_REASON_SERVICE_UNAVAILABLE
INVALID = errors_pb2.ERROR_REASON_TOKEN_INVALID


class Refuses:
    """Refuses every token for one reason."""

    def __init__(self, failure: Failure) -> None:
        self._failure = failure

    async def verify(self, token: str) -> Principal:
        """See `Verifier`."""
        raise self._failure


def credentials(failure: Failure, *, timed: bool) -> Credentials:
    """Credentials that look at tokens only."""
    fixed = FixedVerifier(token="f" * 32, user="users/dev")
    nobody = cast("Any", None)
    return Credentials(
        tokens=Chain(verifiers=[Refuses(failure), fixed]),
        cookies=nobody,
        tickets=nobody,
        origins=Origins(allowed=()),
        behind_tls=False,
        timed=lambda: timed,
        attempts=Counter("attempts", "n", ("method", "result"), registry=CollectorRegistry()),
    )


@pytest.mark.parametrize(
    ("failure", "timed", "reason"),
    [
        (untimely(), False, UNAVAILABLE),
        (untimely(), True, INVALID),
        (token_invalid(), False, INVALID),
        (token_invalid(), True, INVALID),
    ],
)
async def test_nobody_is_sent_away_by_a_clock_that_may_be_wrong(
    failure: Failure, timed: bool, reason: errors_pb2.ErrorReason.ValueType
) -> None:
    """A token that is good but for its time is told to come again until the time is known."""
    with pytest.raises(Failure) as caught:
        await credentials(failure, timed=timed).prove("token", method="bearer")
    assert reason == caught.value.reason
    assert (caught.value.retry_delay is not None) == (reason == UNAVAILABLE)


async def test_another_proof_is_good_meanwhile() -> None:
    """What no time limits is taken before the time is known."""
    proof = await credentials(untimely(), timed=False).prove("f" * 32, method="bearer")
    assert "users/dev" == proof.principal.user
