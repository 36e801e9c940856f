"""Takes over transcripts that another machine has written. Does not know who has them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Sequence
from typing import TypeAlias

from services.executor.backend import Backend, View
from services.executor.executions import Executions
from services.executor.place import Place

Write: TypeAlias = Callable[[Place, View, str, str, int, Sequence[str]], None]
"""Writes a part of a transcript where the agent's program looks for it."""


class Restoring:
    """See `workspaces_api.Restorer`.

    Args:
        executions: All executions.
        backends: All backends.
        write: Does the file work for one way to see a place.
    """

    def __init__(
        self, *, executions: Executions, backends: Collection[Backend], write: Write
    ) -> None:
        self._executions = executions
        self._backends = backends
        self._write = write

    async def restore(
        self, workspace: str, conversation: str, file: str, position: int, entries: Sequence[str]
    ) -> None:
        """Write a part of a transcript, for each backend that may go on with it.

        Raises:
            Failure: FIELD_INVALID, FILE_UNSUITABLE.
        """
        async with self._executions.vacated(workspace) as place:
            # The path of a transcript depends on where a process sees its files.
            views = [one.view(place) for one in self._backends if not one.unavailable]
            for view in {view.files: view for view in views}.values():
                writing = asyncio.ensure_future(
                    asyncio.to_thread(
                        self._write, place, view, conversation, file, position, entries
                    )
                )
                try:
                    await asyncio.shield(writing)
                except asyncio.CancelledError:
                    # The thread goes on; whoever comes next must not be overtaken by it.
                    await asyncio.wait({writing})
                    raise
