"""The door of `WorkspaceService`: checks requests, calls the logic, builds responses.

Does not know how files are kept.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Sequence
from typing import Any, Protocol

import grpc

from moorline.executor.v1 import workspaces_pb2, workspaces_pb2_grpc
from services.chassis.failures import field_invalid
from services.executor import names
from services.executor.executions import Executions
from services.executor.files import listing, paths
from services.executor.files.placing import Terms
from services.executor.files.workspace_files import Part, WorkspaceFiles

Context = grpc.aio.ServicerContext[Any, Any]

PART_BYTES = 256 << 10
"""Bytes of a part of a file, read or written."""
_MOST = float(1 << 53)
"""Up to here a double holds every whole number."""
_UPLOAD = re.compile(r"([a-z0-9-]{8,64})?")


class Restorer(Protocol):
    """Takes over transcripts."""

    async def restore(
        self, workspace: str, conversation: str, file: str, position: int, entries: Sequence[str]
    ) -> None:
        """Write a part of a transcript where the agent's program looks for it.

        Args:
            workspace: Id of the workspace.
            conversation: The conversation.
            file: As in `TranscriptPart.file`.
            position: Entries before this part.
            entries: One JSON object each.

        Raises:
            Failure: FIELD_INVALID, FILE_UNSUITABLE.
        """
        ...


class WorkspaceApi(workspaces_pb2_grpc.WorkspaceServiceServicer):
    """Serves `WorkspaceService`.

    Args:
        executions: All executions.
        files: The files of all workspaces.
        restorer: Takes over transcripts.
    """

    def __init__(
        self, *, executions: Executions, files: WorkspaceFiles, restorer: Restorer
    ) -> None:
        self._executions = executions
        self._files = files
        self._restorer = restorer

    async def ListFiles(
        self, request: workspaces_pb2.ListFilesRequest, context: Context
    ) -> workspaces_pb2.ListFilesResponse:
        """List a folder."""
        if request.page_size < 0:
            raise field_invalid("page_size", "must not be negative")
        size = min(request.page_size or listing.PAGE, listing.PAGE_LIMIT)
        files, token = await self._files.list(
            _workspace(request.parent),
            paths.parse(request.path, field="path", root=True),
            size=size,
            token=request.page_token,
        )
        return workspaces_pb2.ListFilesResponse(files=files, next_page_token=token)

    async def ReadFile(
        self, request: workspaces_pb2.ReadFileRequest, context: Context
    ) -> workspaces_pb2.ReadFileResponse:
        """Read a part of a file."""
        if request.length < 0:
            raise field_invalid("length", "must not be negative")
        file, content = await self._files.read(
            _workspace(request.parent),
            paths.parse(request.path, field="path"),
            offset=_offset(request.offset),
            length=min(request.length or PART_BYTES, PART_BYTES),
        )
        return workspaces_pb2.ReadFileResponse(file=file, content=content)

    async def WriteFile(
        self, request: workspaces_pb2.WriteFileRequest, context: Context
    ) -> workspaces_pb2.WriteFileResponse:
        """Write a file or a part of one."""
        if len(request.content) > PART_BYTES:
            raise field_invalid("content", f"must have at most {PART_BYTES} bytes")
        if not _UPLOAD.fullmatch(request.upload_id):
            raise field_invalid("upload_id", "must match [a-z0-9-]{8,64}, or be empty")
        offset = _offset(request.offset)
        if not request.upload_id and (offset or request.more):
            raise field_invalid("upload_id", "must be set for a file in parts")
        file = await self._files.write(
            _workspace(request.parent),
            paths.parse(request.path, field="path"),
            Part(
                content=request.content,
                upload_id=request.upload_id,
                offset=offset,
                more=request.more,
            ),
            Terms(
                etag=request.etag,
                create_only=request.create_only,
                executable=request.executable,
            ),
        )
        return workspaces_pb2.WriteFileResponse(file=file)

    async def DeleteFile(
        self, request: workspaces_pb2.DeleteFileRequest, context: Context
    ) -> workspaces_pb2.DeleteFileResponse:
        """Delete what is at a path."""
        workspace = _workspace(request.parent)
        await self._files.delete(workspace, paths.parse(request.path, field="path"))
        return workspaces_pb2.DeleteFileResponse()

    async def DiffFiles(
        self, request: workspaces_pb2.DiffFilesRequest, context: Context
    ) -> workspaces_pb2.DiffFilesResponse:
        """Tell what changed."""
        changes = await self._files.changes(_workspace(request.parent))
        return workspaces_pb2.DiffFilesResponse(changes=changes)

    async def ArchiveFiles(
        self, request: workspaces_pb2.ArchiveFilesRequest, context: Context
    ) -> AsyncIterator[workspaces_pb2.ArchiveFilesResponse]:
        """Pack a folder."""
        workspace = _workspace(request.parent)
        parts = paths.parse(request.path, field="path", root=True)
        async with self._files.archive(workspace, parts) as archive:
            async for content in archive:
                yield workspaces_pb2.ArchiveFilesResponse(content=content)

    async def DeleteWorkspace(
        self, request: workspaces_pb2.DeleteWorkspaceRequest, context: Context
    ) -> workspaces_pb2.DeleteWorkspaceResponse:
        """End what runs in a workspace and delete it."""
        workspace = names.workspace_of(request.name, field="name")
        self._files.close(workspace)
        await self._executions.delete_workspace(workspace)
        return workspaces_pb2.DeleteWorkspaceResponse()

    async def RestoreTranscript(
        self, request: workspaces_pb2.RestoreTranscriptRequest, context: Context
    ) -> workspaces_pb2.RestoreTranscriptResponse:
        """Take over a transcript."""
        workspace = names.workspace_of(request.name, field="name")
        await self._restorer.restore(
            workspace, request.conversation, request.file, request.position, request.entries
        )
        return workspaces_pb2.RestoreTranscriptResponse()


def _workspace(parent: str) -> str:
    return names.workspace_of(parent, field="parent")


def _offset(offset: float) -> int:
    if not 0 <= offset <= _MOST or not offset.is_integer():
        raise field_invalid("offset", "must be a whole number of at most 2^53, and not negative")
    return int(offset)
