"""Follows a source for one stream of its own, and ends all such streams at a drain.

Does not know what is followed.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from typing import Any, Protocol, TypeVar

from moorline.errors.v1 import errors_pb2
from services.chassis.failures import Failure

N_contra = TypeVar("N_contra", contravariant=True)
N = TypeVar("N")

_SILENCE_SECONDS = 15.0
"""After so much silence an empty response goes out, so that proxies keep the stream."""

_RESPONSE_BYTES = 128 * 1024


class Source(Protocol[N_contra]):
    """A subscription, as `chassis.feed` knows it, that also tells why it ended."""

    @property
    def failure(self) -> Failure | None:
        """Why nothing will follow; None while something may."""
        ...

    @property
    def done(self) -> bool:
        """True when everything was taken and nothing will follow."""
        ...

    def take(self, budget: int, news: N_contra) -> tuple[int, bool]:
        """Add what happened since the last take; see `chassis.feed`."""
        ...

    def end(self, failure: Failure) -> None:
        """End with a failure."""
        ...

    def close(self) -> None:
        """Stop following."""
        ...


class Watches:
    """The streams that follow one source each."""

    def __init__(self) -> None:
        self._sources: set[Source[Any]] = set()
        self._draining: Failure | None = None

    async def follow(
        self, response: type[N], subscribe: Callable[[Callable[[], None]], Source[N]]
    ) -> AsyncIterator[N]:
        """Yield what happens, and an empty response after 15 s of silence, until it ends.

        Args:
            response: Class of the responses.
            subscribe: Makes the source, given what to call when it has news.

        Raises:
            Failure: Why the source ended; DRAINING.
        """
        if self._draining is not None:
            raise self._draining
        marked = asyncio.Event()
        source = subscribe(marked.set)
        self._sources.add(source)
        try:
            while True:
                news = response()
                taken, more = source.take(_RESPONSE_BYTES, news)
                if taken:
                    yield news
                if source.failure is not None:
                    raise source.failure
                if more:
                    continue
                try:
                    async with asyncio.timeout(_SILENCE_SECONDS):
                        await marked.wait()
                except TimeoutError:
                    yield response()
                marked.clear()
        finally:
            self._sources.discard(source)
            source.close()

    def drain(self) -> None:
        """End every stream with DRAINING, and each that begins later."""
        self._draining = Failure(
            errors_pb2.ERROR_REASON_DRAINING,
            "This server is shutting down. Connect again.",
            retry_delay=timedelta(milliseconds=100),
        )
        for source in list(self._sources):
            source.end(self._draining)
