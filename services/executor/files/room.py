"""How much may be written into a workspace. Does not write."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from moorline.errors.v1 import errors_pb2
from services.chassis.failures import Failure
from services.executor.files.folder import translated
from services.executor.files.scanning import Scan

COUNTED = 100_000
"""Files that are counted; a workspace of more is taken for full."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """Limits for what clients write.

    Attributes:
        file_bytes: Bytes of one file.
        workspace_bytes: Bytes of all files of a workspace; 0 for no limit. Agents themselves are
            not held to it.
        spare_bytes: Bytes of the disk that stay free.
    """

    file_bytes: int
    workspace_bytes: int
    spare_bytes: int

    def check_file(self, size: int) -> None:
        """Check the size of a file.

        Raises:
            Failure: QUOTA_EXCEEDED.
        """
        if size > self.file_bytes:
            raise _full("file_bytes", self.file_bytes, "The file is too large")

    def check_disk(self, root: Path, size: int) -> None:
        """Check that so many bytes more leave enough of the disk free.

        Raises:
            Failure: QUOTA_EXCEEDED.
        """
        with translated(()):
            free = os.statvfs(root)
        if free.f_bavail * free.f_frsize - size < self.spare_bytes:
            raise _full("disk", self.spare_bytes, "The disk of the agents' files is full")

    def check_workspace(self, root: Path, size: int) -> None:
        """Check that a workspace may hold so many bytes more; looks at all its files.

        Raises:
            Failure: QUOTA_EXCEEDED.
        """
        if not self.workspace_bytes:
            return
        scan = Scan(root, limit=COUNTED)
        held = sum(entry.found.st_size for entry in scan if entry.is_file)
        if held + size > self.workspace_bytes or not scan.whole:
            raise _full("workspace_bytes", self.workspace_bytes, "The workspace is full")


def _full(name: str, limit: int, what: str) -> Failure:
    return Failure(
        errors_pb2.ERROR_REASON_QUOTA_EXCEEDED,
        f"{what}; the limit is {limit} bytes. Delete something, or ask the operator.",
        limit=str(limit),
        limitName=name,
    )
