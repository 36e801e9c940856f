"""What became of the files of a workspace, as values. Does not know who asks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from moorline.decoding import parse_enum


class ChangeKind(StrEnum):
    """How a file can change."""

    ADDED = "added"
    CHANGED = "changed"
    REMOVED = "removed"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class FileChange:
    """What became of one file.

    Attributes:
        path: Relative to the workspace, with `/`.
        kind: What happened to it.
        added_lines: Lines it has now and had not.
        removed_lines: Lines it had and has not now.
        diff: A unified diff; empty for a file that is not text or too large.
        binary: True when it is not text.
        omitted: True when there is no diff for want of room.
    """

    path: str
    kind: ChangeKind
    added_lines: int = 0
    removed_lines: int = 0
    diff: str = ""
    binary: bool = False
    omitted: bool = False


def changes_from(changes: Mapping[str, Any]) -> tuple[FileChange, ...]:
    """Read the changes of a `transcript.v1.FileChanges`."""
    return tuple(
        FileChange(
            path=change.get("path", ""),
            kind=parse_enum(ChangeKind, change.get("kind", 0), "KIND_"),
            added_lines=change.get("addedLines", 0),
            removed_lines=change.get("removedLines", 0),
            diff=change.get("diff", ""),
            binary=change.get("binary", False),
            omitted=change.get("omitted", False),
        )
        for change in changes.get("changes", ())
    )
