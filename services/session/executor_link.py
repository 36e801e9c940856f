"""The executor, reached over gRPC.

Does not know turns; only what `executor.Executor` says.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Sequence
from datetime import timedelta
from types import TracebackType
from typing import Self, TypeAlias

from moorline.errors.v1 import errors_pb2
from moorline.executor.v1 import backends_pb2, executions_pb2, feed_pb2
from moorline.transcript.v1 import transcript_pb2
from services.chassis import feed_link
from services.chassis.client import Peer
from services.chassis.failures import Failure
from services.chassis.identity import Identity
from services.chassis.tasks import Tasks
from services.session.executor import Listener, Subscription

log = logging.getLogger(__name__)

Update: TypeAlias = executions_pb2.ExecutionUpdate

_EXECUTIONS = "/moorline.executor.v1.ExecutionService/"
_FEED = "/moorline.executor.v1.ExecutionFeedService/"
_WORKSPACES = "/moorline.executor.v1.WorkspaceService/"
_IDENTITY = Identity(user="services/session")
_CALL_TIMEOUT = timedelta(seconds=10)
_ACKNOWLEDGE_SECONDS = 0.2
_UNANSWERED = (
    errors_pb2.ERROR_REASON_SERVICE_UNAVAILABLE,
    errors_pb2.ERROR_REASON_CALL_TIMEOUT,
)
_ACKNOWLEDGE_MOST = 1000
"""Acknowledgements in one call; the contract allows no more."""


class ExecutorLink:
    """An `Executor` behind a peer; an async context manager.

    Args:
        peer: The open peer.
        unreachable: After so long without the executor its executions are given up.
    """

    def __init__(self, *, peer: Peer, unreachable: timedelta) -> None:
        self._peer = peer
        self._unreachable = unreachable.total_seconds()
        self._tasks = Tasks()
        self._link: feed_link.FeedLink[Update] | None = None
        self._followed: set[_Followed] = set()
        self._acknowledgements: dict[str, int] = {}
        self._due = asyncio.Event()
        self._hurry = asyncio.Event()

    async def __aenter__(self) -> Self:
        """Open the feed, and go on trying until it is."""
        await self._tasks.__aenter__()
        self._link = feed_link.FeedLink(
            peer=self._peer,
            open_method=f"{_FEED}OpenFeed",
            open_request=lambda feed_id: feed_pb2.OpenFeedRequest(feed_id=feed_id),
            open_response=feed_pb2.OpenFeedResponse,
            subscribe_method=f"{_FEED}Subscribe",
            unsubscribe_method=f"{_FEED}Unsubscribe",
            split=_split,
            tasks=self._tasks,
            identity=_IDENTITY,
        )
        self._tasks.spawn(self._acknowledge_all(), name="acknowledge")
        self._tasks.spawn(self._give_up(self._link), name="executor-watch")
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close the feed; executions go on."""
        await self._tasks.__aexit__(kind, error, traceback)

    async def create(self, execution_id: str, execution: executions_pb2.Execution) -> None:
        """Start an execution; see `executor.Executor`."""
        if not self._opened().connected:
            # Not sent, so that whoever repeats it knows that nothing was started.
            raise Failure(
                errors_pb2.ERROR_REASON_SERVICE_UNAVAILABLE,
                "The executor cannot be reached. Try again.",
                service="executor",
            )
        try:
            await self._peer.call(
                f"{_EXECUTIONS}CreateExecution",
                executions_pb2.CreateExecutionRequest(
                    execution_id=execution_id, execution=execution
                ),
                executions_pb2.CreateExecutionResponse,
                identity=_IDENTITY,
                timeout=_CALL_TIMEOUT,
            )
        except Failure as failure:
            if failure.reason not in _UNANSWERED:
                raise
            raise Failure(
                errors_pb2.ERROR_REASON_EXECUTION_LOST,
                "The executor did not answer; the execution may have started.",
            ) from failure

    async def subscribe(self, execution_id: str, listener: Listener) -> Subscription:
        """Follow an execution; see `executor.Executor`."""
        link = self._opened()
        followed = _Followed(self, listener)

        def request(feed_id: str, subscription: int) -> feed_pb2.SubscribeRequest:
            return feed_pb2.SubscribeRequest(
                feed_id=feed_id,
                subscription=subscription,
                watch=executions_pb2.WatchExecutionRequest(
                    name=_name(execution_id), after_sequence=listener.position()
                ),
            )

        followed.subscription = await link.subscribe(
            identity=_IDENTITY,
            request=request,
            on_updates=listener.updates,
            on_end=followed.end,
            on_reset=listener.reset,
        )
        if followed.subscription.open:
            self._followed.add(followed)
        return followed

    async def cancel(self, execution_id: str) -> None:
        """Ask an execution to stop; see `executor.Executor`."""
        await self._peer.call(
            f"{_EXECUTIONS}CancelExecution",
            executions_pb2.CancelExecutionRequest(name=_name(execution_id)),
            executions_pb2.CancelExecutionResponse,
            identity=_IDENTITY,
            timeout=_CALL_TIMEOUT,
        )

    async def resolve(self, execution_id: str, decision: transcript_pb2.PermissionDecision) -> None:
        """Hand over a permission decision; see `executor.Executor`."""
        await self._peer.call(
            f"{_EXECUTIONS}ResolvePermission",
            executions_pb2.ResolvePermissionRequest(name=_name(execution_id), decision=decision),
            executions_pb2.ResolvePermissionResponse,
            identity=_IDENTITY,
            timeout=_CALL_TIMEOUT,
        )

    def acknowledge(self, execution_id: str, sequence: int, *, at_once: bool) -> None:
        """Tell what is durable; see `executor.Executor`."""
        self._acknowledgements[execution_id] = sequence
        self._due.set()
        if at_once:
            self._hurry.set()

    async def delete_workspace(self, workspace: str) -> None:
        """Delete a workspace; see `executor.Executor`."""
        await self._peer.call(
            f"{_WORKSPACES}DeleteWorkspace",
            backends_pb2.DeleteWorkspaceRequest(name=f"workspaces/{workspace}"),
            backends_pb2.DeleteWorkspaceResponse,
            identity=_IDENTITY,
            timeout=_CALL_TIMEOUT,
        )

    def forget(self, followed: _Followed) -> None:
        """Take a closed subscription off."""
        self._followed.discard(followed)
        subscription = followed.subscription
        if self._link is not None and subscription is not None and subscription.open:
            self._tasks.spawn(self._link.unsubscribe(subscription), name="executor-unsubscribe")

    def _opened(self) -> feed_link.FeedLink[Update]:
        if self._link is None:
            raise RuntimeError("the executor link is not open: use `async with`")
        return self._link

    async def _give_up(self, link: feed_link.FeedLink[Update]) -> None:
        """End every subscription when the executor has been away for too long."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(min(1.0, self._unreachable / 4))
            since = link.disconnected_since
            if since is None or loop.time() - since < self._unreachable:
                continue
            for followed in list(self._followed):
                followed.close()
                followed.end(
                    Failure(
                        errors_pb2.ERROR_REASON_SERVICE_UNAVAILABLE,
                        "The executor could not be reached for too long.",
                        service="executor",
                    )
                )

    async def _acknowledge_all(self) -> None:
        """Send acknowledgements, one call at a time, most of them joined."""
        while True:
            # No time limit: there may be nothing to acknowledge.
            await self._due.wait()
            self._due.clear()
            self._hurry.clear()
            batch = dict(list(self._acknowledgements.items())[:_ACKNOWLEDGE_MOST])
            for execution_id in batch:
                del self._acknowledgements[execution_id]
            if self._acknowledgements:
                self._due.set()
            await self._send(batch)
            try:
                async with asyncio.timeout(_ACKNOWLEDGE_SECONDS):
                    await self._hurry.wait()
            except TimeoutError:
                continue

    async def _send(self, batch: dict[str, int]) -> None:
        request = executions_pb2.AcknowledgeExecutionsRequest()
        for execution_id, sequence in batch.items():
            request.acknowledgements.add(name=_name(execution_id), sequence=sequence)
        try:
            await self._peer.call(
                f"{_EXECUTIONS}AcknowledgeExecutions",
                request,
                executions_pb2.AcknowledgeExecutionsResponse,
                identity=_IDENTITY,
                timeout=_CALL_TIMEOUT,
            )
        except Failure as failure:
            # The executor keeps what was not acknowledged; the next ones cover it.
            log.info("not acknowledged", extra={"reason": failure.reason_name})


class _Followed:
    """One subscription over the link."""

    __slots__ = ("_link", "_listener", "subscription")

    def __init__(self, link: ExecutorLink, listener: Listener) -> None:
        self._link = link
        self._listener = listener
        self.subscription: feed_link.Subscription[Update] | None = None

    def end(self, failure: Failure) -> None:
        """Pass the end on."""
        self._link.forget(self)
        self._listener.end(failure)

    def close(self) -> None:
        """Stop following; see `executor.Subscription`."""
        self._link.forget(self)


def _name(execution_id: str) -> str:
    return f"executions/{execution_id}"


def _split(
    response: feed_pb2.OpenFeedResponse,
) -> Iterable[tuple[int, Sequence[Update], errors_pb2.Error | None]]:
    return ((news.subscription, news.updates, None) for news in response.subscriptions)
