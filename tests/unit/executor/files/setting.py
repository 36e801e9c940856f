"""The files of workspaces, for tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from services.chassis.failures import Failure
from services.chassis.tasks import Tasks
from services.executor.files.disk import Disk
from services.executor.files.placing import Terms
from services.executor.files.room import Room
from services.executor.files.snapshots import Snapshots
from services.executor.files.workspace_files import Part, WorkspaceFiles
from services.executor.place import Place
from services.executor.workspaces import Workspaces
from tests.unit.executor.files.places import WORKSPACE, reason

ANY = Terms(etag="", create_only=False, executable=False)
ROOM = Room(file_bytes=1000, workspace_bytes=0, spare_bytes=0)


class Setting:
    """The files of workspaces, and a clock."""

    def __init__(self, root: Path, disk: Disk, tasks: Tasks) -> None:
        self.now = 0.0
        self.workspaces = Workspaces(root=root)
        self.disk = disk
        self.tasks = tasks
        self.files = self.make()

    def make(self, limits: Room = ROOM, archive_bytes: int = 10**6) -> WorkspaceFiles:
        """Make them anew."""
        return WorkspaceFiles(
            workspaces=self.workspaces,
            disk=self.disk,
            snapshots=Snapshots(disk=self.disk),
            room=limits,
            archive_bytes=archive_bytes,
            tasks=self.tasks,
            clock=lambda: self.now,
        )

    @property
    def place(self) -> Place:
        """The workspace."""
        return self.workspaces.place(WORKSPACE)

    async def write(self, path: str, content: bytes, terms: Terms = ANY, **part: Any) -> Any:
        """Write a file, or a part."""
        values: dict[str, Any] = {"upload_id": "", "offset": 0, "more": False}
        whole = Part(content=content, **(values | part))
        return await self.files.write(WORKSPACE, tuple(path.split("/")), whole, terms)

    async def refusal(self, path: str, content: bytes, terms: Terms = ANY, **part: Any) -> str:
        """Write something that is refused; why."""
        with pytest.raises(Failure) as caught:
            await self.write(path, content, terms, **part)
        return reason(caught)

    def left(self) -> list[str]:
        """What lies about among the uploads."""
        folder = self.place.notes / "uploads"
        return [path.name for path in folder.iterdir()] if folder.exists() else []
