"""Files of a workspace, for the simulated agent's tools. Nothing outside can be reached.

Does not know the wire protocol.
"""

from __future__ import annotations

from pathlib import Path

_READ_LIMIT = 1 << 20


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
        ToolError: The path leaves the workspace, or the file cannot be written.
    """
    target = _inside(workspace, path)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, encoding="utf-8", newline="")
    except OSError as error:
        raise ToolError(f"The file could not be written: {error.strerror}.") from error
    return f"File written: {path}"


def read(workspace: Path, path: str) -> str:
    """Return the content of a file, of its first MiB when it is longer.

    Args:
        workspace: The workspace's directory.
        path: Where in it.

    Raises:
        ToolError: The path leaves the workspace, or the file cannot be read.
    """
    target = _inside(workspace, path)
    try:
        with target.open("rb") as file:
            return file.read(_READ_LIMIT).decode(errors="replace")
    except OSError as error:
        raise ToolError(f"The file could not be read: {error.strerror}.") from error


def _inside(workspace: Path, path: str) -> Path:
    """Resolve a path, links included, and refuse one that ends outside."""
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
