"""Puts a whole file in its place, at once. Does not know how it came."""

from __future__ import annotations

import contextlib
import os
import stat
from dataclasses import dataclass
from pathlib import Path

from moorline.errors.v1 import errors_pb2
from moorline.executor.v1 import workspaces_pb2
from services.chassis.failures import Failure
from services.executor.files import folder
from services.executor.files.listing import described, etag_of
from services.executor.files.paths import Parts, shown

_MODE = 0o644
_EXECUTABLE = 0o111


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """When a file may be put somewhere, and how.

    Attributes:
        etag: What the file there must have; empty for anything or nothing.
        create_only: Whether there must be nothing.
        executable: Whether it becomes executable.
    """

    etag: str
    create_only: bool
    executable: bool


def place(root: Path, uploads: int, name: str, parts: Parts, terms: Terms) -> workspaces_pb2.File:
    """Move an uploaded file to its place; the folders above it are made.

    Args:
        root: The workspace's files.
        uploads: Descriptor of the folder of uploads.
        name: The file there.
        parts: Where it goes.
        terms: When, and how.

    Raises:
        Failure: FILE_UNSUITABLE, RESOURCE_EXISTS, ETAG_MISMATCH.
    """
    last = parts[-1]
    with folder.translated(parts):
        _dress(root, uploads, name, terms)
    with folder.made(root, parts[:-1]) as here:
        _check(here, parts, terms)
        with folder.translated(parts):
            if terms.create_only:
                _link(uploads, name, here, parts)
            else:
                # A link there is taken away itself; what it points to stays.
                os.rename(name, last, src_dir_fd=uploads, dst_dir_fd=here)
            return described(parts, os.stat(last, dir_fd=here, follow_symlinks=False))


def _dress(root: Path, uploads: int, name: str, terms: Terms) -> None:
    file = os.open(name, os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=uploads)
    try:
        os.fchmod(file, _MODE | (_EXECUTABLE if terms.executable else 0))
        folder.own(root, file)
    finally:
        os.close(file)


def _check(here: int, parts: Parts, terms: Terms) -> None:
    found = folder.look(here, parts[-1])
    if terms.etag and (found is None or etag_of(found) != terms.etag):
        raise Failure(
            errors_pb2.ERROR_REASON_ETAG_MISMATCH,
            "The file was changed, or is gone. Read it, then try again.",
        )
    if found is None:
        return
    if terms.create_only:
        raise _exists(parts)
    if not stat.S_ISREG(found.st_mode):
        raise folder.unsuitable(parts, "be a file, or nothing, to be written")


def _link(uploads: int, name: str, here: int, parts: Parts) -> None:
    try:
        os.link(name, parts[-1], src_dir_fd=uploads, dst_dir_fd=here, follow_symlinks=False)
    except FileExistsError as error:
        raise _exists(parts) from error
    with contextlib.suppress(FileNotFoundError):
        os.unlink(name, dir_fd=uploads)


def _exists(parts: Parts) -> Failure:
    return Failure(
        errors_pb2.ERROR_REASON_RESOURCE_EXISTS,
        "There is something at this path already.",
        resource=shown(parts),
    )
