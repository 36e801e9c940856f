"""All executors, each reached over a link of its own.

Does not know turns; only what `executor.Executors` says.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Collection
from datetime import timedelta
from types import TracebackType
from typing import Self

from moorline.errors.v1 import errors_pb2
from moorline.executor.v1 import executions_pb2, workspaces_pb2
from moorline.transcript.v1 import transcript_pb2
from services.chassis.client import Peer
from services.chassis.discovery import Discovery
from services.chassis.failures import Failure
from services.chassis.identity import Signer
from services.chassis.metrics import Metrics
from services.chassis.pool import Pool
from services.session.clock import DatabaseClock
from services.session.executors.clock import ExecutorClock
from services.session.executors.executor import Listener, Subscription
from services.session.executors.link import ExecutorLink

_CHOICES = 2
"""Executors compared for a new execution: enough to spread the load, and few enough
that several session pods, which know their own executions only, do not all choose
the same."""


class ExecutorLinks:
    """The `Executors` behind a discovery; an async context manager.

    Args:
        discovery: Tells which executors there are; open for longer than this.
        signer: Signs whom calls are made for.
        metrics: Gets the durations of calls.
        clock: The database's time.
        monotonic: Seconds of a clock that never steps.
        unreachable: After so long without an executor its executions are given up.
    """

    def __init__(
        self,
        *,
        discovery: Discovery,
        signer: Signer,
        metrics: Metrics,
        clock: DatabaseClock,
        monotonic: Callable[[], float],
        unreachable: timedelta,
    ) -> None:
        self._discovery = discovery
        self._signer = signer
        self._metrics = metrics
        self._clock = clock
        self._monotonic = monotonic
        self._unreachable = unreachable
        self._pool = Pool(discovery=discovery, open=self._open)

    async def __aenter__(self) -> Self:
        """Begin to dial every executor."""
        await self._pool.__aenter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Hang up; executions go on."""
        await self._pool.__aexit__(kind, error, traceback)

    def place(self, *, preferred: str, avoid: Collection[str] = ()) -> str:
        """Return the address to create an execution at; see `executor.Executors`."""
        links = [link for link in self._pool.discovered() if link.address not in avoid]
        for link in links:
            if link.address == preferred and link.promising:
                return preferred
        willing = [link for link in links if link.willing]
        # In random order, so that of two with the same load either is taken.
        choices = random.sample(willing, min(_CHOICES, len(willing)))
        return min(choices, key=lambda link: link.load).address if choices else ""

    def known(self, address: str) -> bool:
        """Tell whether there is such an executor; see `executor.Executors`."""
        return any(link.address == address for link in self._pool.discovered())

    async def create(
        self, address: str, execution_id: str, execution: executions_pb2.Execution
    ) -> None:
        """Start an execution; see `executor.Executors`."""
        await self._pool.get(address).create(execution_id, execution)

    async def subscribe(self, address: str, execution_id: str, listener: Listener) -> Subscription:
        """Follow an execution; see `executor.Executors`."""
        return await self._pool.get(address).subscribe(execution_id, listener)

    async def cancel(self, address: str, execution_id: str, failure: Failure | None = None) -> None:
        """Ask an execution to stop; see `executor.Executors`."""
        await self._pool.get(address).cancel(execution_id, failure)

    async def resolve(
        self, address: str, execution_id: str, decision: transcript_pb2.PermissionDecision
    ) -> None:
        """Hand over a permission decision; see `executor.Executors`."""
        await self._pool.get(address).resolve(execution_id, decision)

    async def restore(self, address: str, request: workspaces_pb2.RestoreTranscriptRequest) -> None:
        """Give an executor a part of a conversation; see `executor.Executors`."""
        await self._pool.get(address).restore(request)

    def acknowledge(self, address: str, execution_id: str, sequence: int, *, at_once: bool) -> None:
        """Tell what is durable; see `executor.Executors`."""
        self._pool.get(address).acknowledge(execution_id, sequence, at_once=at_once)

    def abandon(self, address: str, execution_id: str) -> None:
        """See that an execution stops; see `executor.Executors`."""
        self._pool.get(address).abandon(execution_id)

    async def delete_workspace(self, workspace: str) -> None:
        """Delete a workspace wherever it may be; see `executor.Executors`.

        An executor that is no longer discovered takes its files with it; it is told
        only so that nothing runs there any more.
        """
        wanted = self._pool.discovered()
        if not wanted:
            raise Failure(
                errors_pb2.ERROR_REASON_SERVICE_UNAVAILABLE,
                "No executor is known yet. Try again.",
                service="executor",
            )
        leaving = [
            link
            for link in self._pool.members().values()
            if link.connected and link.address not in self._discovery.addresses
        ]
        answers = await asyncio.gather(
            *(link.delete_workspace(workspace) for link in (*wanted, *leaving)),
            return_exceptions=True,
        )
        for link, answer in zip((*wanted, *leaving), answers, strict=True):
            if isinstance(answer, BaseException) and not (
                link in leaving and isinstance(answer, Failure)
            ):
                raise answer

    def _open(self, address: str) -> ExecutorLink:
        peer = Peer(service="executor", target=address, signer=self._signer, metrics=self._metrics)
        clock = ExecutorClock(database=self._clock, monotonic=self._monotonic)
        return ExecutorLink(peer=peer, clock=clock, unreachable=self._unreachable).open()
