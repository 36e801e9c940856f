"""A running executor and a client of it."""

from __future__ import annotations

import asyncio
import os
import signal
import uuid
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import pytest
from google.protobuf.message import Message

from moorline.executor.v1 import executions_pb2, feed_pb2
from moorline.transcript.v1 import transcript_pb2
from services.chassis.client import Peer
from services.chassis.failures import Failure
from services.chassis.identity import Identity

R = TypeVar("R", bound=Message)

KEY = "k" * 32
GUARD_SECONDS = 10
"""In which all is done that does not wait for a test, on the busiest machine."""
SESSION = Identity(user="services/session")
WORKSPACE = "workspaces/abcdefgh"
EXECUTIONS = "/moorline.executor.v1.ExecutionService/"
FEED = "/moorline.executor.v1.ExecutionFeedService/"


class Server:
    """A running executor and a client of it."""

    def __init__(self, *, peer: Peer, serving: asyncio.Task[None], root: Path) -> None:
        self.root = root
        self.serving = serving
        self.target = peer.target
        self._peer = peer
        self._stopping = False

    def stop(self) -> None:
        """Tell the executor to end. Later calls change nothing.

        It runs in the process of the tests, which a second signal would end at once.
        """
        if not self._stopping and not self.serving.done():
            self._stopping = True
            os.kill(os.getpid(), signal.SIGTERM)

    async def ended(self) -> None:
        """Wait until it has ended."""
        async with asyncio.timeout(GUARD_SECONDS):
            await self.serving

    async def call(self, method: str, request: Message, response: type[R]) -> R:
        """Call a method."""
        return await self._peer.call(
            method, request, response, identity=SESSION, timeout=timedelta(seconds=GUARD_SECONDS)
        )

    def stream(self, method: str, request: Message, response: type[R]) -> AsyncIterator[R]:
        """Call a streaming method."""
        return self._peer.stream(method, request, response, identity=SESSION)

    async def create(self, prompt: str, execution_id: str = "e1", **changed: Any) -> Any:
        """Start an execution."""
        values: dict[str, Any] = {"workspace": WORKSPACE}
        execution = executions_pb2.Execution(**(values | changed))
        execution.prompt.text = prompt
        request = executions_pb2.CreateExecutionRequest(
            execution_id=execution_id, execution=execution
        )
        response = await self.call(
            EXECUTIONS + "CreateExecution", request, executions_pb2.CreateExecutionResponse
        )
        return response.execution

    async def create_followed(self, prompt: str, feed_id: str, number: int) -> bool:
        """Start execution e1, to be followed by a feed; return whether it is."""
        execution = executions_pb2.Execution(workspace=WORKSPACE)
        execution.prompt.text = prompt
        request = executions_pb2.CreateExecutionRequest(
            execution_id="e1", execution=execution, feed_id=feed_id, subscription=number
        )
        response = await self.call(
            EXECUTIONS + "CreateExecution", request, executions_pb2.CreateExecutionResponse
        )
        return response.followed

    async def get(self, execution_id: str = "e1") -> executions_pb2.Execution:
        """Return an execution."""
        request = executions_pb2.GetExecutionRequest(name=f"executions/{execution_id}")
        response = await self.call(
            EXECUTIONS + "GetExecution", request, executions_pb2.GetExecutionResponse
        )
        return response.execution

    async def watch(
        self, execution_id: str = "e1", after: int = 0
    ) -> AsyncIterator[executions_pb2.ExecutionUpdate]:
        """Follow an execution."""
        request = executions_pb2.WatchExecutionRequest(
            name=f"executions/{execution_id}", after_sequence=after
        )
        responses = self.stream(
            EXECUTIONS + "WatchExecution", request, executions_pb2.WatchExecutionResponse
        )
        async for response in responses:
            for update in response.updates:
                yield update

    async def items(self, execution_id: str = "e1", after: int = 0) -> list[transcript_pb2.Item]:
        """Return the items of an execution, up to its outcome."""
        updates = self.watch(execution_id, after)
        return [update.event.item async for update in updates if update.HasField("event")]

    async def acknowledge(self, execution_id: str, sequence: int) -> None:
        """Tell that items are stored."""
        request = executions_pb2.AcknowledgeExecutionsRequest()
        request.acknowledgements.add(name=f"executions/{execution_id}", sequence=sequence)
        await self.call(
            EXECUTIONS + "AcknowledgeExecutions",
            request,
            executions_pb2.AcknowledgeExecutionsResponse,
        )

    async def asked(self) -> str:
        """Wait until execution e1 asks for a permission; return the request's id."""
        async for update in self.watch():
            if update.event.item.HasField("permission_request"):
                return update.event.item.permission_request.permission_id
        raise AssertionError("never asked")

    async def resolve(self, permission_id: str, *, allowed: bool, reason: str = "") -> None:
        """Answer a permission request of execution e1."""
        request = executions_pb2.ResolvePermissionRequest(name="executions/e1")
        request.decision.permission_id = permission_id
        request.decision.allowed = allowed
        request.decision.reason = reason
        await self.call(
            EXECUTIONS + "ResolvePermission", request, executions_pb2.ResolvePermissionResponse
        )

    async def cancel(self, execution_id: str = "e1", grace: timedelta | None = None) -> None:
        """Cancel an execution."""
        request = executions_pb2.CancelExecutionRequest(name=f"executions/{execution_id}")
        if grace is not None:
            request.grace_period.FromTimedelta(grace)
        await self.call(
            EXECUTIONS + "CancelExecution", request, executions_pb2.CancelExecutionResponse
        )

    async def open_feed(self) -> tuple[str, AsyncIterator[feed_pb2.OpenFeedResponse]]:
        """Open a feed; return its id and what comes on it."""
        feed_id = str(uuid.uuid4())
        request = feed_pb2.OpenFeedRequest(feed_id=feed_id)
        stream = self.stream(FEED + "OpenFeed", request, feed_pb2.OpenFeedResponse)
        first = await anext(stream)
        assert 0 == len(first.subscriptions)
        return feed_id, stream

    async def subscribe(
        self, feed_id: str, number: int, execution_id: str = "e1", after: int = 0
    ) -> None:
        """Add an execution to a feed."""
        watch = executions_pb2.WatchExecutionRequest(
            name=f"executions/{execution_id}", after_sequence=after
        )
        request = feed_pb2.SubscribeRequest(feed_id=feed_id, subscription=number, watch=watch)
        await self.call(FEED + "Subscribe", request, feed_pb2.SubscribeResponse)

    async def unsubscribe(self, feed_id: str, number: int) -> None:
        """Take an execution off a feed."""
        request = feed_pb2.UnsubscribeRequest(feed_id=feed_id, subscription=number)
        await self.call(FEED + "Unsubscribe", request, feed_pb2.UnsubscribeResponse)


def reason(caught: pytest.ExceptionInfo[Failure]) -> str:
    """Return the reason of a failure."""
    return caught.value.reason_name


def text_of(updates: list[executions_pb2.ExecutionUpdate]) -> dict[str, str]:
    """Return what a client shows after some updates."""
    shown: dict[str, str] = {}
    for update in updates:
        delta = update.delta
        if update.HasField("delta"):
            before = "" if delta.snapshot else shown[delta.block_id]
            shown[delta.block_id] = before + delta.text
        elif update.HasField("message_discarded"):
            del shown[update.message_discarded.block_id]
        elif update.event.item.HasField("agent_message"):
            said = update.event.item.agent_message
            shown[said.block_id] = said.text
    return shown


async def drained(stream: AsyncIterator[feed_pb2.OpenFeedResponse]) -> None:
    """Read a feed to its end; no outcome may come on it."""
    async for response in stream:
        for subscribed in response.subscriptions:
            assert not [one for one in subscribed.updates if one.HasField("event")]
