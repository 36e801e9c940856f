"""Sees that what deleted agents leave behind is removed, however long that takes.

Does not know who deletes them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from services.chassis.backoff import Backoff
from services.chassis.failures import Failure
from services.session.agent_deletion import delete_documents
from services.session.agent_record import AgentRecord
from services.session.environment import Environment
from services.session.names import AgentName


class Burials:
    """The deletions of one user's agents whose documents are not all removed.

    Args:
        environment: What it works with.
        lock: Held while documents are removed: nobody may create them meanwhile.
        delete_workspace: Begins to remove the files of an agent that is gone.
        closed: Tells that the next owner sees to it, which finds it in the list of work.
    """

    __slots__ = ("_closed", "_delete_workspace", "_environment", "_lock", "open")

    def __init__(
        self,
        *,
        environment: Environment,
        lock: asyncio.Lock,
        delete_workspace: Callable[[AgentName, str], None],
        closed: Callable[[], bool],
    ) -> None:
        self._environment = environment
        self._lock = lock
        self._delete_workspace = delete_workspace
        self._closed = closed
        self.open = 0
        """How many there are."""

    def begin(self, record: AgentRecord) -> asyncio.Task[None]:
        """Begin to remove what a tombstone has, then its files."""
        self.open += 1
        return self._environment.tasks.spawn(self._clear(record), name="agent-deletion")

    async def finish(self, agent: AgentName, workspace: str) -> None:
        """Remove what an earlier process has left.

        Raises:
            Failure: STORE_UNAVAILABLE.
        """
        async with self._lock:
            await delete_documents(self._environment.store, agent)
        self._delete_workspace(agent, workspace)

    async def _clear(self, record: AgentRecord) -> None:
        backoff = Backoff()
        while not self._closed():
            try:
                async with self._lock:
                    await delete_documents(self._environment.store, record.name)
            except Failure:
                await backoff.pause()
            else:
                break
        self.open -= 1
        if not self._closed():
            self._delete_workspace(record.name, record.workspace)
