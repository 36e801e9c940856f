"""The places agents live in. Does not know who lives there."""

from __future__ import annotations

import asyncio
import os
import shutil
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """What one agent has on this machine.

    Attributes:
        workspace: Id of the workspace.
        files: The agent's files, which its user sees.
        state: What its program keeps: settings and transcripts. Its user does not see it.
        run: Sockets, as long as something runs.
        notes: What the executor keeps about it. The agent does not see it.
    """

    workspace: str
    files: Path
    state: Path
    run: Path
    notes: Path


class Workspaces:
    """One place for each workspace, below one root.

    Args:
        root: Made when it is missing.
    """

    def __init__(self, *, root: Path) -> None:
        self._root = root

    def place(self, workspace: str) -> Place:
        """Return the place of a workspace, whether it is there or not.

        Args:
            workspace: A checked id, see `names.workspace_of`.
        """
        directory = self._root / workspace
        return Place(
            workspace=workspace,
            files=directory / "files",
            state=directory / "state",
            run=directory / "run",
            notes=directory / "notes",
        )

    def names(self) -> list[str]:
        """Return the ids of all workspaces there are. Reads the disk."""
        try:
            with os.scandir(self._root) as entries:
                return [entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]
        except FileNotFoundError:
            return []

    async def make(self, workspace: str) -> Place:
        """Return the place of a workspace, whose folders exist then."""
        place = self.place(workspace)
        await asyncio.to_thread(_make, place)
        return place

    async def delete(self, workspace: str) -> None:
        """Delete a workspace with all it has; absent is fine.

        Links are removed, not followed. Cancelling leaves the deletion running.
        """
        await asyncio.to_thread(_delete, self._root / workspace)


def _make(place: Place) -> None:
    # Whoever may see one agent's folders is told there; nobody sees them from outside.
    place.files.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    for folder in (place.files, place.state, place.run, place.notes):
        folder.mkdir(mode=0o700, exist_ok=True)


def _delete(directory: Path) -> None:
    if directory.is_symlink():
        directory.unlink()
    elif directory.exists():
        shutil.rmtree(directory)
