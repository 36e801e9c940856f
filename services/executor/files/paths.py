"""Paths as clients send them, and names as clients are shown them.

Does not look at a disk.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TypeAlias

from services.chassis.failures import field_invalid

Parts: TypeAlias = tuple[str, ...]
"""The names on the way from a workspace to a file; none for the workspace itself."""

PATH_BYTES = 4096
"""Longest path, as Linux has it."""
PART_BYTES = 255
"""Longest name in it, as Linux has it."""

_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f\\\"]")
_DRIVE = re.compile(r"[A-Za-z]:")
_RISKY = re.compile(r"[\x00-\x1f\x7f\\%]")


def parse(path: str, *, field: str, root: bool = False) -> Parts:
    """Take a client's path apart.

    Args:
        path: Relative to the workspace, with `/`.
        field: Name of the field, for the error.
        root: True when the empty path, the workspace itself, is fine.

    Raises:
        Failure: FIELD_INVALID.
    """
    if not path and root:
        return ()
    if len(path.encode()) > PATH_BYTES:
        raise field_invalid(field, f"must have at most {PATH_BYTES} bytes")
    parts = tuple(path.split("/"))
    if "\0" in path or not {"", ".", ".."}.isdisjoint(parts):
        raise field_invalid(
            field, "must be relative, without empty parts, `.`, `..` and NUL characters"
        )
    if any(len(part.encode()) > PART_BYTES for part in parts):
        raise field_invalid(field, f"must have at most {PART_BYTES} bytes in each part")
    return parts


def shown(parts: Sequence[str]) -> str:
    r"""Return the path of a file for clients, who can ask for it by that.

    Bytes that are no UTF-8 are shown as `\xHH`: such a file can be seen, and deleted with its
    folder, but not be asked for.
    """
    return "/".join(parts).encode(errors="surrogateescape").decode(errors="backslashreplace")


def quoted(path: str) -> str:
    r"""Return a shown path as one line holds it, with `\n` for a line's end, as git does."""
    if not _UNPRINTABLE.search(path):
        return path
    return '"' + _UNPRINTABLE.sub(_escape, path) + '"'


def packed(parts: Sequence[str]) -> str:
    """Return a file's name in an archive, which stays inside the folder it is unpacked in.

    Also on other systems, where a backslash divides folders and `C:` is a disk.
    """
    first, *others = (_RISKY.sub(_percent, part) for part in shown(parts).split("/"))
    if _DRIVE.match(first):
        first = first.replace(":", "%3A", 1)
    return "/".join((first, *others))


def _escape(found: re.Match[str]) -> str:
    character = found.group()
    known = {"\n": "\\n", "\r": "\\r", "\t": "\\t", "\\": "\\\\", '"': '\\"'}
    return known.get(character) or f"\\x{ord(character):02x}"


def _percent(found: re.Match[str]) -> str:
    return f"%{ord(found.group()):02X}"
