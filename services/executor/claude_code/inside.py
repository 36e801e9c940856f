"""Reads and writes whole files below a folder that an agent can write to; follows no links.

Does not know what is in the files.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from moorline.errors.v1 import errors_pb2
from services.chassis.failures import Failure
from services.executor.files import folder

LINES = 1_000_000
"""Lines of a file that is read by lines."""

_PIECE = 1 << 20
_PART = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


def read(root: Path, parts: Sequence[str], *, limit: int) -> bytes | None:
    """Return the content of a regular file; None when there is none.

    Args:
        root: The folder; trusted itself.
        parts: The way to the file, one name each; at least one.
        limit: Bytes it may have.

    Raises:
        Failure: FILE_UNSUITABLE when something else is there or on the way, or when it is longer.
    """
    try:
        with _opened(root, parts) as (file, _):
            content = file.read(limit + 1)
    except Failure as failure:
        if failure.reason == errors_pb2.ERROR_REASON_RESOURCE_NOT_FOUND:
            return None
        raise
    if len(content) > limit:
        raise folder.unsuitable(parts, f"have {limit} bytes at most")
    return content


def lines(root: Path, parts: Sequence[str], *, limit: int) -> Iterator[bytes]:
    """Return the lines of a regular file that are not empty, one at a time; none of no file.

    Args:
        root: The folder; trusted itself.
        parts: The way to the file, one name each; at least one.
        limit: Bytes the file may have.

    Raises:
        Failure: FILE_UNSUITABLE when something else is there or on the way, when it is longer, or
            has more than `LINES` lines.
    """
    try:
        with _opened(root, parts) as (file, size):
            if size > limit:
                raise folder.unsuitable(parts, f"have {limit} bytes at most")
            for number, line in enumerate(_lines(file, limit)):
                if number >= LINES:
                    raise folder.unsuitable(parts, f"have {LINES} lines at most")
                yield line
    except Failure as failure:
        if failure.reason != errors_pb2.ERROR_REASON_RESOURCE_NOT_FOUND:
            raise


@contextmanager
def _opened(root: Path, parts: Sequence[str]) -> Iterator[tuple[IO[bytes], int]]:
    """Have a regular file and its size while inside.

    Raises:
        Failure: RESOURCE_NOT_FOUND, FILE_UNSUITABLE.
    """
    _check(parts)
    *way, name = parts
    with (
        folder.opened(root, way) as above,
        folder.reading(above, name, tuple(parts)) as (descriptor, found),
        os.fdopen(os.dup(descriptor), "rb") as file,
    ):
        yield file, found.st_size


def _lines(file: IO[bytes], left: int) -> Iterator[bytes]:
    # A long line comes in many pieces, which are put together once.
    begun: list[bytes] = []
    while piece := file.read(min(_PIECE, left)):
        left -= len(piece)
        head, end, rest = piece.partition(b"\n")
        begun.append(head)
        if end:
            *whole, last = rest.split(b"\n")
            yield from filter(None, (b"".join(begun), *whole))
            begun = [last]
    yield from filter(None, (b"".join(begun),))


def write(root: Path, parts: Sequence[str], content: bytes) -> None:
    """Write a file, with the folders it needs; it belongs to whom `root` belongs to.

    Args:
        root: The folder; trusted itself.
        parts: The way to the file, one name each; at least one.
        content: The whole content.

    Raises:
        Failure: FILE_UNSUITABLE when something else is there or on the way; QUOTA_EXCEEDED.
    """
    _check(parts)
    *way, name = parts
    # Under a name of its own first, so that a reader finds all or nothing.
    part = f".{name}.part"
    with folder.made(root, tuple(way)) as above, folder.translated(parts):
        if folder.look(above, part) is not None:
            os.unlink(part, dir_fd=above)
        with os.fdopen(os.open(part, _PART, 0o600, dir_fd=above), "wb") as file:
            folder.own(root, file.fileno())
            file.write(content)
        os.rename(part, name, src_dir_fd=above, dst_dir_fd=above)


def _check(parts: Sequence[str]) -> None:
    for part in parts:
        if part in {"", ".", ".."} or "/" in part or "\0" in part:
            raise folder.unsuitable(parts, "lead to a file within")
