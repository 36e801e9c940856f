"""A running executor, and agents that live on it."""

from __future__ import annotations

import asyncio
import itertools
import os
import signal
import uuid
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

from google.protobuf.message import Message

from moorline.executor.v1 import executions_pb2, workspaces_pb2
from moorline.transcript.v1 import transcript_pb2
from services.chassis.client import Peer
from services.chassis.identity import Identity, Signer
from services.chassis.metrics import Metrics
from services.chassis.settings import load
from services.executor import __main__ as program
from services.executor.settings import Settings
from tests.contract.agents.turns import Turn

R = TypeVar("R", bound=Message)

ASK = executions_pb2.Execution.PERMISSION_MODE_ASK
ACCEPT_EDITS = executions_pb2.Execution.PERMISSION_MODE_ACCEPT_EDITS
ACCEPT_ALL = executions_pb2.Execution.PERMISSION_MODE_ACCEPT_ALL
PLAN = executions_pb2.Execution.PERMISSION_MODE_PLAN

_KEY = "k" * 32
_SESSION = Identity(user="services/session")
_EXECUTIONS = "/moorline.executor.v1.ExecutionService/"
_WORKSPACES = "/moorline.executor.v1.WorkspaceService/"
_CALL = timedelta(seconds=30)


class Executor:
    """A running executor; calls it as the session service does."""

    def __init__(self, *, peer: Peer, root: Path, backend: str) -> None:
        self.root = root
        self.backend = backend
        self._peer = peer
        self.address = peer.target

    def agent(self, **changed: Any) -> Agent:
        """Return a new agent; arguments are fields of all its executions."""
        return Agent(self, f"{uuid.uuid4().hex[:12]}", changed)

    async def call(self, service: str, method: str, request: Message, response: type[R]) -> R:
        """Call a method."""
        return await self._peer.call(
            service + method, request, response, identity=_SESSION, timeout=_CALL
        )

    async def begin(self, execution_id: str, execution: executions_pb2.Execution) -> Turn:
        """Start an execution and follow it."""
        request = executions_pb2.CreateExecutionRequest(
            execution_id=execution_id, execution=execution
        )
        response = executions_pb2.CreateExecutionResponse
        turn = Turn(execution_id)
        await self.call(_EXECUTIONS, "CreateExecution", request, response)
        turn.follower = asyncio.ensure_future(self._follow(turn))
        return turn

    async def _follow(self, turn: Turn) -> None:
        request = executions_pb2.WatchExecutionRequest(name=f"executions/{turn.execution_id}")
        response = executions_pb2.WatchExecutionResponse
        method = _EXECUTIONS + "WatchExecution"
        async for news in self._peer.stream(method, request, response, identity=_SESSION):
            for update in news.updates:
                turn.hear(update)
            if turn.sequences:
                await self._acknowledge(turn)

    async def _acknowledge(self, turn: Turn) -> None:
        request = executions_pb2.AcknowledgeExecutionsRequest()
        name = f"executions/{turn.execution_id}"
        request.acknowledgements.add(name=name, sequence=turn.sequences[-1])
        response = executions_pb2.AcknowledgeExecutionsResponse
        await self.call(_EXECUTIONS, "AcknowledgeExecutions", request, response)

    async def decide(self, turn: Turn, decision: transcript_pb2.PermissionDecision) -> None:
        """Hand a decision over."""
        request = executions_pb2.ResolvePermissionRequest(
            name=f"executions/{turn.execution_id}", decision=decision
        )
        response = executions_pb2.ResolvePermissionResponse
        await self.call(_EXECUTIONS, "ResolvePermission", request, response)

    async def cancel(self, turn: Turn) -> None:
        """Cancel an execution."""
        request = executions_pb2.CancelExecutionRequest(name=f"executions/{turn.execution_id}")
        response = executions_pb2.CancelExecutionResponse
        await self.call(_EXECUTIONS, "CancelExecution", request, response)

    async def restore(self, workspace: str, conversation: str, file: str, *lines: str) -> None:
        """Give the executor a file of an agent's transcript."""
        request = workspaces_pb2.RestoreTranscriptRequest(
            name=f"workspaces/{workspace}", conversation=conversation, file=file, entries=lines
        )
        response = workspaces_pb2.RestoreTranscriptResponse
        await self.call(_WORKSPACES, "RestoreTranscript", request, response)

    async def delete(self, workspace: str) -> None:
        """Delete a workspace, and what runs there."""
        request = workspaces_pb2.DeleteWorkspaceRequest(name=f"workspaces/{workspace}")
        response = workspaces_pb2.DeleteWorkspaceResponse
        await self.call(_WORKSPACES, "DeleteWorkspace", request, response)


class Agent:
    """One agent: its workspace, and the conversation so far."""

    def __init__(self, executor: Executor, workspace: str, fields: Mapping[str, Any]) -> None:
        self.workspace = workspace
        self.executor = executor
        """May be changed to another one, as when a user comes back elsewhere."""
        self.transcript: dict[str, list[str]] = {}
        """What was heard of its transcript, by file."""
        self.conversation = ""
        self.last_entry = ""
        self._fields = fields
        self._numbers = itertools.count(1)

    @property
    def files(self) -> Path:
        """Its files, as seen from outside."""
        return self.executor.root / self.workspace / "files"

    async def begin(self, *script: str, **changed: Any) -> Turn:
        """Give it a prompt, the lines of which are joined."""
        execution = executions_pb2.Execution(
            backend=self.executor.backend,
            workspace=f"workspaces/{self.workspace}",
            resume_from=self.conversation,
            last_entry=self.last_entry,
            **{"tenant": self.workspace, **self._fields, **changed},
        )
        if not execution.background:
            execution.prompt.text = "\n".join(script)
        return await self.executor.begin(f"{self.workspace}-{next(self._numbers)}", execution)

    async def end(self, turn: Turn) -> Turn:
        """Wait for the end of a turn, and remember what the next one needs."""
        await turn.over()
        if turn.follower is not None:
            await turn.follower
        self.conversation = turn.conversation
        for part in turn.parts:
            self.transcript.setdefault(part.file, []).extend(part.entries)
            if not part.file:
                self.last_entry = part.last_entry
        return turn

    async def run(self, *script: str, **changed: Any) -> Turn:
        """Give it a prompt, and wait for the end of the turn."""
        return await self.end(await self.begin(*script, **changed))

    async def asked(self, turn: Turn, number: int = 1) -> transcript_pb2.PermissionRequest:
        """Wait for the n-th request of a turn."""
        request: transcript_pb2.PermissionRequest = await turn.item("permission_request", number)
        return request

    async def allow(self, turn: Turn, request: Any, **more: Any) -> None:
        """Allow what is asked for."""
        decision = transcript_pb2.PermissionDecision(
            permission_id=request.permission_id, allowed=True, **more
        )
        await self.executor.decide(turn, decision)

    async def refuse(self, turn: Turn, request: Any, reason: str = "") -> None:
        """Refuse what is asked for."""
        decision = transcript_pb2.PermissionDecision(
            permission_id=request.permission_id, allowed=False, reason=reason
        )
        await self.executor.decide(turn, decision)

    async def cancel(self, turn: Turn) -> None:
        """Cancel a turn."""
        await self.executor.cancel(turn)


@asynccontextmanager
async def serve(
    *, root: Path, backend: str, settings: Mapping[str, str]
) -> AsyncIterator[Executor]:
    """Run an executor while inside.

    Args:
        root: Directory of the workspaces.
        backend: Where its agents run.
        settings: What is different from the defaults, by variable.
    """
    environ = {
        "MOORLINE_IDENTITY_KEY": _KEY,
        "MOORLINE_LISTEN": "127.0.0.1:0",
        "MOORLINE_WORKSPACES": str(root),
        # Most of it is for ending processes.
        "MOORLINE_DRAIN_SECONDS": "3",
        "PATH": os.defpath,
        "DISABLE_DOCKER": "true",
        **settings,
    }
    port: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    serving = asyncio.ensure_future(
        program.main(load(Settings, environ), on_listening=port.set_result)
    )
    both: set[asyncio.Future[Any]] = {port, serving}
    await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
    if serving.done():
        await serving
    target = f"127.0.0.1:{await port}"
    signer, metrics = Signer(key=_KEY), Metrics(service="test")
    try:
        async with Peer(service="executor", target=target, signer=signer, metrics=metrics) as peer:
            yield Executor(peer=peer, root=root, backend=backend)
    finally:
        if not serving.done():
            os.kill(os.getpid(), signal.SIGTERM)
        async with asyncio.timeout(20):
            await serving
