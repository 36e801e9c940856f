"""Reads a part of a file. Does not know why."""

from __future__ import annotations

import os
from pathlib import Path

from moorline.executor.v1 import workspaces_pb2
from services.executor.files import folder
from services.executor.files.listing import described
from services.executor.files.paths import Parts


def read(
    root: Path, parts: Parts, *, offset: int, length: int
) -> tuple[workspaces_pb2.File, bytes]:
    """Return a file as it is, and a part of its content.

    Args:
        root: The workspace's files.
        parts: The file.
        offset: Where the part begins, in bytes.
        length: Bytes of it; it has less only at the file's end.

    Raises:
        Failure: RESOURCE_NOT_FOUND, FILE_UNSUITABLE.
    """
    *above, name = parts
    with (
        folder.opened(root, above) as here,
        folder.reading(here, name, parts) as (file, found),
    ):
        return described(parts, found), read_at(file, offset, length)


def read_at(file: int, offset: int, length: int) -> bytes:
    """Return a part of an open file, less only at its end.

    Raises:
        OSError: As `os.pread`.
    """
    pieces = []
    while length:
        piece = os.pread(file, length, offset)
        if not piece:
            break
        pieces.append(piece)
        offset += len(piece)
        length -= len(piece)
    return b"".join(pieces)
