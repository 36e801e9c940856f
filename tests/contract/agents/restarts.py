"""An executor in a process of its own, which can be killed and started again."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

from google.protobuf.message import Message

from moorline.executor.v1 import executions_pb2
from services.chassis.client import Peer
from services.chassis.failures import Failure
from services.chassis.identity import Identity, Signer
from services.chassis.metrics import Metrics
from services.local.ports import free_port
from tests.contract.agents.turns import Turn
from tests.rooms.tracked import ROOT

R = TypeVar("R", bound=Message)

_KEY = "k" * 32
_SESSION = Identity(user="services/session")
_EXECUTIONS = "/moorline.executor.v1.ExecutionService/"
_CALL = timedelta(seconds=30)
_START_SECONDS = 60


class Restarts:
    """One executor after another, at the same address, with the same workspaces."""

    def __init__(self, *, root: Path, settings: Mapping[str, str], port: int, peer: Peer) -> None:
        self.root = root
        self._settings = settings
        self._port = port
        self._peer = peer
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        """Start the executor; return when it serves."""
        environ = {
            "MOORLINE_IDENTITY_KEY": _KEY,
            "MOORLINE_LISTEN": f"127.0.0.1:{self._port}",
            "MOORLINE_WORKSPACES": str(self.root),
            "MOORLINE_DRAIN_SECONDS": "0.1",
            "PATH": os.defpath,
            **self._settings,
        }
        self._process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "services.executor", cwd=ROOT, env=environ
        )
        async with asyncio.timeout(_START_SECONDS):
            while not await self._peer.healthy(timedelta(seconds=1)):
                assert self._process.returncode is None
                await asyncio.sleep(0.05)

    async def end(self, number: int) -> None:
        """End the executor by a signal, if it runs."""
        if self._process is not None and self._process.returncode is None:
            self._process.send_signal(number)
            await self._process.wait()

    async def call(self, method: str, request: Message, response: type[R]) -> R:
        """Call a method of the execution service."""
        return await self._peer.call(
            _EXECUTIONS + method, request, response, identity=_SESSION, timeout=_CALL
        )

    async def begin(self, execution_id: str, prompt: str, **fields: Any) -> None:
        """Start an execution."""
        execution = executions_pb2.Execution(workspace=f"workspaces/{execution_id[:8]}", **fields)
        execution.prompt.text = prompt
        request = executions_pb2.CreateExecutionRequest(
            execution_id=execution_id, execution=execution
        )
        await self.call("CreateExecution", request, executions_pb2.CreateExecutionResponse)

    async def follow(self, turn: Turn) -> None:
        """Follow an execution to its outcome, through restarts, as the session service does."""
        while "turn_outcome" not in turn.kinds:
            # What is still being written is told anew to whoever comes.
            said = [one.text for one in turn.of("agent_message")]
            turn.shown = {piece: text for piece, text in turn.shown.items() if text in said}
            request = executions_pb2.WatchExecutionRequest(
                name=f"executions/{turn.execution_id}",
                after_sequence=turn.sequences[-1] if turn.sequences else 0,
            )
            response = executions_pb2.WatchExecutionResponse
            try:
                watch = _EXECUTIONS + "WatchExecution"
                async for news in self._peer.stream(watch, request, response, identity=_SESSION):
                    for update in news.updates:
                        turn.hear(update)
            except Failure as failure:
                if failure.reason_name not in {"SERVICE_UNAVAILABLE", "CALL_TIMEOUT"}:
                    raise
                await asyncio.sleep(0.1)

    async def acknowledge(self, turn: Turn) -> None:
        """Tell that all that was heard of an execution is stored."""
        request = executions_pb2.AcknowledgeExecutionsRequest()
        name = f"executions/{turn.execution_id}"
        request.acknowledgements.add(name=name, sequence=turn.sequences[-1])
        response = executions_pb2.AcknowledgeExecutionsResponse
        await self.call("AcknowledgeExecutions", request, response)


@asynccontextmanager
async def restarts(*, root: Path, settings: Mapping[str, str]) -> AsyncIterator[Restarts]:
    """Have an executor that can be restarted while inside; the first one serves.

    Args:
        root: Directory of the workspaces.
        settings: What is different from the defaults, by variable.
    """
    # One that no client's own port can take while the executor is away.
    port = free_port()
    signer, metrics = Signer(key=_KEY), Metrics(service="test")
    target = f"127.0.0.1:{port}"
    async with Peer(service="executor", target=target, signer=signer, metrics=metrics) as peer:
        executor = Restarts(root=root, settings=settings, port=port, peer=peer)
        await executor.start()
        try:
            yield executor
        finally:
            await executor.end(signal.SIGTERM)
