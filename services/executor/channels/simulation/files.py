"""Files of a workspace, for the simulated agent's tools. Nothing outside can be reached.

Does not know the wire protocol.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

_READ_LIMIT = 64 << 10
"""What of a tool's output is shown; a longer file's first part, and how long it is, fit in it."""
_NOTE_BYTES = 128
"""Kept free of that for telling how long the file is."""
_PARTS_LIMIT = 64
_PATH_BYTES_LIMIT = 1_024


class ToolError(Exception):
    """Raised when a tool fails; the text is the tool's output."""


def write(workspace: Path, path: str, text: str) -> str:
    """Write a file, with the directories it needs.

    Args:
        workspace: The workspace's directory.
        path: Where in it.
        text: The whole content.

    Returns:
        What the tool says.

    Raises:
        ToolError: The path leaves the workspace, is too long, or names what is no regular file,
            or the file cannot be written.
    """
    target = _inside(workspace, path)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with os.fdopen(_open(target, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), "wb") as file:
            file.write(text.encode())
    except OSError as error:
        raise ToolError(f"The file could not be written: {error.strerror}.") from error
    return f"File written: {path}"


def edit(workspace: Path, path: str, old: str, new: str) -> str:
    """Replace a part of a file.

    Args:
        workspace: The workspace's directory.
        path: Where in it.
        old: The part.
        new: What takes its place.

    Returns:
        What the tool says.

    Raises:
        ToolError: The part is not there once; or as `write`.
    """
    content = _content(workspace, path)
    count = content.count(old)
    if count != 1:
        raise ToolError(f"The text to replace is {count} times in the file, not once.")
    write(workspace, path, content.replace(old, new))
    return f"The file {path} has been updated."


def touch(workspace: Path, path: str) -> None:
    """Make a file that is not there.

    Args:
        workspace: The workspace's directory.
        path: Where in it.

    Raises:
        ToolError: As `write`.
    """
    target = _inside(workspace, path)
    try:
        os.close(_open(target, os.O_WRONLY | os.O_CREAT))
    except OSError as error:
        raise ToolError(f"The file could not be made: {error.strerror}.") from error


def read(workspace: Path, path: str) -> str:
    """Return the content of a file; of one longer than 64 KiB its first part and its size.

    Args:
        workspace: The workspace's directory.
        path: Where in it.

    Raises:
        ToolError: The path leaves the workspace, is too long, or names what is no regular file,
            or the file cannot be read.
    """
    target = _inside(workspace, path)
    try:
        with os.fdopen(_open(target, os.O_RDONLY), "rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size <= _READ_LIMIT:
                return file.read(_READ_LIMIT).decode(errors="replace")
            head = file.read(_READ_LIMIT - _NOTE_BYTES)
    except OSError as error:
        raise ToolError(f"The file could not be read: {error.strerror}.") from error
    return f"{head.decode(errors='replace')}\n[The first {len(head)} of {size} bytes.]"


def _content(workspace: Path, path: str) -> str:
    target = _inside(workspace, path)
    try:
        with os.fdopen(_open(target, os.O_RDONLY), "rb") as file:
            return file.read().decode(errors="replace")
    except OSError as error:
        raise ToolError(f"The file could not be read: {error.strerror}.") from error


def _open(target: Path, flags: int) -> int:
    """Open a regular file; neither this nor what follows waits for another process."""
    # A pipe without a partner would block the thread, which nothing can end.
    descriptor = os.open(target, flags | os.O_NONBLOCK, 0o666)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise ToolError("The path must lead to a regular file.")
    return descriptor


def _inside(workspace: Path, path: str) -> Path:
    """Resolve a path, links included, and refuse one that is too long or ends outside."""
    if len(Path(path).parts) > _PARTS_LIMIT or len(os.fsencode(path)) > _PATH_BYTES_LIMIT:
        raise ToolError(
            f"The path may have {_PARTS_LIMIT} parts and {_PATH_BYTES_LIMIT} bytes at most."
        )
    if "\0" in path or Path(path).is_absolute() or ".." in Path(path).parts:
        raise ToolError("The path must lie inside the workspace.")
    root = workspace.resolve()
    try:
        target = (root / path).resolve()
    except (OSError, RuntimeError) as error:
        raise ToolError("The path cannot be followed.") from error
    if target == root or root not in target.parents:
        raise ToolError("The path must lie inside the workspace.")
    return target
