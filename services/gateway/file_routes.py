"""The HTTP routes for files: download, upload, archive.

Whatever a file holds, it is never shown as a page of this server: an agent may have written it
for just that. Does not know where files are.
"""

from __future__ import annotations

import asyncio
import re
import secrets
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import aclosing, contextmanager
from datetime import timedelta
from urllib.parse import quote

from aiohttp import web
from google.protobuf import json_format

from moorline.errors.v1 import errors_pb2
from moorline.executor.v1 import workspaces_pb2
from services.chassis.failures import Failure, field_invalid
from services.chassis.identity import Identity
from services.gateway.credentials import Credentials
from services.gateway.files import Files, Whereabouts
from services.gateway.http_errors import Refusal, json_response

TRANSFERS = 6
"""Downloads, uploads and archives of one user at once; it is what browsers make to one server."""
PART_BYTES = 256 << 10
"""Bytes of a file that are held for a transfer."""
PART_SECONDS = 30.0
"""How long a client may take for one part."""

_HEADERS = {
    # Should a browser show it nevertheless: as a page of no origin that may do nothing.
    "Content-Security-Policy": "sandbox; default-src 'none'; frame-ancestors 'none'",
    "Cache-Control": "private, no-store",
}
_STATUS = {
    errors_pb2.ERROR_REASON_ETAG_MISMATCH: 412,
    errors_pb2.ERROR_REASON_RESOURCE_EXISTS: 412,
    errors_pb2.ERROR_REASON_QUOTA_EXCEEDED: 413,
}
_RETRY_DELAY = timedelta(seconds=1)
_UPLOAD_BYTES = 16


class FileRoutes:
    """Answers the routes.

    Args:
        credentials: Finds out who makes a request.
        files: Reads and writes.
    """

    def __init__(self, *, credentials: Credentials, files: Files) -> None:
        self._credentials = credentials
        self._files = files
        self._transfers: Counter[str] = Counter()

    def routes(self) -> list[web.RouteDef]:
        """Return every route."""
        return [
            web.get("/v1/agents/{agent}/files/{path:(?s:.+)}", self._download),
            web.put("/v1/agents/{agent}/files/{path:(?s:.+)}", self._upload),
            web.get("/v1/agents/{agent}/archive", self._archive, allow_head=False),
        ]

    async def _download(self, request: web.Request) -> web.StreamResponse:
        proof = await self._credentials.check(request, changes=False)
        identity, path = proof.principal.identity, request.match_info["path"]
        with self._transfer(identity.user), _statuses():
            place = await self._locate(request, identity)
            whole = request.method == "GET" and "Range" not in request.headers
            first = await self._read(place, path, 0, identity, PART_BYTES if whole else 1)
            size, etag = int(first.file.size), f'"{first.file.etag}"'
            span = _span(request, size, etag)
            response = web.StreamResponse(
                headers=_HEADERS
                | {
                    "Content-Type": "application/octet-stream",
                    "Content-Disposition": _attachment(path.rsplit("/", 1)[-1]),
                    "ETag": etag,
                    "Accept-Ranges": "bytes",
                }
            )
            if span is not None:
                response.set_status(206)
                response.headers["Content-Range"] = f"bytes {span.start}-{span[-1]}/{size}"
            wanted = range(size) if span is None else span
            response.content_length = len(wanted)
            sent = wanted if request.method == "GET" else range(0)
            return await _send(request, response, self._parts(place, path, first, sent, identity))

    async def _upload(self, request: web.Request) -> web.StreamResponse:
        proof = await self._credentials.check(request)
        identity, path = proof.principal.identity, request.match_info["path"]
        with self._transfer(identity.user), _statuses():
            place = await self._locate(request, identity)
            wanted = workspaces_pb2.WriteFileRequest(
                path=path,
                etag=_etag(request),
                create_only=request.headers.get("If-None-Match") == "*",
                executable=request.query.get("executable") == "true",
            )
            file = await self._write(place, wanted, request, identity)
            return json_response(json_format.MessageToDict(file))

    async def _archive(self, request: web.Request) -> web.StreamResponse:
        proof = await self._credentials.check(request, changes=False)
        identity, path = proof.principal.identity, request.query.get("path", "")
        with self._transfer(identity.user), _statuses():
            place = await self._locate(request, identity)
            parts = self._files.archive(place, path, identity=identity)
            async with aclosing(parts):
                first = await anext(parts, b"")
                name = path.rsplit("/", 1)[-1] or request.match_info["agent"]
                response = web.StreamResponse(
                    headers=_HEADERS
                    | {
                        "Content-Type": "application/zip",
                        "Content-Disposition": _attachment(f"{name}.zip"),
                    }
                )
                return await _send(request, response, _chain(first, parts))

    @contextmanager
    def _transfer(self, user: str) -> Iterator[None]:
        if self._transfers[user] >= TRANSFERS:
            raise Failure(
                errors_pb2.ERROR_REASON_RATE_LIMITED,
                "You transfer as many files at once as you may. Wait for one to end.",
                retry_delay=_RETRY_DELAY,
                limit=str(TRANSFERS),
                limitName="transfers",
            )
        self._transfers[user] += 1
        try:
            yield
        finally:
            self._transfers[user] -= 1
            if not self._transfers[user]:
                del self._transfers[user]

    async def _locate(self, request: web.Request, identity: Identity) -> Whereabouts:
        agent = f"{identity.user}/agents/{request.match_info['agent']}"
        return await self._files.locate(agent, identity=identity)

    async def _read(
        self, place: Whereabouts, path: str, offset: int, identity: Identity, length: int
    ) -> workspaces_pb2.ReadFileResponse:
        return await self._files.ask(
            place,
            "ReadFile",
            workspaces_pb2.ReadFileRequest(path=path, offset=offset, length=length),
            workspaces_pb2.ReadFileResponse,
            identity=identity,
        )

    async def _parts(
        self,
        place: Whereabouts,
        path: str,
        first: workspaces_pb2.ReadFileResponse,
        wanted: range,
        identity: Identity,
    ) -> AsyncGenerator[bytes, None]:
        offset, content = wanted.start, first.content[wanted.start : wanted.stop]
        while offset < wanted.stop:
            if not content:
                length = min(PART_BYTES, wanted.stop - offset)
                part = await self._read(place, path, offset, identity, length)
                content = part.content
                if part.file.etag != first.file.etag or not content:
                    # Two halves of two files would look whole.
                    raise _broken()
            yield content
            offset += len(content)
            content = b""

    async def _write(
        self,
        place: Whereabouts,
        wanted: workspaces_pb2.WriteFileRequest,
        request: web.Request,
        identity: Identity,
    ) -> workspaces_pb2.File:
        parts = _received(request)
        part, offset = await anext(parts, b""), 0
        async for following in parts:
            if not wanted.upload_id:
                wanted.upload_id = secrets.token_hex(_UPLOAD_BYTES)
            await self._put(place, wanted, part, offset, identity, more=True)
            offset += len(part)
            part = following
        return (await self._put(place, wanted, part, offset, identity, more=False)).file

    async def _put(
        self,
        place: Whereabouts,
        wanted: workspaces_pb2.WriteFileRequest,
        part: bytes,
        offset: int,
        identity: Identity,
        *,
        more: bool,
    ) -> workspaces_pb2.WriteFileResponse:
        # A message for each part: one keeps all that was ever put into it.
        request = workspaces_pb2.WriteFileRequest(content=part, offset=offset, more=more)
        request.MergeFrom(wanted)
        response = workspaces_pb2.WriteFileResponse
        return await self._files.ask(place, "WriteFile", request, response, identity=identity)


@contextmanager
def _statuses() -> Iterator[None]:
    """Answer some failures with the status that HTTP has for them."""
    try:
        yield
    except Failure as failure:
        status = _STATUS.get(failure.reason)
        if status is None:
            raise
        raise Refusal(failure, status=status) from failure


async def _send(
    request: web.Request, response: web.StreamResponse, parts: AsyncGenerator[bytes, None]
) -> web.StreamResponse:
    """Send what comes in parts; a failure on the way cuts the connection.

    An answer that only ended would look whole.
    """
    async with aclosing(parts):
        await response.prepare(request)
        try:
            async for part in parts:
                async with asyncio.timeout(PART_SECONDS):
                    await response.write(part)
            await response.write_eof()
        except (Failure, TimeoutError, ConnectionError):
            if request.transport is not None:
                request.transport.abort()
    return response


async def _chain(first: bytes, rest: AsyncIterator[bytes]) -> AsyncGenerator[bytes, None]:
    yield first
    async for part in rest:
        yield part


async def _received(request: web.Request) -> AsyncGenerator[bytes, None]:
    """Take a body in parts of one size.

    Raises:
        Refusal: The client is too slow.
    """
    gathered = bytearray()
    while True:
        try:
            async with asyncio.timeout(PART_SECONDS):
                piece = await request.content.readany()
        except TimeoutError:
            raise Refusal(field_invalid("body", "arrive in time"), status=408) from None
        if not piece:
            break
        gathered += piece
        while len(gathered) >= PART_BYTES:
            yield bytes(gathered[:PART_BYTES])
            del gathered[:PART_BYTES]
    if gathered:
        yield bytes(gathered)


def _span(request: web.Request, size: int, etag: str) -> range | None:
    """Return which bytes of a file are asked for; None for all of them.

    As RFC 9110 has it, what cannot be understood, or is meant for another state of the file,
    is not heeded. Several spans at once are not, either.

    Raises:
        Refusal: The file has none of these bytes.
    """
    if request.method != "GET" or request.headers.get("If-Range", etag) != etag:
        return None
    try:
        asked = request.http_range
    except ValueError:
        return None
    if asked.start is None:
        return None
    span = range(size)[asked]
    if not span:
        failure = field_invalid("Range", f"must be within the file's {size} bytes")
        raise Refusal(failure, status=416, headers={"Content-Range": f"bytes */{size}"})
    return span


def _etag(request: web.Request) -> str:
    """Return the etag that the file to be replaced must have; empty for any.

    Raises:
        Failure: FIELD_INVALID.
    """
    header = request.headers.get("If-Match", "")
    if not header:
        return ""
    tag = header.removeprefix('"').removesuffix('"')
    if not tag or header != f'"{tag}"' or '"' in tag:
        raise field_invalid("If-Match", "must be one etag in quotes")
    return tag


def _attachment(name: str) -> str:
    """Return the header that makes a browser save a file, under its name."""
    # The first is for programs that know only that one; it must be plain.
    plain = re.sub(r"[^A-Za-z0-9._-]", "_", name)
    exact = quote(name, safe="", errors="replace")
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{exact}"


def _broken() -> Failure:
    return Failure(
        errors_pb2.ERROR_REASON_ETAG_MISMATCH, "The file was changed while it was read. Try again."
    )
