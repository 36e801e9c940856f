"""What an executor does first: go on with what the one before it has left, and end the rest.

Does not know how a process outlives its executor, nor what is noted about it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable

from services.executor.backend import Backend, Link
from services.executor.executions import Executions
from services.executor.notes import Note, Notes

log = logging.getLogger(__name__)


async def adopt(*, backends: Iterable[Backend], notes: Notes, executions: Executions) -> None:
    """Take over the executions of an executor that is gone.

    An execution whose process lives goes on under its name. One whose process is gone is
    remembered as lost: it may have used tools that nobody heard of, so that it must not be taken
    for one that never began. Processes without an execution are ended; their conversations are
    resumed when they are needed.

    Called before the first call is served; takes as long as the slowest process to answer.

    Args:
        backends: All of them.
        notes: What the executor before has noted.
        executions: All executions; none yet.
    """
    left = {note.work.workspace: note for note in await notes.read()}
    adopted = await asyncio.gather(
        *(_adopt_from(backend, left, executions) for backend in backends)
    )
    goes_on = {workspace for workspaces in adopted for workspace in workspaces}
    lost = [note for workspace, note in left.items() if workspace not in goes_on]
    for note in lost:
        executions.remember_lost(note)
    if left:
        log.info("executions taken over", extra={"adopted": len(goes_on), "lost": len(lost)})


async def _adopt_from(backend: Backend, left: dict[str, Note], executions: Executions) -> set[str]:
    """Adopt what a backend has left; return the workspaces that go on."""
    survivors = await backend.survivors()
    # A process that reaches the model by a token has lost its way to it.
    noted = [
        left[workspace]
        for workspace in survivors
        if workspace in left
        and left[workspace].work.backend == backend.name
        and backend.link is Link.SOCKET
    ]
    await backend.reap([note.work.workspace for note in noted])
    gone_on = await asyncio.gather(*(executions.adopt(note) for note in noted))
    return {note.work.workspace for note, goes in zip(noted, gone_on, strict=True) if goes}
