"""The door of `WorkspaceService`. Does not know how files are kept."""

from __future__ import annotations

from typing import Any

import grpc

from moorline.executor.v1 import workspaces_pb2, workspaces_pb2_grpc
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

    async def DeleteWorkspace(
        self, request: workspaces_pb2.DeleteWorkspaceRequest, context: Context
    ) -> workspaces_pb2.DeleteWorkspaceResponse:
        """End what runs in a workspace and delete it."""
        workspace = names.workspace_of(request.name, field="name")
        await self._executions.delete_workspace(workspace)
        return workspaces_pb2.DeleteWorkspaceResponse()
