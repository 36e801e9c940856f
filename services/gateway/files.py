"""Calls about files: the session service says where they are, the executor there answers.

Does not know frames, nor HTTP.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Protocol, TypeVar

from google.protobuf.message import Message

from moorline.executor.v1 import workspaces_pb2
from moorline.session.v1 import sessions_pb2
from services.chassis.failures import field_invalid
from services.chassis.identity import Identity
from services.gateway.calls import Call
from services.gateway.pods import Caller, Pod
from services.gateway.routing import Router

R = TypeVar("R", bound=Message)

METHODS = "/moorline.executor.v1.WorkspaceService/"
"""How the methods begin that are about files."""

_LOCATE = "/moorline.session.v1.SessionService/LocateWorkspace"
_AGENT = re.compile(r"(users/[^/]+)/agents/[^/]+")


class Executor(Caller, Protocol):
    """A process that has workspaces."""

    def stream(
        self,
        method: str,
        request: Message,
        response: type[R],
        *,
        identity: Identity,
        timeout: timedelta | None = None,
    ) -> AsyncGenerator[R, None]:
        """Make a call that streams its answer; `Peer` says more about it."""
        ...


class Executors(Protocol):
    """The executors by their address; `Pool` is one."""

    def get(self, address: str) -> Executor:
        """Return the one at an address, discovered or not."""
        ...


@dataclass(frozen=True, slots=True)
class Whereabouts:
    """Where an agent's files are.

    Attributes:
        workspace: `workspaces/{workspace}`.
        address: The executor's, `host:port`.
    """

    workspace: str
    address: str


class Files:
    """Makes calls about files.

    Args:
        router: Finds the session service's pod for a user.
        executors: Answer the calls.
        timeout: How long a call may take.
    """

    def __init__(self, *, router: Router, executors: Executors, timeout: timedelta) -> None:
        self._router = router
        self._executors = executors
        self._timeout = timeout

    async def locate(self, agent: str, *, identity: Identity) -> Whereabouts:
        """Find an agent's files. Nobody finds those of others.

        Args:
            agent: `users/{user}/agents/{agent}`.
            identity: Who asks.

        Raises:
            Failure: FIELD_INVALID, RESOURCE_NOT_FOUND, SERVICE_UNAVAILABLE.
        """
        name = _AGENT.fullmatch(agent)
        if name is None:
            raise field_invalid("parent", "must be users/{user}/agents/{agent}")
        request = sessions_pb2.LocateWorkspaceRequest(name=agent)

        async def attempt(pod: Pod, left: timedelta) -> sessions_pb2.LocateWorkspaceResponse:
            response = sessions_pb2.LocateWorkspaceResponse
            return await pod.call(_LOCATE, request, response, identity=identity, timeout=left)

        located = await self._router.route(name[1], attempt, timeout=self._timeout)
        return Whereabouts(workspace=located.workspace, address=located.address)

    async def call(self, call: Call, request: Any, *, identity: Identity) -> Message:
        """Make a call whose `parent` is an agent.

        Raises:
            Failure: As `locate`, and what the executor answered.
        """
        loop = asyncio.get_running_loop()
        end = loop.time() + self._timeout.total_seconds()
        place = await self.locate(request.parent, identity=identity)
        left = max(end - loop.time(), _LEAST_SECONDS)
        return await self.ask(
            place,
            call.method.removeprefix(METHODS),
            request,
            call.response,
            identity=identity,
            timeout=timedelta(seconds=left),
        )

    async def ask(
        self,
        place: Whereabouts,
        method: str,
        request: Any,
        response: type[R],
        *,
        identity: Identity,
        timeout: timedelta | None = None,  # noqa: ASYNC109
    ) -> R:
        """Make a call at the executor that has the files.

        Args:
            place: Where they are.
            method: Name of the method.
            request: Its `parent` does not matter.
            response: Class of the answer.
            identity: Whom the call is made for.
            timeout: How long it may take; None for what any call may.

        Raises:
            Failure: What the executor answered; SERVICE_UNAVAILABLE when it cannot be reached.
        """
        return await self._executors.get(place.address).call(
            METHODS + method,
            _moved(request, place),
            response,
            identity=identity,
            timeout=timeout or self._timeout,
        )

    async def archive(
        self, place: Whereabouts, path: str, *, identity: Identity
    ) -> AsyncGenerator[bytes, None]:
        """Pack a folder; closing the iterator stops it.

        Raises:
            Failure: As `ask`.
        """
        request = workspaces_pb2.ArchiveFilesRequest(path=path)
        parts = self._executors.get(place.address).stream(
            METHODS + "ArchiveFiles",
            _moved(request, place),
            workspaces_pb2.ArchiveFilesResponse,
            identity=identity,
        )
        async with aclosing(parts):
            async for part in parts:
                yield part.content


_LEAST_SECONDS = 0.001


def _moved(request: Any, place: Whereabouts) -> Any:
    """Return a request with the name that the executor knows the files by."""
    moved = type(request)()
    moved.CopyFrom(request)
    moved.parent = place.workspace
    return moved
