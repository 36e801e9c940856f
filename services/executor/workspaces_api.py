"""The door of `WorkspaceService`. Does not know how files are kept."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import grpc

from moorline.errors.v1 import errors_pb2
from moorline.executor.v1 import workspaces_pb2, workspaces_pb2_grpc
from services.chassis.failures import Failure
from services.executor import names
from services.executor.executions import Executions

Context = grpc.aio.ServicerContext[Any, Any]


class WorkspaceApi(workspaces_pb2_grpc.WorkspaceServiceServicer):
    """Serves `WorkspaceService`.

    Args:
        executions: All executions.
    """

    def __init__(self, *, executions: Executions) -> None:
        self._executions = executions

    async def ListFiles(
        self, request: workspaces_pb2.ListFilesRequest, context: Context
    ) -> workspaces_pb2.ListFilesResponse:
        """List a folder."""
        raise _not_yet()

    async def ReadFile(
        self, request: workspaces_pb2.ReadFileRequest, context: Context
    ) -> workspaces_pb2.ReadFileResponse:
        """Read a part of a file."""
        raise _not_yet()

    async def WriteFile(
        self, request: workspaces_pb2.WriteFileRequest, context: Context
    ) -> workspaces_pb2.WriteFileResponse:
        """Write a file or a part of one."""
        raise _not_yet()

    async def DeleteFile(
        self, request: workspaces_pb2.DeleteFileRequest, context: Context
    ) -> workspaces_pb2.DeleteFileResponse:
        """Delete what is at a path."""
        raise _not_yet()

    async def DiffFiles(
        self, request: workspaces_pb2.DiffFilesRequest, context: Context
    ) -> workspaces_pb2.DiffFilesResponse:
        """Tell what changed."""
        raise _not_yet()

    async def ArchiveFiles(
        self, request: workspaces_pb2.ArchiveFilesRequest, context: Context
    ) -> AsyncIterator[workspaces_pb2.ArchiveFilesResponse]:
        """Pack a folder."""
        raise _not_yet()
        yield

    async def DeleteWorkspace(
        self, request: workspaces_pb2.DeleteWorkspaceRequest, context: Context
    ) -> workspaces_pb2.DeleteWorkspaceResponse:
        """End what runs in a workspace and delete it."""
        workspace = names.workspace_of(request.name, field="name")
        await self._executions.delete_workspace(workspace)
        return workspaces_pb2.DeleteWorkspaceResponse()

    async def RestoreTranscript(
        self, request: workspaces_pb2.RestoreTranscriptRequest, context: Context
    ) -> workspaces_pb2.RestoreTranscriptResponse:
        """Take over a transcript."""
        raise _not_yet()


def _not_yet() -> Failure:
    return Failure(errors_pb2.ERROR_REASON_METHOD_UNKNOWN, "This executor does not serve that.")
