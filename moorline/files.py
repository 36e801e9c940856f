"""Files of an agent's workspace, as values. Does not know how they are read or changed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from moorline.changes import FileChange, changes_from
from moorline.decoding import EPOCH, parse_enum, parse_time


class FileKind(StrEnum):
    """What something in a workspace can be."""

    FILE = "file"
    FOLDER = "folder"
    LINK = "link"
    OTHER = "other"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class File:
    """One file, folder or link.

    Attributes:
        path: Relative to the workspace, with `/`.
        kind: What it is.
        size: Of a file: its bytes.
        update_time: When its content changed last.
        etag: Of a file: changes when its content does.
        target: Of a link: where it points, as it is written there. Nothing follows it.
        executable: Of a file: somebody may execute it.
    """

    path: str
    kind: FileKind = FileKind.UNKNOWN
    size: int = 0
    update_time: datetime = EPOCH
    etag: str = ""
    target: str = ""
    executable: bool = False

    @property
    def name(self) -> str:
        """Last part of the path."""
        return self.path.rpartition("/")[2]


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkspaceChanges:
    """What changed in a workspace since the running turn began, or else the last one.

    Attributes:
        changes: By path.
        omitted_files: Changed files that are not among them, because there are too many.
    """

    changes: tuple[FileChange, ...] = ()
    omitted_files: int = 0


def file_from(file: Mapping[str, Any]) -> File:
    """Read an `executor.v1.File`."""
    return File(
        path=file.get("path", ""),
        kind=parse_enum(FileKind, file.get("kind", 0), "KIND_"),
        size=int(file.get("size", 0)),
        update_time=parse_time(file.get("updateTime")) or EPOCH,
        etag=file.get("etag", ""),
        target=file.get("target", ""),
        executable=file.get("executable", False),
    )


def workspace_changes_from(changes: Mapping[str, Any]) -> WorkspaceChanges:
    """Read a `transcript.v1.FileChanges`."""
    return WorkspaceChanges(
        changes=changes_from(changes), omitted_files=changes.get("omittedFiles", 0)
    )
