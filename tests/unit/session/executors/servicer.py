"""An executor behind a real server, which records what it is asked and follows a script."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import grpc

from moorline.errors.v1 import errors_pb2
from moorline.executor.v1 import (
    executions_pb2,
    executions_pb2_grpc,
    feed_pb2,
    feed_pb2_grpc,
    workspaces_pb2,
)
from services.chassis import server
from services.chassis.failures import Failure, not_found
from services.chassis.feed import Feeds
from services.chassis.identity import Checker, caller
from services.chassis.metrics import Metrics
from services.chassis.settings import ServerSettings

KEY = "0123456789abcdef0123456789abcdef"

_WORKSPACES = "moorline.executor.v1.WorkspaceService"


Update = executions_pb2.ExecutionUpdate


class Cursor:
    """A subscription's position in a script; a `chassis.feed.Source`."""

    def __init__(self, script: list[Update], position: int, mark: Callable[[], None]) -> None:
        self.script = script
        self.position = position
        self.mark = mark
        self.done = False

    def take(self, budget: int, news: feed_pb2.SubscribedExecution) -> tuple[int, bool]:
        """See `Source`."""
        news.updates.extend(self.script[self.position :])
        self.position = len(self.script)
        return len(news.updates), False

    def close(self) -> None:
        """See `Source`."""
        self.done = True


@dataclass
class Heard:
    """A listener that remembers."""

    at: int = 0
    resets: int = 0
    news: list[Update] = field(default_factory=list)
    ends: list[Failure] = field(default_factory=list)

    def position(self) -> int:
        """See `Listener`."""
        return self.at

    def reset(self) -> None:
        """See `Listener`."""
        self.resets += 1

    def updates(self, updates: Sequence[Update]) -> None:
        """See `Listener`."""
        self.news += updates
        self.at += len(updates)

    def end(self, failure: Failure) -> None:
        """See `Listener`."""
        self.ends.append(failure)


@dataclass
class Servicer(
    executions_pb2_grpc.ExecutionServiceServicer,
    feed_pb2_grpc.ExecutionFeedServiceServicer,
):
    """An executor that records what it is asked and follows a script."""

    calls: list[tuple[str, Any]] = field(default_factory=list)
    users: set[str] = field(default_factory=set)
    script: list[Update] = field(default_factory=list)
    cursors: list[Cursor] = field(default_factory=list)
    known: bool = True
    refusing: bool = False
    status: grpc.StatusCode | None = None
    refusal: Failure | None = None
    clock_error: timedelta = timedelta(0)
    follows: bool = False
    """Whether creating an execution puts it on the feed."""
    unsubscribed: list[int] = field(default_factory=list)
    feed_ids: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Make the feeds."""
        self.feeds: Feeds[feed_pb2.SubscribedExecution, feed_pb2.OpenFeedResponse] = Feeds(
            response=self._response, empty=self._response
        )

    def say(self, update: Update) -> None:
        """Add to the script."""
        self.script.append(update)
        for cursor in self.cursors:
            cursor.mark()

    def break_feed(self) -> None:
        """End the open feed as a lost connection does."""
        failure = Failure(errors_pb2.ERROR_REASON_SERVICE_UNAVAILABLE, "Broken.")
        self.feeds.get(self.feed_ids[-1]).end(failure)

    def register(self, to: grpc.aio.Server) -> None:
        """Add this to a server."""
        executions_pb2_grpc.add_ExecutionServiceServicer_to_server(self, to)
        feed_pb2_grpc.add_ExecutionFeedServiceServicer_to_server(self, to)
        # Of the workspaces' calls those that a session service makes.
        delete = grpc.unary_unary_rpc_method_handler(
            self.DeleteWorkspace,
            request_deserializer=workspaces_pb2.DeleteWorkspaceRequest.FromString,
            response_serializer=workspaces_pb2.DeleteWorkspaceResponse.SerializeToString,
        )
        handlers = {"DeleteWorkspace": delete}
        to.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(_WORKSPACES, handlers),))

    def _record(self, name: str, request: Any) -> None:
        self.calls.append((name, request))
        self.users.add(caller().user)
        if self.refusing:
            raise not_found()

    async def CreateExecution(self, request: Any, context: Any) -> Any:  # noqa: N802
        """Record the call."""
        self._record("create", request)
        if self.status is not None:
            await context.abort(self.status)
        if self.refusal is not None:
            raise self.refusal
        if self.follows:
            self._follow(request.feed_id, request.subscription, 0)
        return executions_pb2.CreateExecutionResponse(followed=self.follows)

    async def CancelExecution(self, request: Any, context: Any) -> Any:  # noqa: N802
        """Record the call."""
        self._record("cancel", request)
        return executions_pb2.CancelExecutionResponse()

    async def ResolvePermission(self, request: Any, context: Any) -> Any:  # noqa: N802
        """Record the call."""
        self._record("resolve", request)
        return executions_pb2.ResolvePermissionResponse()

    async def AcknowledgeExecutions(self, request: Any, context: Any) -> Any:  # noqa: N802
        """Record the call."""
        self._record("acknowledge", request)
        return executions_pb2.AcknowledgeExecutionsResponse()

    async def DeleteWorkspace(self, request: Any, context: Any) -> Any:  # noqa: N802
        """Record the call."""
        self._record("delete", request)
        return workspaces_pb2.DeleteWorkspaceResponse()

    async def GetExecution(self, request: Any, context: Any) -> Any:  # noqa: N802
        """Is not used."""
        raise not_found()

    async def WatchExecution(self, request: Any, context: Any) -> AsyncIterator[Any]:  # noqa: N802
        """Is not used."""
        raise not_found()
        yield

    async def OpenFeed(self, request: Any, context: Any) -> Any:  # noqa: N802
        """Open a feed."""
        self.feed_ids.append(request.feed_id)
        async for response in self.feeds.open(request.feed_id, caller().user):
            yield response

    async def Subscribe(self, request: Any, context: Any) -> Any:  # noqa: N802
        """Follow the script."""
        self.calls.append(("subscribe", request))
        if not self.known:
            raise not_found()
        self._follow(request.feed_id, request.subscription, request.watch.after_sequence)
        return feed_pb2.SubscribeResponse()

    async def Unsubscribe(self, request: Any, context: Any) -> Any:  # noqa: N802
        """Leave the script."""
        self.unsubscribed.append(request.subscription)
        self.feeds.get(request.feed_id).remove(request.subscription)
        return feed_pb2.UnsubscribeResponse()

    def _follow(self, feed_id: str, subscription: int, after: int) -> None:
        feed = self.feeds.get(feed_id)
        cursor = Cursor(self.script, after, partial(feed.mark, subscription))
        self.cursors.append(cursor)
        feed.add(subscription, cursor)

    def _response(self) -> feed_pb2.OpenFeedResponse:
        response = feed_pb2.OpenFeedResponse()
        response.time.FromDatetime(datetime.now(UTC) + self.clock_error)
        return response


@asynccontextmanager
async def serving(servicer: Servicer, port: int = 0) -> AsyncIterator[int]:
    """Serve until the block ends."""
    listening: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    settings = ServerSettings(listen=f"127.0.0.1:{port}", identity_key=KEY, production=True)
    task = asyncio.ensure_future(
        server.serve(
            settings=settings,
            service="executor",
            register=servicer.register,
            checker=Checker(key=KEY),
            metrics=Metrics(service="executor"),
            draining=servicer.feeds.drain,
            on_listening=listening.set_result,
        )
    )
    try:
        yield await listening
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
