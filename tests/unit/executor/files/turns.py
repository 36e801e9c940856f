"""A workspace, and what turns do in it."""

from __future__ import annotations

from moorline.transcript.v1 import transcript_pb2
from services.executor.files.disk import Disk
from services.executor.files.snapshots import Snapshots
from services.executor.place import Place

Change = transcript_pb2.FileChange
ADDED, CHANGED, REMOVED = Change.KIND_ADDED, Change.KIND_CHANGED, Change.KIND_REMOVED


class Turns:
    """One workspace, and the snapshots of it."""

    def __init__(self, place: Place, disk: Disk) -> None:
        self.place = place
        self.root = place.files
        self.disk = disk
        self.snapshots = Snapshots(disk=disk)

    async def take(self) -> None:
        """Begin a turn."""
        await self.snapshots.take(self.place)

    async def found(self) -> transcript_pb2.FileChanges:
        """End it."""
        return await self.snapshots.changes(self.place)

    async def told(self) -> dict[str, tuple[int, int, int]]:
        """What changed: kind, lines added, lines removed, by path."""
        return {
            one.path: (one.kind, one.added_lines, one.removed_lines)
            for one in (await self.found()).changes
        }
