"""What files look like to clients, and what a folder holds. Does not change anything."""

from __future__ import annotations

import base64
import binascii
import hashlib
import heapq
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import TypeAlias

from google.protobuf import timestamp_pb2

from moorline.executor.v1 import workspaces_pb2
from services.chassis.failures import field_invalid
from services.executor.files import folder
from services.executor.files.paths import Parts, shown

PAGE = 500
"""Entries of a page when the client does not care."""
PAGE_LIMIT = 2000
"""Entries of a page at most."""
PAGE_BYTES = 1 << 20
"""Bytes of a page, beyond which it has fewer entries: names and links can be long."""
FOLDER_LIMIT = 100_000
"""Entries of a folder that is listed: each page looks at all of them."""

File = workspaces_pb2.File
_Key: TypeAlias = tuple[bool, str]
"""Whether it is anything but a folder, and its name: the order of a listing."""


def kind_of(mode: int) -> workspaces_pb2.File.Kind.ValueType:
    """Return what something is."""
    if stat.S_ISREG(mode):
        return File.KIND_FILE
    if stat.S_ISDIR(mode):
        return File.KIND_FOLDER
    return File.KIND_LINK if stat.S_ISLNK(mode) else File.KIND_OTHER


def etag_of(found: os.stat_result) -> str:
    """Return what changes when a file's content does: any write changes its `ctime`."""
    facts = (found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)
    return hashlib.sha256(repr(facts).encode()).hexdigest()[:16]


def described(parts: Parts, found: os.stat_result, target: str = "") -> workspaces_pb2.File:
    """Return a file as clients see it.

    Args:
        parts: Where it is.
        found: What it is.
        target: Where it points to, of a link.
    """
    kind = kind_of(found.st_mode)
    seconds, nanos = divmod(found.st_mtime_ns, 10**9)
    file = File(
        path=shown(parts),
        kind=kind,
        # Times before the year 1 and after 9999 can be set, and cannot be told.
        update_time=timestamp_pb2.Timestamp(
            seconds=min(max(seconds, _FIRST_SECOND), _LAST_SECOND), nanos=nanos
        ),
        target=shown((target,)),
    )
    if kind == File.KIND_FILE:
        file.size = found.st_size
        file.etag = etag_of(found)
        file.executable = bool(found.st_mode & 0o111)
    return file


_FIRST_SECOND = -62_135_596_800
_LAST_SECOND = 253_402_300_799


def page(
    root: Path, parts: Parts, *, size: int, token: str
) -> tuple[list[workspaces_pb2.File], str]:
    """Return one page of a folder, folders first, and the token of the next page.

    Args:
        root: The workspace's files.
        parts: The folder.
        size: Entries, at least 1.
        token: Of this page; empty for the first one.

    Raises:
        Failure: FIELD_INVALID, RESOURCE_NOT_FOUND, FILE_UNSUITABLE.
    """
    after = _position(token)
    with folder.opened(root, parts) as here:
        wanted = heapq.nsmallest(size + 1, (key for key in _keys(here, parts) if key > after))
        files: list[workspaces_pb2.File] = []
        room = PAGE_BYTES
        for number, key in enumerate(wanted[:size], 1):
            file = _described(here, parts, key)
            if file is not None:
                files.append(file)
                room -= file.ByteSize()
            if number < len(wanted) and (number == size or room < 0):
                return files, _token(key)
    return files, ""


def _keys(here: int, parts: Parts) -> Iterator[_Key]:
    with os.scandir(here) as entries:
        for number, entry in enumerate(entries):
            if number >= FOLDER_LIMIT:
                raise folder.unsuitable(parts, f"have at most {FOLDER_LIMIT} entries to be listed")
            yield (not entry.is_dir(follow_symlinks=False), entry.name)


def _described(here: int, parts: Parts, key: _Key) -> workspaces_pb2.File | None:
    name = key[1]
    found = folder.look(here, name)
    if found is None:
        return None
    return described((*parts, name), found, target_of(here, name, found))


def target_of(here: int, name: str, found: os.stat_result) -> str:
    """Return where a link points to; empty for what is no link."""
    if not stat.S_ISLNK(found.st_mode):
        return ""
    try:
        return os.readlink(name, dir_fd=here)
    except OSError:
        # It was exchanged for something else, or is gone.
        return ""


def _position(token: str) -> _Key:
    if not token:
        return (False, "")
    try:
        decoded = base64.b64decode(token, altchars=b"-_", validate=True)
    except (binascii.Error, ValueError) as error:
        raise _token_invalid() from error
    kind, name = decoded[:1], decoded[1:]
    if kind not in (b"d", b"f") or not name:
        raise _token_invalid()
    return (kind == b"f", os.fsdecode(name))


def _token(key: _Key) -> str:
    kind = b"f" if key[0] else b"d"
    return base64.b64encode(kind + os.fsencode(key[1]), altchars=b"-_").decode()


def _token_invalid() -> Exception:
    return field_invalid("page_token", "must be the `next_page_token` of the page before")
