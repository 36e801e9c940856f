"""The model provider, or a gateway that speaks like it. Does not know who asks."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from types import TracebackType
from typing import Self

import aiohttp

from services.executor.model_proxy.coding import CodingError, unpacking
from services.executor.model_proxy.key import Key

_CONNECTING_SECONDS = 10.0
_LOOKING_SECONDS = 3.0
_WHOLE_PATIENCE = timedelta(minutes=10)
"""For an answer that is not streamed, of which nothing is told before all is there."""
_STREAMED = re.compile(rb'"stream"\s*:\s*true')
"""Within text its quotes would be escaped."""
_OVERLAP = 32


class TooLargeError(Exception):
    """Raised when a request is larger than any may be."""


class RefusedError(Exception):
    """Raised when a request asks for what it may not have."""


class SilenceError(Exception):
    """Raised when the provider has said nothing for too long."""


class UnreachableError(Exception):
    """Raised when there is no provider, or when it hangs up."""


class Answer:
    """What the provider answers, piece by piece.

    It is told as it was asked for, without compression.

    Args:
        response: Its beginning.
        patience: Seconds of silence that are borne.

    Raises:
        CodingError: It is compressed in a way that is not known.
    """

    def __init__(self, response: aiohttp.ClientResponse, patience: float) -> None:
        self.status = response.status
        self.headers = response.headers
        self._content = response.content
        self._patience = patience
        self._unpacking = unpacking(self.headers.get("Content-Encoding", ""))
        self.packed = self._unpacking is not None
        """Whether the headers speak of another form than the one that is told."""

    async def next(self) -> bytes:
        """Return the next piece; empty at the end.

        Raises:
            SilenceError: There is none for too long.
            UnreachableError: The provider has hung up, or what it says is broken.
        """
        if self._unpacking is None:
            return await self._read()
        try:
            while not (piece := self._unpacking.take()):
                packed = await self._read()
                if not packed:
                    self._unpacking.check_end()
                    break
                self._unpacking.feed(packed)
        except CodingError as error:
            raise UnreachableError from error
        return piece

    async def _read(self) -> bytes:
        content = self._content
        try:
            async with asyncio.timeout(self._patience):
                return await content.readany()
        except TimeoutError as error:
            raise SilenceError from error
        except (aiohttp.ClientError, OSError) as error:
            raise UnreachableError from error


class Upstream:
    """Asks the provider; an async context manager.

    Args:
        url: Where it is.
        key: What it is shown.
        bearer: Whether the key goes into `Authorization`.
        silence: How long it may say nothing.
    """

    def __init__(self, *, url: str, key: Key, bearer: bool, silence: timedelta) -> None:
        self.refused = False
        """Whether it refused the key, the last time that it was asked."""
        self._url = url.rstrip("/")
        self._key = key
        self._bearer = bearer
        self._silence = silence.total_seconds()
        self._whole_patience = max(silence, _WHOLE_PATIENCE).total_seconds()
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        """Open it."""
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=_CONNECTING_SECONDS),
            # Bytes pass as they are, and nothing is remembered from one agent to another.
            auto_decompress=False,
            cookie_jar=aiohttp.DummyCookieJar(),
            skip_auto_headers=("Accept", "Content-Type", "User-Agent"),
        )
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close it, with all that is being answered."""
        if self._session is not None:
            await self._session.close()

    @asynccontextmanager
    async def ask(
        self, *, query: str, headers: dict[str, str], body: AsyncIterator[bytes]
    ) -> AsyncIterator[Answer]:
        """Send a request to the Messages API; leaving early aborts it.

        Args:
            query: Query of the request's address, as it came.
            headers: What goes to the provider, without a credential.
            body: The request, piece by piece; may raise TooLargeError and RefusedError.

        Raises:
            CodingError: It answers in a way that is not known.
            SilenceError: It does not begin to answer.
            UnreachableError: It cannot be reached.
            TooLargeError: The request is too large.
            RefusedError: It asks for what it may not have.
        """
        if self._session is None:
            raise UnreachableError
        name, value = ("Authorization", "Bearer ") if self._bearer else ("x-api-key", "")
        headers[name] = value + self._key.value
        url = f"{self._url}/v1/messages{'?' if query else ''}{query}"
        sent = _Sent(body)
        try:
            asking = self._session.post(
                url, data=sent.read(), headers=headers, allow_redirects=False
            )
            response = await self._begin(asking, sent)
        except (aiohttp.ClientError, OSError) as error:
            if sent.failure is not None:
                raise sent.failure from error
            raise UnreachableError from error
        async with response:
            self.refused = response.status in {401, 403}
            yield Answer(response, self._patience(sent))

    async def look(self) -> str:
        """Find out whether it can be reached; return what is wrong, empty for nothing."""
        if self._session is None:
            return "it is not in use"
        timeout = aiohttp.ClientTimeout(total=_LOOKING_SECONDS)
        try:
            async with self._session.head(self._url or "/", timeout=timeout, allow_redirects=False):
                return ""
        except TimeoutError:
            return "it does not answer"
        except aiohttp.ClientConnectorError as error:
            return error.os_error.strerror or "there is no such host"
        except aiohttp.InvalidURL:
            return "its address is none"
        except (aiohttp.ClientError, OSError):
            return "it does not speak HTTP"

    async def _begin(
        self, asking: aiohttp.client._RequestContextManager, sent: _Sent
    ) -> aiohttp.ClientResponse:
        """Wait for the beginning of the answer, which is due some time after the last byte sent."""
        loop = asyncio.get_running_loop()
        begun = asyncio.ensure_future(asking)
        try:
            while not begun.done():
                left = sent.at + self._patience(sent) - loop.time()
                if left <= 0:
                    raise SilenceError
                # In steps, because what is asked for may show only while it is sent.
                await asyncio.wait({begun}, timeout=min(left, self._silence))
            return begun.result()
        finally:
            if not begun.done():
                begun.cancel()
                await asyncio.wait({begun})

    def _patience(self, sent: _Sent) -> float:
        return self._silence if sent.streamed else self._whole_patience


class _Sent:
    """What has been sent of a request."""

    def __init__(self, body: AsyncIterator[bytes]) -> None:
        self.streamed = False
        self.failure: TooLargeError | RefusedError | None = None
        self.at = asyncio.get_running_loop().time()
        self._body = body

    async def read(self) -> AsyncIterator[bytes]:
        """Pass the pieces on, and look what is asked for."""
        tail = b""
        loop = asyncio.get_running_loop()
        try:
            async for piece in self._body:
                yield piece
                self.at = loop.time()
                looked = tail + piece
                self.streamed = self.streamed or _STREAMED.search(looked) is not None
                tail = looked[-_OVERLAP:]
        except (TooLargeError, RefusedError) as error:
            self.failure = error
            raise
