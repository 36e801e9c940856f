"""Sends and receives whole files over HTTP, in threads: they would be in the way of the socket.

Knows the routes for files, and nothing of agents.
"""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from contextlib import suppress
from http.client import HTTPException, HTTPMessage
from pathlib import Path
from typing import IO, Any, TypeVar

from moorline.closing import ended_by_status, lost
from moorline.exceptions import MoorlineError, from_error

R = TypeVar("R")

SILENCE_SECONDS = 60.0
"""How long the server may say nothing."""
_PIECE_BYTES = 256 << 10


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """Follows nowhere: the token is for the server it was given for."""

    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: HTTPMessage,
        newurl: str,
    ) -> None:
        """Called by urllib."""


class Transfers:
    """Makes requests for files.

    Args:
        url: Of the server, `http(s)://host[:port]`.
        token: Proof of who the client is; empty to send none.
    """

    def __init__(self, *, url: str, token: Callable[[], str]) -> None:
        self._url = url
        self._token = token
        self._opener = urllib.request.build_opener(_NoRedirects)

    async def receive(self, path: str, local: Path) -> None:
        """Save what is at a path of the server; the local file is there once it is whole.

        Cancelling ends the transfer and leaves nothing.

        Raises:
            MoorlineError: As the server says; `ConnectionLostError` when it breaks.
            OSError: The local file cannot be written.
        """
        await _in_thread(lambda stop: self._receive(path, local, stop))

    async def send(self, path: str, local: Path, headers: Mapping[str, str]) -> Any:
        """Send a local file to a path of the server; return what it answers, in JSON.

        Cancelling ends the transfer; the server then keeps what it had.

        Raises:
            MoorlineError: As for `receive`.
            OSError: The local file cannot be read.
        """
        return await _in_thread(lambda stop: self._send(path, local, headers, stop))

    def _receive(self, path: str, local: Path, stop: threading.Event) -> None:
        unfinished = local.with_name(f".{local.name}.{secrets.token_hex(4)}.part")
        try:
            with self._answer(self._request(path)) as answer, unfinished.open("xb") as file:
                wanted = answer.headers.get("Content-Length")
                while piece := _read(answer):
                    _go_on(stop)
                    file.write(piece)
                if wanted is not None and file.tell() != int(wanted):
                    raise lost("The connection broke before the file was whole.")
            unfinished.replace(local)
        finally:
            with suppress(FileNotFoundError):
                unfinished.unlink()

    def _send(
        self, path: str, local: Path, headers: Mapping[str, str], stop: threading.Event
    ) -> Any:
        with local.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            request = self._request(path, method="PUT", data=_Source(file, stop))
            request.add_header("Content-Length", str(size))
            request.add_header("Content-Type", "application/octet-stream")
            for name, value in headers.items():
                request.add_header(name, value)
            with self._answer(request) as answer:
                return json.loads(_read(answer, whole=True))

    def _request(self, path: str, **more: Any) -> urllib.request.Request:
        # Only ever http and https: the address was checked when the client was made.
        request = urllib.request.Request(f"{self._url}{path}", **more)  # noqa: S310
        token = self._token()
        if token:
            request.add_unredirected_header("Authorization", f"Bearer {token}")
        return request

    def _answer(self, request: urllib.request.Request) -> Any:
        try:
            return self._opener.open(request, timeout=SILENCE_SECONDS)
        except urllib.error.HTTPError as error:
            with error:
                raise _refused(error) from None
        except (OSError, HTTPException) as error:
            raise lost(f"The server cannot be reached: {error}") from error


class _Source:
    """A file to be sent, which can be stopped."""

    def __init__(self, file: IO[bytes], stop: threading.Event) -> None:
        self._file = file
        self._stop = stop

    def read(self, size: int) -> bytes:
        """Called by urllib."""
        _go_on(self._stop)
        return self._file.read(size)


class _Stopped(Exception):  # noqa: N818 - never leaves the module
    """Nobody waits for the transfer any more."""


async def _in_thread(work: Callable[[threading.Event], R]) -> R:
    stop = threading.Event()
    try:
        return await asyncio.to_thread(work, stop)
    finally:
        stop.set()


def _go_on(stop: threading.Event) -> None:
    if stop.is_set():
        raise _Stopped


def _read(answer: Any, *, whole: bool = False) -> bytes:
    try:
        content: bytes = answer.read() if whole else answer.read(_PIECE_BYTES)
    except (OSError, HTTPException) as error:
        raise lost(f"The connection broke: {error}") from error
    return content


def _refused(error: urllib.error.HTTPError) -> MoorlineError:
    body = _read(error, whole=True)
    with suppress(ValueError, KeyError, TypeError, AttributeError):
        return from_error(json.loads(body)["error"])
    return ended_by_status(error.code, dict(error.headers), body).error
