"""What a tool would change in a file, as a unified diff. Does not know requests or answers.

The file is read as it is now, never through a link that an agent has laid.
"""

from __future__ import annotations

import posixpath
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import orjson

from services.chassis.failures import Failure
from services.executor.claude_code import inside
from services.executor.claude_code.pieces import PIECE_BYTES
from services.executor.files import difference

_TEXT_BYTES = 256 << 10
"""A longer text is not compared, before or after: that would hold up everything else. The CLI
reads no longer file at once, either."""
_EDITS = 100
"""Edits of one call that are shown."""

_UNSHOWABLE = (AttributeError, Failure, LookupError, TypeError, ValueError)
"""What an input that makes no sense raises, and a file that is none, or no text."""


def diff_of(tool: str, tool_input: Any, *, files: Path, seen_as: str) -> str:
    """Return what a tool call would change, at most 64 KiB; empty when that cannot be shown.

    Args:
        tool: The tool's name.
        tool_input: What it would be given.
        files: The workspace.
        seen_as: Where the process that runs the tool finds the workspace.
    """
    try:
        path = tool_input.get("notebook_path") or tool_input["file_path"]
        # Outside it begins with two dots, which are the name of no file.
        inner = posixpath.relpath(posixpath.join(seen_as, path), seen_as)
        content = inside.read(files, inner.split("/"), limit=_TEXT_BYTES)
        before = None if content is None else content.decode()
        diff = difference.between(inner, *map(_short, _change(tool, tool_input, before))).diff
    except _UNSHOWABLE:
        return ""
    return diff if len(diff.encode()) <= PIECE_BYTES else ""


_Change = tuple[str | None, str | None]


def _change(tool: str, tool_input: Mapping[str, Any], before: str | None) -> _Change:
    match tool:
        case "Write":
            return before, tool_input["content"]
        case "Edit":
            return before, _edited(before or "", tool_input)
        case "MultiEdit":
            edited = before or ""
            edits = tool_input["edits"]
            if len(edits) > _EDITS:
                raise ValueError("too many")
            for edit in edits:
                edited = _edited(edited, edit)
            return before, edited
        case "NotebookEdit":
            return _cell(before or "", tool_input)
        case _:
            raise ValueError(tool)


def _edited(content: str, edit: Mapping[str, Any]) -> str:
    old, new = edit["old_string"], edit["new_string"]
    if not old and not content:
        return str(new)
    if not old or old not in content:
        raise ValueError("not there")
    times = content.count(old) if edit.get("replace_all") else 1
    if len(content) + times * (len(new) - len(old)) > _TEXT_BYTES:
        raise ValueError("too long")
    return content.replace(old, new, times)


def _short(text: str | None) -> str | None:
    if text is not None and len(text) > _TEXT_BYTES:
        raise ValueError("too long")
    return text


def _cell(content: str, tool_input: Mapping[str, Any]) -> _Change:
    """Return the source of the notebook's cell before and after."""
    mode = tool_input.get("edit_mode") or "replace"
    if mode == "insert":
        return None, tool_input["new_source"]
    new = None if mode == "delete" else tool_input["new_source"]
    for cell in orjson.loads(content)["cells"]:
        if cell.get("id") == tool_input["cell_id"]:
            return "".join(cell["source"]), new
    raise LookupError(tool_input["cell_id"])
