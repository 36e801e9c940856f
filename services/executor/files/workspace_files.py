"""The files of all workspaces, as clients use them. Does not know gRPC."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import partial

from moorline.errors.v1 import errors_pb2
from moorline.executor.v1 import workspaces_pb2
from moorline.transcript.v1 import transcript_pb2
from services.chassis.failures import Failure, not_found
from services.chassis.tasks import Tasks
from services.executor.files import folder, listing, placing, reading, removal, uploads
from services.executor.files.archive import Archive
from services.executor.files.disk import Disk
from services.executor.files.paths import Parts
from services.executor.files.placing import Terms
from services.executor.files.room import Room
from services.executor.files.snapshots import Snapshots
from services.executor.files.uploads import Uploads
from services.executor.place import Place
from services.executor.workspaces import Workspaces

ARCHIVES = 4
"""Archives that are packed at once."""
CLOSED = 10_000
"""Workspaces that are known to have been deleted: those a call may still be on its way to."""
_UPLOADS = "uploads"
_BIN = "bin"
_RETRY_DELAY = timedelta(seconds=5)


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A part of a file that a client writes, or the whole.

    Attributes:
        content: Its bytes.
        upload_id: The file's upload; empty for a file that comes whole.
        offset: Bytes that came before.
        more: Whether more will come.
    """

    content: bytes
    upload_id: str
    offset: int
    more: bool


class WorkspaceFiles:
    """Lists, reads, writes, deletes, compares and packs files.

    Every method takes the id of a workspace, which may be one that never was: it has no files.

    Args:
        workspaces: Where they are.
        disk: Where files are touched.
        snapshots: What turns have changed.
        room: What clients may write.
        archive_bytes: Bytes of the files of one archive.
        tasks: Owner of what is tidied up later.
        clock: Seconds of a clock that does not go back.
    """

    def __init__(
        self,
        *,
        workspaces: Workspaces,
        disk: Disk,
        snapshots: Snapshots,
        room: Room,
        archive_bytes: int,
        tasks: Tasks,
        clock: Callable[[], float],
    ) -> None:
        self._tasks = tasks
        self._workspaces = workspaces
        self._disk = disk
        self._snapshots = snapshots
        self._room = room
        self._archive_bytes = archive_bytes
        self._uploads = Uploads(clock=clock)
        self._archives = 0
        # In the order of their ends.
        self._closed: dict[str, None] = {}
        self._sweeps: dict[str, asyncio.TimerHandle] = {}

    async def list(
        self, workspace: str, parts: Parts, *, size: int, token: str
    ) -> tuple[list[workspaces_pb2.File], str]:
        """Return one page of a folder; see `listing.page`."""
        root = self._workspaces.place(workspace).files
        try:
            return await self._disk.run(
                workspace, listing.page, root, parts, size=size, token=token
            )
        except Failure as failure:
            if not parts and failure.reason == errors_pb2.ERROR_REASON_RESOURCE_NOT_FOUND:
                return [], ""
            raise

    async def read(
        self, workspace: str, parts: Parts, *, offset: int, length: int
    ) -> tuple[workspaces_pb2.File, bytes]:
        """Return a part of a file; see `reading.read`."""
        root = self._workspaces.place(workspace).files
        return await self._disk.run(
            workspace, reading.read, root, parts, offset=offset, length=length
        )

    async def write(
        self, workspace: str, parts: Parts, part: Part, terms: Terms
    ) -> workspaces_pb2.File | None:
        """Write a part of a file; return the file with its last part, and else None.

        Cancelling gives the upload up, whose last part may take effect nevertheless.

        Raises:
            Failure: FIELD_INVALID, QUOTA_EXCEEDED, FILE_UNSUITABLE, RESOURCE_EXISTS,
                ETAG_MISMATCH.
        """
        self._check_open(workspace)
        self._room.check_file(part.offset + len(part.content))
        upload_id = part.upload_id or secrets.token_hex(8)
        if part.upload_id and part.offset:
            upload = self._uploads.get(workspace, upload_id, part.offset)
        else:
            upload = self._uploads.begin(workspace, upload_id, whole=not part.upload_id)
        unfinished = False
        try:
            place = await self._workspaces.make(workspace)
            going_on = partial(self._uploads.names, workspace)
            await self._disk.run(
                workspace, _receive, place, upload.name, part, self._room, going_on
            )
            upload.size = part.offset + len(part.content)
            unfinished = part.more
            if unfinished:
                self._sweep_later(workspace)
                return None
            return await self._disk.run(
                workspace, _finish, place, upload.name, parts, terms, self._room
            )
        finally:
            if not unfinished:
                self._uploads.end(upload_id, upload)
            if workspace in self._closed:
                # It was made again, for nobody.
                await self._workspaces.delete(workspace)

    async def delete(self, workspace: str, parts: Parts) -> None:
        """Delete a file, a link or a folder.

        Raises:
            Failure: RESOURCE_NOT_FOUND, FILE_UNSUITABLE.
        """
        place = self._workspaces.place(workspace)
        await self._disk.run(workspace, _delete, place, parts)

    def close(self, workspace: str) -> None:
        """Refuse to write into a workspace from now on: it is being deleted, for good."""
        self._closed[workspace] = None
        if len(self._closed) > CLOSED:
            del self._closed[next(iter(self._closed))]

    async def changes(self, workspace: str) -> transcript_pb2.FileChanges:
        """Return what changed since the running turn began, or else the last one."""
        return await self._snapshots.changes(self._workspaces.place(workspace))

    @asynccontextmanager
    async def archive(self, workspace: str, parts: Parts) -> AsyncIterator[AsyncIterator[bytes]]:
        """Have the parts of an archive while inside; see `Archive`.

        Raises:
            Failure: RATE_LIMITED, RESOURCE_NOT_FOUND, FILE_UNSUITABLE, QUOTA_EXCEEDED.
        """
        if self._archives >= ARCHIVES:
            raise Failure(
                errors_pb2.ERROR_REASON_RATE_LIMITED,
                "Too many archives are being packed. Try again.",
                retry_delay=_RETRY_DELAY,
                limit=str(ARCHIVES),
                limitName="archives",
            )
        root = self._workspaces.place(workspace).files
        archive = Archive(root, parts, max_bytes=self._archive_bytes)
        self._archives += 1
        try:
            await self._disk.run(workspace, archive.open)
            yield self._packed(workspace, archive)
        finally:
            self._archives -= 1
            await self._disk.run(workspace, archive.close)

    def _sweep_later(self, workspace: str) -> None:
        """Delete what has come of uploads that nobody finishes."""
        if workspace not in self._sweeps:
            loop = asyncio.get_running_loop()
            self._sweeps[workspace] = loop.call_later(
                uploads.PATIENCE_SECONDS + 1, self._begin_sweep, workspace
            )

    def _begin_sweep(self, workspace: str) -> None:
        del self._sweeps[workspace]
        self._tasks.spawn(self._sweep(workspace), name="sweep")

    async def _sweep(self, workspace: str) -> None:
        self._uploads.expire()
        place = self._workspaces.place(workspace)
        with contextlib.suppress(Failure):
            going_on = partial(self._uploads.names, workspace)
            await self._disk.run(workspace, _clear, place, going_on)
        if self._uploads.names(workspace):
            self._sweep_later(workspace)

    def _check_open(self, workspace: str) -> None:
        if workspace in self._closed:
            raise not_found()

    async def _packed(self, workspace: str, archive: Archive) -> AsyncIterator[bytes]:
        while (part := await self._disk.run(workspace, archive.take)) is not None:
            if part:
                yield part


def _receive(
    place: Place, name: str, part: Part, room: Room, going_on: Callable[[], frozenset[str]]
) -> None:
    """Write a part of a file where agents do not see it.

    Args:
        place: The workspace.
        name: The file, among the uploads.
        part: The part.
        room: How much may be written.
        going_on: Returns the names of the workspace's uploads that go on.
    """
    room.check_disk(place.files, len(part.content))
    with folder.beside(place.notes, _UPLOADS) as here, folder.translated(()):
        if not part.offset:
            uploads.clear(here, going_on)
            room.check_workspace(place.files, len(part.content))
        uploads.write(here, name, part.content, part.offset)


def _finish(place: Place, name: str, parts: Parts, terms: Terms, room: Room) -> workspaces_pb2.File:
    with folder.beside(place.notes, _UPLOADS) as here, folder.translated(parts):
        try:
            room.check_workspace(place.files, os.stat(name, dir_fd=here).st_size)
            return placing.place(place.files, here, name, parts, terms)
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(name, dir_fd=here)


def _clear(place: Place, going_on: Callable[[], frozenset[str]]) -> None:
    with folder.beside(place.notes, _UPLOADS) as here:
        uploads.clear(here, going_on)


def _delete(place: Place, parts: Parts) -> None:
    *above, name = parts
    with (
        folder.opened(place.files, above) as here,
        folder.beside(place.notes, _BIN) as bin_,
        folder.translated(parts),
    ):
        removal.remove(here, name, bin_)
