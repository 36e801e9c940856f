"""One executor, reached over gRPC.

Does not know turns, nor the executors beside it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Sequence
from datetime import UTC, timedelta
from typing import Self, TypeAlias

from moorline.errors.v1 import errors_pb2
from moorline.executor.v1 import executions_pb2, feed_pb2, workspaces_pb2
from moorline.transcript.v1 import transcript_pb2
from services.chassis import feed_link
from services.chassis.client import Peer
from services.chassis.failures import Failure
from services.chassis.tasks import Tasks
from services.session.executors.clock import ExecutorClock
from services.session.executors.deliveries import PASSING
from services.session.executors.executor import Listener, Subscription
from services.session.executors.followed import IDENTITY, Followed, execution_name
from services.session.executors.patience import Patience

log = logging.getLogger(__name__)

Update: TypeAlias = executions_pb2.ExecutionUpdate

_EXECUTIONS = "/moorline.executor.v1.ExecutionService/"
_FEED = "/moorline.executor.v1.ExecutionFeedService/"
_WORKSPACES = "/moorline.executor.v1.WorkspaceService/"
_CALL_TIMEOUT = timedelta(seconds=10)
_UNANSWERED = (
    errors_pb2.ERROR_REASON_SERVICE_UNAVAILABLE,
    errors_pb2.ERROR_REASON_CALL_TIMEOUT,
)
_REFUSALS = (
    errors_pb2.ERROR_REASON_DRAINING,
    errors_pb2.ERROR_REASON_EXECUTOR_CAPACITY,
)

_ACKNOWLEDGE_SECONDS = 0.2
_ACKNOWLEDGE_MOST = 1000
"""Acknowledgements in one call; the contract allows no more."""

_REFUSED_SECONDS = 1.0
"""How long an executor that is full or shuts down is not asked again."""

_SHORT_SECONDS = 2.0
"""How long an executor may be away and still be worth waiting for."""

_ABANDONED_SECONDS = 300.0
"""How long an executor that is away is still told what was abandoned."""

_REPEAT_SECONDS = 1.0

_EARLY_SECONDS = 1.0
"""How long what a new execution tells is kept for its listener, who comes at once."""


class ExecutorLink:
    """The way to one executor; a `chassis.pool.Member`.

    Calls are those of `executor.Executors`, without the address.

    Args:
        peer: The peer, not open yet; the link opens and closes it.
        clock: Understands the executor's times.
        unreachable: After so long without the executor its executions are given up.

    Attributes:
        address: Where it is.
    """

    def __init__(self, *, peer: Peer, clock: ExecutorClock, unreachable: timedelta) -> None:
        self.address = peer.target
        self._peer = peer
        self._clock = clock
        self._unreachable = unreachable
        self._tasks = Tasks()
        self._link: feed_link.FeedLink[Update] | None = None
        self._followed: set[Followed] = set()
        # What is followed since its creation and has no listener yet, by execution.
        self._early: dict[str, Followed] = {}
        self._acknowledgements: dict[str, int] = {}
        self._due = asyncio.Event()
        self._hurry = asyncio.Event()
        # Loop time until which each execution is still worth a call.
        self._abandoned: dict[str, float] = {}
        self._left = asyncio.Event()
        # Loop time until which it refuses new executions.
        self._refuses = 0.0

    def open(self) -> Self:
        """Begin to open the feed, and go on trying until it is."""
        self._link = feed_link.FeedLink(
            peer=self._peer.open(),
            open_method=f"{_FEED}OpenFeed",
            open_request=lambda feed_id: feed_pb2.OpenFeedRequest(feed_id=feed_id),
            open_response=feed_pb2.OpenFeedResponse,
            subscribe_method=f"{_FEED}Subscribe",
            unsubscribe_method=f"{_FEED}Unsubscribe",
            split=self._split,
            tasks=self._tasks,
            identity=IDENTITY,
        )
        self._tasks.spawn(self._acknowledge_all(), name="acknowledge")
        self._tasks.spawn(self._give_up(self._link), name="executor-watch")
        self._tasks.spawn(self._cancel_abandoned(), name="executor-abandoned")
        return self

    async def close(self) -> None:
        """Close the feed; executions go on."""
        self._early.clear()
        await self._tasks.close()
        await self._peer.close()

    @property
    def busy(self) -> bool:
        """True while something is followed there or must still be told."""
        return bool(self._followed or self._acknowledgements or self._abandoned)

    @property
    def load(self) -> int:
        """Executions that this process follows there."""
        return len(self._followed)

    @property
    def connected(self) -> bool:
        """True while it can be reached."""
        return self._opened().connected

    @property
    def willing(self) -> bool:
        """True while it can be reached and has not just refused an execution."""
        return self.connected and not self._refusing

    @property
    def promising(self) -> bool:
        """True when it is willing, or away for so short that it may be back at once."""
        since = self._opened().disconnected_since
        if since is None:
            return self.willing
        short = min(_SHORT_SECONDS, self._unreachable.total_seconds() / 4)
        return not self._refusing and asyncio.get_running_loop().time() - since < short

    async def create(self, execution_id: str, execution: executions_pb2.Execution) -> None:
        """Start an execution."""
        if not self.connected:
            # Not sent, so that whoever repeats it knows that nothing was started.
            raise Failure(
                errors_pb2.ERROR_REASON_SERVICE_UNAVAILABLE,
                "The executor cannot be reached. Try again.",
                service="executor",
            )

        async def call(feed_id: str, subscription: int) -> bool:
            response = await self._peer.call(
                f"{_EXECUTIONS}CreateExecution",
                executions_pb2.CreateExecutionRequest(
                    execution_id=execution_id,
                    execution=execution,
                    feed_id=feed_id,
                    subscription=subscription,
                ),
                executions_pb2.CreateExecutionResponse,
                identity=IDENTITY,
                timeout=_CALL_TIMEOUT,
            )
            return response.followed

        followed = Followed(self, execution_id)
        try:
            await followed.begin(self._opened(), call)
        except Failure as failure:
            if failure.reason in _REFUSALS:
                self._refuses = asyncio.get_running_loop().time() + _REFUSED_SECONDS
            if failure.reason not in _UNANSWERED:
                raise
            raise Failure(
                errors_pb2.ERROR_REASON_EXECUTION_LOST,
                "The executor did not answer; the execution may have started.",
            ) from failure
        self._drop_early(execution_id)
        if followed.open:
            # Whoever created it is about to follow it.
            self._early[execution_id] = followed
            loop = asyncio.get_running_loop()
            loop.call_later(_EARLY_SECONDS, self._drop_early, execution_id, followed)

    async def subscribe(self, execution_id: str, listener: Listener) -> Subscription:
        """Follow an execution."""
        followed = self._early.pop(execution_id, None)
        if followed is None or not followed.take(listener):
            followed = Followed(self, execution_id, listener)
            await followed.begin(self._opened())
        if followed.open:
            self._followed.add(followed)
        return followed

    async def cancel(self, execution_id: str, failure: Failure | None = None) -> None:
        """Ask an execution to stop."""
        error = failure.to_error() if failure is not None else None
        await self._peer.call(
            f"{_EXECUTIONS}CancelExecution",
            executions_pb2.CancelExecutionRequest(name=execution_name(execution_id), error=error),
            executions_pb2.CancelExecutionResponse,
            identity=IDENTITY,
            timeout=_CALL_TIMEOUT,
        )

    async def resolve(self, execution_id: str, decision: transcript_pb2.PermissionDecision) -> None:
        """Hand over a permission decision."""
        await self._peer.call(
            f"{_EXECUTIONS}ResolvePermission",
            executions_pb2.ResolvePermissionRequest(
                name=execution_name(execution_id), decision=decision
            ),
            executions_pb2.ResolvePermissionResponse,
            identity=IDENTITY,
            timeout=_CALL_TIMEOUT,
        )

    async def restore(self, request: workspaces_pb2.RestoreTranscriptRequest) -> None:
        """Give it a part of a conversation."""
        await self._peer.call(
            f"{_WORKSPACES}RestoreTranscript",
            request,
            workspaces_pb2.RestoreTranscriptResponse,
            identity=IDENTITY,
            timeout=_CALL_TIMEOUT,
        )

    def acknowledge(self, execution_id: str, sequence: int, *, at_once: bool) -> None:
        """Tell what is durable."""
        self._acknowledgements[execution_id] = sequence
        self._due.set()
        if at_once:
            self._hurry.set()

    def abandon(self, execution_id: str) -> None:
        """See that an execution stops."""
        self._abandoned[execution_id] = asyncio.get_running_loop().time() + _ABANDONED_SECONDS
        self._left.set()

    async def delete_workspace(self, workspace: str) -> None:
        """End what runs in a workspace and delete its files."""
        await self._peer.call(
            f"{_WORKSPACES}DeleteWorkspace",
            workspaces_pb2.DeleteWorkspaceRequest(name=f"workspaces/{workspace}"),
            workspaces_pb2.DeleteWorkspaceResponse,
            identity=IDENTITY,
            timeout=_CALL_TIMEOUT,
        )

    def forget(self, followed: Followed) -> None:
        """Take a closed subscription off."""
        self._followed.discard(followed)
        subscription = followed.subscription
        if self._link is None or subscription is None or not subscription.open:
            return
        if followed.ended:
            self._link.finished(subscription)
        else:
            self._tasks.spawn(self._link.unsubscribe(subscription), name="executor-unsubscribe")

    def _drop_early(self, execution_id: str, only: Followed | None = None) -> None:
        followed = self._early.get(execution_id)
        if followed is not None and only in (None, followed):
            del self._early[execution_id]
            followed.close()

    def translate(self, event: executions_pb2.ExecutionEvent) -> None:
        """Put the database's time in the place of the executor's."""
        when = self._clock.translate(event.create_time.ToDatetime(UTC))
        event.create_time.FromDatetime(when)

    @property
    def _refusing(self) -> bool:
        return asyncio.get_running_loop().time() < self._refuses

    def _opened(self) -> feed_link.FeedLink[Update]:
        if self._link is None:
            raise RuntimeError("the executor link is not open: call `open`")
        return self._link

    def _split(
        self, response: feed_pb2.OpenFeedResponse
    ) -> Iterable[tuple[int, Sequence[Update], errors_pb2.Error | None]]:
        if response.HasField("time"):
            self._clock.observe(response.time.ToDatetime(UTC))
        return ((news.subscription, news.updates, None) for news in response.subscriptions)

    async def _give_up(self, link: feed_link.FeedLink[Update]) -> None:
        """End every subscription when the executor has been away for too long."""
        pause = min(1.0, self._unreachable.total_seconds() / 4)
        patience = Patience(whole=self._unreachable, step=timedelta(seconds=2 * pause))
        since = link.disconnected_since
        while True:
            await asyncio.sleep(pause)
            if link.disconnected_since is None or link.disconnected_since != since:
                since = link.disconnected_since
                patience.begin()
            elif patience.over():
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
            request.acknowledgements.add(name=execution_name(execution_id), sequence=sequence)
        try:
            await self._peer.call(
                f"{_EXECUTIONS}AcknowledgeExecutions",
                request,
                executions_pb2.AcknowledgeExecutionsResponse,
                identity=IDENTITY,
                timeout=_CALL_TIMEOUT,
            )
        except Failure as failure:
            # The executor keeps what was not acknowledged; the next ones cover it.
            log.info("not acknowledged", extra={"reason": failure.reason_name})

    async def _cancel_abandoned(self) -> None:
        """Cancel what was abandoned, as soon as the executor can be reached."""
        loop = asyncio.get_running_loop()
        while True:
            # No time limit: nothing may ever be abandoned.
            await self._left.wait()
            self._left.clear()
            while self._abandoned:
                execution_id, until = next(iter(self._abandoned.items()))
                if await self._cancelled(execution_id) or loop.time() > until:
                    # A later entry of the same execution needs no call either.
                    del self._abandoned[execution_id]
                else:
                    await asyncio.sleep(_REPEAT_SECONDS)

    async def _cancelled(self, execution_id: str) -> bool:
        try:
            await self.cancel(execution_id)
        except Failure as failure:
            # Any other answer says that the execution does not run there.
            return failure.reason not in PASSING
        return True
