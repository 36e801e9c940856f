"""The files of an agent as the asynchronous client hands them out.

Knows the calls of the protocol by name, and nothing of sockets.
"""

from __future__ import annotations

import base64
import os
import uuid
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote, urlencode

from moorline.address import server_url
from moorline.calls import Json
from moorline.connection import Connection
from moorline.decoding import last_part
from moorline.exceptions import ConflictError
from moorline.files import File, WorkspaceChanges, file_from, workspace_changes_from
from moorline.paging import read_pages

if TYPE_CHECKING:
    from moorline.transfers import Transfers

PART_BYTES = 192 << 10
"""Bytes of a file in one frame, which is a third larger."""


class AsyncFiles:
    """The files of one agent.

    Paths are relative to its workspace, with `/`. Links are listed and never followed. An
    agent that never ran has no files, and can be given some.
    """

    def __init__(self, connection: Connection, agent: str) -> None:
        self._connection = connection
        self._agent = agent

    async def list(self, path: str = "", *, limit: int | None = None) -> tuple[File, ...]:
        """List a folder, folders first, by name.

        Args:
            path: The folder; empty for the workspace itself.
            limit: At most this many; None for all.

        Raises:
            NotFoundError: It does not exist.
            ConflictError: It is no folder.
        """
        request = {"parent": self._agent, "path": path}
        found = await read_pages(self._connection, "listFiles", request, "files", limit)
        return tuple(file_from(file) for file in found)

    async def read(self, path: str) -> bytes:
        """Read a whole file into memory; `download` saves a large one.

        Raises:
            NotFoundError: It does not exist.
            ConflictError: It is no file, or was changed while it was read.
        """
        first = await self._read(path, 0)
        size, etag = int(first["file"].get("size", 0)), first["file"].get("etag")
        pieces = [_content(first)]
        position = len(pieces[0])
        while pieces[-1] and position < size:
            reply = await self._read(path, position)
            if reply["file"].get("etag") != etag:
                raise ConflictError(
                    f"{path} was changed while it was read.", reason="ETAG_MISMATCH", code=10
                )
            pieces.append(_content(reply))
            position += len(pieces[-1])
        return b"".join(pieces)

    async def write(
        self,
        path: str,
        content: bytes | str,
        *,
        etag: str = "",
        create_only: bool = False,
        executable: bool = False,
    ) -> File:
        """Write a file; it appears, or is replaced, at once and whole.

        Args:
            path: The file; folders above it are made.
            content: What is in it; text becomes UTF-8.
            etag: What the file there must have; empty for anything or nothing.
            create_only: True when there must be nothing.
            executable: True to make it executable.

        Raises:
            ConflictError: There is something else, or it has another etag.
            RateLimitedError: There is no room.
        """
        raw = content.encode() if isinstance(content, str) else content
        parts = [raw[start : start + PART_BYTES] for start in range(0, len(raw), PART_BYTES)]
        parts = parts or [b""]
        request: Json = {
            "parent": self._agent,
            "path": path,
            "etag": etag,
            "createOnly": create_only,
            "executable": executable,
        }
        if len(parts) > 1:
            request["uploadId"] = uuid.uuid4().hex
        offset = 0
        for part in parts[:-1]:
            await self._write({**request, "offset": offset, "more": True}, part)
            offset += len(part)
        # Done twice it would find what it did the first time, and take it for another's.
        repeatable = not (etag or create_only or offset)
        reply = await self._write({**request, "offset": offset}, parts[-1], repeatable=repeatable)
        return file_from(reply["file"])

    async def delete(self, path: str) -> None:
        """Delete a file, a link, or a folder with all that is in it.

        Raises:
            NotFoundError: It does not exist.
        """
        await self._connection.call(
            "deleteFile", {"parent": self._agent, "path": path}, repeatable=False
        )

    async def diff(self) -> WorkspaceChanges:
        """Tell what changed since the running turn began, or else the last one."""
        reply = await self._connection.call("diffFiles", {"parent": self._agent})
        return workspace_changes_from(reply.get("changes", {}))

    async def upload(
        self,
        local: Path | str,
        path: str | None = None,
        *,
        etag: str = "",
        create_only: bool = False,
    ) -> File:
        """Send a local file of any size; it appears, or is replaced, at once and whole.

        Args:
            local: The local file; when it is executable, so is the agent's.
            path: Where to; None for the same name in the workspace itself.
            etag: As for `write`.
            create_only: As for `write`.

        Raises:
            ConflictError: As for `write`.
            RateLimitedError: There is no room.
            OSError: The local file cannot be read.
        """
        local = Path(local)
        headers = {}
        if etag:
            headers["If-Match"] = f'"{etag}"'
        if create_only:
            headers["If-None-Match"] = "*"
        query = "?executable=true" if os.access(local, os.X_OK) else ""
        where = self._file(path or local.name) + query
        return file_from(await self._transfers.send(where, local, headers))

    async def download(self, path: str, local: Path | str | None = None) -> Path:
        """Save a file of any size.

        Args:
            path: The file.
            local: Where to, a file or a folder; None for the same name here. What is there is
                replaced, at once and whole.

        Returns:
            The local file.

        Raises:
            NotFoundError: It does not exist.
            ConflictError: It is no file.
            OSError: The local file cannot be written.
        """
        target = _target(local, last_part(path))
        await self._transfers.receive(self._file(path), target)
        return target

    async def archive(self, local: Path | str | None = None, path: str = "") -> Path:
        """Save a folder as a ZIP archive; links are left out.

        Args:
            local: Where to, a file or a folder; None for `NAME.zip` here.
            path: The folder; empty for the workspace itself.

        Returns:
            The local file.

        Raises:
            NotFoundError: The folder does not exist.
            ConflictError: It has too many files to be packed.
            RateLimitedError: It has too many bytes, or others are being packed.
            OSError: The local file cannot be written.
        """
        target = _target(local, f"{last_part(path) or last_part(self._agent)}.zip")
        query = urlencode({"path": path})
        await self._transfers.receive(f"{self._base}/archive?{query}", target)
        return target

    @property
    def _base(self) -> str:
        return f"/v1/agents/{quote(last_part(self._agent), safe='')}"

    @property
    def _transfers(self) -> Transfers:
        # Here, because what speaks HTTP takes a third of the package's time to be imported.
        from moorline.transfers import Transfers  # noqa: PLC0415

        return Transfers(url=server_url(self._connection.url), token=self._connection.token)

    def _file(self, path: str) -> str:
        return f"{self._base}/files/{quote(path)}"

    async def _read(self, path: str, offset: int) -> Json:
        request = {"parent": self._agent, "path": path, "offset": offset, "length": PART_BYTES}
        return await self._connection.call("readFile", request)

    async def _write(self, request: Json, part: bytes, *, repeatable: bool = True) -> Json:
        content = base64.b64encode(part).decode()
        return await self._connection.call(
            "writeFile", {**request, "content": content}, repeatable=repeatable
        )


def _content(reply: Json) -> bytes:
    return base64.b64decode(reply.get("content", ""))


def _target(local: Path | str | None, name: str) -> Path:
    target = Path(local) if local is not None else Path()
    return target / name if target.is_dir() else target
