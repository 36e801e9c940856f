"""An identity provider's public keys: fetched, kept, fetched again when one is new.

Does not know tokens.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import aiohttp
import orjson
from joserfc import jwk
from joserfc.errors import JoseError

from moorline.errors.v1 import errors_pb2
from services.chassis.failures import Failure
from services.gateway.auth.verifier import token_invalid

log = logging.getLogger(__name__)

ALGORITHMS = {"RS256": "RSA", "ES256": "EC", "EdDSA": "OKP", "Ed25519": "OKP"}
"""Signatures that are accepted, and the type of key each needs."""
# RFC 9864 renamed it; providers use both names.
_SAME = {"EdDSA": "Ed25519", "Ed25519": "EdDSA"}
_KINDS = {("RSA", None), ("EC", "P-256"), ("OKP", "Ed25519")}
KEEP_SECONDS = 600.0
"""How long keys are used without looking whether they changed."""
PAUSE_SECONDS = 10.0
"""Least time between two fetches, whatever tokens ask for."""
MAX_BYTES = 256 * 1024
"""Largest key set that is read."""
_TIMEOUT = aiohttp.ClientTimeout(total=5)

Fetch = Callable[[], Awaitable[bytes]]
"""Returns the key set as JSON; raises OSError, TimeoutError or ValueError when it cannot."""


class Jwks:
    """The current keys of a provider.

    Keys that cannot be fetched again stay in use: an outage of the provider locks
    nobody out who has a good token.

    Args:
        fetch: Gets the keys.
        clock: Seconds of any clock that does not go back.
    """

    def __init__(self, *, fetch: Fetch, clock: Callable[[], float]) -> None:
        self._fetch = fetch
        self._clock = clock
        self._lock = asyncio.Lock()
        self._keys: list[Any] = []
        self._fetched = float("-inf")
        self._tried = float("-inf")

    async def find(self, kid: str | None, algorithm: str) -> Any:
        """Return the key of a token.

        Args:
            kid: The key's id; None when the token does not say, which is enough
                only if the provider has one key for the algorithm.
            algorithm: One of `ALGORITHMS`.

        Raises:
            Failure: TOKEN_INVALID for a key the provider does not have;
                SERVICE_UNAVAILABLE when no keys could be fetched so far.
        """
        if self._clock() - self._fetched >= KEEP_SECONDS or self._pick(kid, algorithm) is None:
            await self._refresh()
        key = self._pick(kid, algorithm)
        if key is not None:
            return key
        if self._fetched == float("-inf"):
            raise Failure(
                errors_pb2.ERROR_REASON_SERVICE_UNAVAILABLE,
                "The identity provider's keys cannot be fetched. Try again.",
                retry_delay=timedelta(seconds=PAUSE_SECONDS),
                service="jwks",
            )
        raise token_invalid()

    def _pick(self, kid: str | None, algorithm: str) -> Any:
        fitting = [
            key
            for key in self._keys
            if key.key_type == ALGORITHMS[algorithm]
            and key.get("alg") in (None, algorithm, _SAME.get(algorithm))
            and (kid is None or key.get("kid") == kid)
        ]
        return fitting[0] if len(fitting) == 1 else None

    async def _refresh(self) -> None:
        async with self._lock:
            if self._clock() - self._tried < PAUSE_SECONDS:
                return
            self._tried = self._clock()
            try:
                self._keys = _parse(await self._fetch())
            except (OSError, TimeoutError, ValueError, aiohttp.ClientError) as error:
                log.warning("keys not fetched", extra={"problem": type(error).__name__})
            else:
                self._fetched = self._clock()


def from_url(session: aiohttp.ClientSession, url: str) -> Fetch:
    """Return what fetches keys from an address."""

    async def fetch() -> bytes:
        async with session.get(url, timeout=_TIMEOUT, allow_redirects=False) as response:
            if response.status != 200:
                raise ValueError("not a key set")
            content = await response.content.read(MAX_BYTES + 1)
            while len(content) <= MAX_BYTES and (part := await response.content.read(MAX_BYTES)):
                content += part
            if len(content) > MAX_BYTES:
                raise ValueError("key set too large")
            return content

    return fetch


def from_file(path: Path) -> Fetch:
    """Return what reads keys from a file."""

    async def fetch() -> bytes:
        return await asyncio.to_thread(path.read_bytes)

    return fetch


def _parse(content: bytes) -> list[Any]:
    """Read the keys that can check a signature; others are none of our business."""
    value = orjson.loads(content)
    entries = value.get("keys") if isinstance(value, dict) else None
    if not isinstance(entries, list):
        raise ValueError("not a key set")  # noqa: TRY004 - the content is wrong, not our types
    keys = []
    for entry in entries:
        if not isinstance(entry, dict) or entry.get("use", "sig") != "sig":
            continue
        if (entry.get("kty"), entry.get("crv")) not in _KINDS:
            continue
        try:
            keys.append(jwk.import_key(entry))
        except (JoseError, ValueError, TypeError):
            log.warning("a key of the provider was not understood")
    return keys
