"""Folders that were reached without following a link, and what is in them.

Everything is done by a folder's own descriptor: whoever exchanges a folder on the
way for a link meanwhile changes nothing. Does not know workspaces.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from moorline.errors.v1 import errors_pb2
from services.chassis.failures import Failure, not_found
from services.executor.files.paths import Parts, shown

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# Whoever opens a pipe would wait for its other end.
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_FOLDER_MODE = 0o755

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_IN_THE_WAY = "not have a link, or a file, in the place of a folder"
_SHUT = "be open to the platform; its permissions shut it out"
_UNFIT = {
    errno.ENOTDIR: _IN_THE_WAY,
    errno.EEXIST: _IN_THE_WAY,
    errno.EISDIR: "not have a folder in the place of a file",
    errno.ELOOP: "not be, or be behind, a link; links are not followed",
    errno.ENXIO: "be a file; it is a pipe, a socket or a device",
    errno.ENAMETOOLONG: "have a name that the system can keep",
    errno.EROFS: "be on a file system that can be written",
    errno.EPERM: _SHUT,
    errno.EACCES: _SHUT,
    errno.ENOTEMPTY: "not have a folder in the place of a file",
    errno.EXDEV: "be on the workspace's own file system",
}


@contextmanager
def opened(root: Path, parts: Sequence[str]) -> Iterator[int]:
    """Have the descriptor of a folder while inside.

    Args:
        root: The workspace's files.
        parts: The way to the folder.

    Raises:
        Failure: RESOURCE_NOT_FOUND; FILE_UNSUITABLE when a link or a file is on the way.
    """
    with translated(parts):
        here = os.open(root, _FOLDER)
        try:
            for part in parts:
                above, here = here, -1
                try:
                    here = os.open(part, _FOLDER, dir_fd=above)
                finally:
                    os.close(above)
            yield here
        finally:
            if here >= 0:
                os.close(here)


@contextmanager
def made(root: Path, parts: Parts) -> Iterator[int]:
    """Have the descriptor of a folder while inside; folders that are missing are made.

    They belong to whom the workspace belongs to.

    Raises:
        Failure: FILE_UNSUITABLE.
    """
    with translated(parts):
        here = os.open(root, _FOLDER)
        try:
            for part in parts:
                above, here = here, -1
                try:
                    here = _step(root, above, part)
                finally:
                    os.close(above)
            yield here
        finally:
            if here >= 0:
                os.close(here)


@contextmanager
def beside(notes: Path, name: str) -> Iterator[int]:
    """Have the descriptor of a folder of ours while inside, alone; it is made when missing.

    Agents do not see it, and it is on the file system of their files.

    Args:
        notes: What the executor keeps about the workspace.
        name: Of the folder in there.

    Raises:
        Failure: QUOTA_EXCEEDED, SERVICE_UNAVAILABLE.
    """
    with translated(()):
        path = notes / name
        path.mkdir(mode=0o700, exist_ok=True)
        here = os.open(path, _FOLDER)
        try:
            # Given back with the descriptor.
            fcntl.flock(here, fcntl.LOCK_EX)
            yield here
        finally:
            os.close(here)


def _step(root: Path, above: int, part: str) -> int:
    try:
        return os.open(part, _FOLDER, dir_fd=above)
    except FileNotFoundError:
        pass
    try:
        os.mkdir(part, _FOLDER_MODE, dir_fd=above)
    except FileExistsError:
        # Somebody was faster; or a link that leads nowhere, which cannot be opened either.
        return os.open(part, _FOLDER, dir_fd=above)
    here = os.open(part, _FOLDER, dir_fd=above)
    try:
        own(root, here)
        os.fchmod(here, _FOLDER_MODE)
    except BaseException:
        os.close(here)
        raise
    return here


@contextmanager
def reading(above: int, name: str, parts: Parts) -> Iterator[tuple[int, os.stat_result]]:
    """Have the descriptor of a regular file, and what it is, while inside.

    Args:
        above: Descriptor of its folder.
        name: Its name there.
        parts: Its whole path, for the error.

    Raises:
        Failure: RESOURCE_NOT_FOUND; FILE_UNSUITABLE for all but regular files.
    """
    with translated(parts):
        # A device may do something when it is opened; so look first, and again at what was got.
        _check_regular(os.stat(name, dir_fd=above, follow_symlinks=False), parts)
        file = os.open(name, _FILE, dir_fd=above)
        try:
            found = os.fstat(file)
            _check_regular(found, parts)
            yield file, found
        finally:
            os.close(file)


def look(above: int, name: str) -> os.stat_result | None:
    """Return what is at a name; None when nothing is."""
    try:
        return os.stat(name, dir_fd=above, follow_symlinks=False)
    except FileNotFoundError:
        return None


def own(root: Path, descriptor: int) -> None:
    """Give what is open to whom the workspace belongs to."""
    owner, found = root.lstat(), os.fstat(descriptor)
    if (owner.st_uid, owner.st_gid) != (found.st_uid, found.st_gid):
        os.fchown(descriptor, owner.st_uid, owner.st_gid)


def unsuitable(parts: Sequence[str], rule: str) -> Failure:
    """Return the failure for something that is not what the call needs.

    Args:
        parts: Where it is.
        rule: The end of the sentence "`path` must ...".
    """
    path = shown(parts)
    return Failure(
        errors_pb2.ERROR_REASON_FILE_UNSUITABLE,
        f"{path or 'The workspace'} must {rule}.",
        path=path,
        rule=rule,
    )


@contextmanager
def translated(parts: Sequence[str]) -> Iterator[None]:
    """Turn what the system says into failures."""
    try:
        yield
    except FileNotFoundError as error:
        raise not_found() from error
    except OSError as error:
        raise _system(error, parts) from error


def _system(error: OSError, parts: Sequence[str]) -> Failure:
    code = error.errno or 0
    if code in _FULL:
        return Failure(
            errors_pb2.ERROR_REASON_QUOTA_EXCEEDED,
            "The disk of the agents' files is full. Delete something, or ask the operator.",
            limitName="disk",
            limit="full",
        )
    if code in _UNFIT:
        return unsuitable(parts, _UNFIT[code])
    return Failure(
        errors_pb2.ERROR_REASON_SERVICE_UNAVAILABLE,
        f"The disk of the agent's files failed: {os.strerror(code)}.",
        service="executor",
    )


def _check_regular(found: os.stat_result, parts: Parts) -> None:
    if stat.S_ISDIR(found.st_mode):
        raise unsuitable(parts, "be a file; it is a folder")
    if stat.S_ISLNK(found.st_mode):
        raise unsuitable(parts, "be a file; it is a link, and links are not followed")
    if not stat.S_ISREG(found.st_mode):
        raise unsuitable(parts, "be a file; it is a pipe, a socket or a device")
