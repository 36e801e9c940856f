"""Several ways to prove who one is, tried in order."""

from __future__ import annotations

from collections.abc import Sequence

from moorline.errors.v1 import errors_pb2
from services.chassis.failures import Failure
from services.gateway.auth.verifier import Principal, UntimelyFailure, Verifier, token_invalid

MAX_TOKEN_CHARACTERS = 8192
"""Longest token that is looked at; the same as the longest header."""


class Chain:
    """Asks one verifier after another.

    Args:
        verifiers: The first that accepts a token decides. One that cannot tell
            ends the search: the token may be its own.
    """

    def __init__(self, *, verifiers: Sequence[Verifier]) -> None:
        self._verifiers = tuple(verifiers)

    async def verify(self, token: str) -> Principal:
        """See `Verifier`."""
        if len(token) > MAX_TOKEN_CHARACTERS:
            raise token_invalid()
        refusal = token_invalid()
        for verifier in self._verifiers:
            try:
                return await verifier.verify(token)
            except Failure as failure:
                if failure.reason != errors_pb2.ERROR_REASON_TOKEN_INVALID:
                    raise
                if isinstance(failure, UntimelyFailure):
                    refusal = failure
        raise refusal
