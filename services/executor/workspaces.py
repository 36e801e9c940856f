"""The directories agents work in. Does not know who works there."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path


class Workspaces:
    """One directory for each workspace, below one root.

    Args:
        root: Made when it is missing.
    """

    def __init__(self, *, root: Path) -> None:
        self._root = root

    async def make(self, workspace: str) -> Path:
        """Return the directory of a workspace, which exists then.

        Args:
            workspace: A checked id, see `names.workspace_of`.
        """
        directory = self._root / workspace
        await asyncio.to_thread(directory.mkdir, mode=0o700, parents=True, exist_ok=True)
        return directory

    async def delete(self, workspace: str) -> None:
        """Delete a workspace with all its files; absent is fine.

        Links are removed, not followed. Cancelling leaves the deletion running.
        """
        await asyncio.to_thread(_delete, self._root / workspace)


def _delete(directory: Path) -> None:
    if directory.is_symlink():
        directory.unlink()
    elif directory.exists():
        shutil.rmtree(directory)
