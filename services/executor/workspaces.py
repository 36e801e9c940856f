"""The places agents live in. Does not know who lives there."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from services.executor.files import removal
from services.executor.files.folder import translated
from services.executor.place import Place

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_RUBBISH = ".rubbish"
"""Folder of workspaces that are being deleted."""

_CLAIM = ".executor"


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

    @contextmanager
    def claimed(self) -> Iterator[bool]:
        """Have the root for ourselves while inside; False when another executor has it.

        What was left there belongs to whoever has it. A claim ends with its process, however that
        ends.
        """
        self._root.mkdir(mode=0o700, parents=True, exist_ok=True)
        claim = os.open(self._root / _CLAIM, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(claim, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            mine = False
        else:
            mine = True
        try:
            yield mine
        finally:
            os.close(claim)

    def names(self) -> list[str]:
        """Return the ids of all workspaces there are. Reads the disk."""
        try:
            with os.scandir(self._root) as entries:
                return [
                    entry.name
                    for entry in entries
                    if entry.is_dir(follow_symlinks=False) and entry.name != _RUBBISH
                ]
        except FileNotFoundError:
            return []

    async def make(self, workspace: str) -> Place:
        """Return the place of a workspace, whose folders exist then.

        Raises:
            Failure: QUOTA_EXCEEDED when the disk is full; FILE_UNSUITABLE, SERVICE_UNAVAILABLE.
        """
        place = self.place(workspace)
        await asyncio.to_thread(_make, place)
        return place

    async def delete(self, workspace: str) -> None:
        """Delete a workspace with all it has; absent is fine.

        Links are removed, not followed. Cancelling leaves the deletion running.
        """
        await asyncio.to_thread(_delete, self._root, workspace)


def _make(place: Place) -> None:
    # Whoever may see one agent's folders is told there; nobody sees them from outside.
    with translated(()):
        place.files.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        for folder in (place.files, place.state, place.run, place.notes):
            folder.mkdir(mode=0o700, exist_ok=True)


def _delete(root: Path, workspace: str) -> None:
    if not root.exists():
        return
    above = os.open(root, _FOLDER)
    try:
        with _rubbish(root / _RUBBISH / workspace) as bin_:
            with contextlib.suppress(FileNotFoundError):
                removal.remove(above, workspace, bin_)
            # What an interruption has left, too.
            removal.empty(bin_)
    finally:
        os.close(above)


@contextmanager
def _rubbish(path: Path) -> Iterator[int]:
    """Have the descriptor of a folder while inside, alone; it is gone afterwards."""
    bin_ = _alone(path)
    while bin_ is None:
        bin_ = _alone(path)
    try:
        yield bin_
        path.rmdir()
    finally:
        os.close(bin_)


def _alone(path: Path) -> int | None:
    """Open a folder for oneself until it is closed; None when somebody took it away meanwhile."""
    with contextlib.suppress(FileExistsError):
        path.mkdir(mode=0o700, parents=True)
    try:
        bin_ = os.open(path, _FOLDER)
    except FileNotFoundError:
        return None
    fcntl.flock(bin_, fcntl.LOCK_EX)
    if os.fstat(bin_).st_nlink:
        return bin_
    os.close(bin_)
    return None
