"""An executor with files in memory, on a real server."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from moorline.executor.v1 import workspaces_pb2, workspaces_pb2_grpc
from services.chassis.failures import Failure, not_found
from services.chassis.identity import Identity, caller
from tests.unit.chassis.service import running

WORKSPACE = "workspaces/abcdefgh"


@dataclass
class FakeExecutor:
    """The files of one workspace.

    Attributes:
        files: Content by path.
        etags: By path.
        archive: Parts of every archive.
        refusals: What the next calls are refused with, by method.
        asked: The methods called, with the request and the identity.
        closed: How many archives were left before their end.
    """

    files: dict[str, bytes] = field(default_factory=dict)
    etags: dict[str, str] = field(default_factory=dict)
    archive: list[bytes] = field(default_factory=list)
    refusals: dict[str, Failure] = field(default_factory=dict)
    asked: list[tuple[str, Any, Identity]] = field(default_factory=list)
    uploads: dict[str, bytes] = field(default_factory=dict)
    closed: int = 0
    target: str = ""

    def note(self, method: str, request: Any) -> None:
        """Keep a call, and refuse it when the test wants that."""
        self.asked.append((method, request, caller()))
        assert WORKSPACE == request.parent
        if method in self.refusals:
            raise self.refusals[method]

    def file(self, path: str) -> workspaces_pb2.File:
        """Describe a file."""
        return workspaces_pb2.File(
            path=path,
            kind=workspaces_pb2.File.KIND_FILE,
            size=len(self.files[path]),
            etag=self.etags.get(path, "e1"),
        )

    def register(self, server: Any) -> None:
        """Add the service to a server."""
        servicer = _Workspaces(self)  # type: ignore[abstract]
        workspaces_pb2_grpc.add_WorkspaceServiceServicer_to_server(servicer, server)


class _Workspaces(workspaces_pb2_grpc.WorkspaceServiceServicer):
    def __init__(self, state: FakeExecutor) -> None:
        self._state = state

    async def ListFiles(self, request: workspaces_pb2.ListFilesRequest, context: Any) -> Any:
        self._state.note("ListFiles", request)
        files = [self._state.file(path) for path in sorted(self._state.files)]
        return workspaces_pb2.ListFilesResponse(files=files)

    async def ReadFile(self, request: workspaces_pb2.ReadFileRequest, context: Any) -> Any:
        self._state.note("ReadFile", request)
        if request.path not in self._state.files:
            raise not_found()
        offset, length = int(request.offset), request.length or 256 << 10
        content = self._state.files[request.path][offset : offset + length]
        return workspaces_pb2.ReadFileResponse(file=self._state.file(request.path), content=content)

    async def WriteFile(self, request: workspaces_pb2.WriteFileRequest, context: Any) -> Any:
        self._state.note("WriteFile", request)
        before = self._state.uploads.pop(request.upload_id, b"") if request.offset else b""
        assert len(before) == request.offset
        whole = before + request.content
        if request.more:
            self._state.uploads[request.upload_id] = whole
            return workspaces_pb2.WriteFileResponse()
        self._state.files[request.path] = whole
        return workspaces_pb2.WriteFileResponse(file=self._state.file(request.path))

    async def ArchiveFiles(
        self, request: workspaces_pb2.ArchiveFilesRequest, context: Any
    ) -> AsyncIterator[workspaces_pb2.ArchiveFilesResponse]:
        self._state.note("ArchiveFiles", request)
        whole = False
        try:
            for part in self._state.archive:
                yield workspaces_pb2.ArchiveFilesResponse(content=part)
            whole = True
        finally:
            self._state.closed += not whole
        if "end" in self._state.refusals:
            raise self._state.refusals["end"]


@asynccontextmanager
async def fake_executor() -> AsyncIterator[FakeExecutor]:
    """Serve a fake executor until the block ends."""
    state = FakeExecutor()
    async with running(state.register) as server:
        state.target = server.target
        yield state
