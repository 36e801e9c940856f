"""Deletes folders that somebody hostile has filled. Does not know workspaces."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import stat
import time
from collections.abc import Callable
from pathlib import Path

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_ALL = 0o700
PATIENCE_SECONDS = 5.0
"""How long folders are emptied again that processes with a hold on them go on filling."""


def remove(above: int, name: str, bin_: int) -> None:
    """Delete what is at a name: a file, a link, or a folder with all that is in it.

    It is gone from its place at once. Links are deleted, not followed. However deep folders
    are in each other, two descriptors are enough: what is in a folder is moved up first.

    Args:
        above: Descriptor of the folder it is in.
        name: Its name there.
        bin_: Descriptor of an empty folder on the same file system, which agents do not reach;
            what an interruption leaves there is deleted by whoever uses it next.

    Raises:
        OSError: As `os.unlink` and `os.rename`.
    """
    if not stat.S_ISDIR(os.stat(name, dir_fd=above, follow_symlinks=False).st_mode):
        os.unlink(name, dir_fd=above)
        return
    _move(above, name, bin_)
    empty(bin_)


def empty(bin_: int, *, clock: Callable[[], float] = time.monotonic) -> None:
    """Delete all that is in a folder which agents do not reach.

    What is there may take as long as it takes, but not what is put there meanwhile.

    Args:
        bin_: Descriptor of the folder.
        clock: Seconds of a clock that does not go back.

    Raises:
        OSError: As `os.unlink` and `os.rename`; also when somebody goes on filling a folder.
    """
    patience = PATIENCE_SECONDS
    while names := os.listdir(bin_):
        for name in names:
            patience -= _insist(bin_, name, patience, clock)


def _insist(bin_: int, name: str, patience: float, clock: Callable[[], float]) -> float:
    """Delete something, again and again while it is being filled.

    Args:
        bin_: Descriptor of the folder it is in.
        name: Its name there.
        patience: Seconds for trying again.
        clock: Seconds of a clock that does not go back.

    Returns:
        The seconds that trying again took.
    """
    if _try(bin_, name):
        return 0.0
    began = clock()
    while not _try(bin_, name):
        if clock() - began >= patience:
            raise OSError(errno.ENOTEMPTY, os.strerror(errno.ENOTEMPTY), name)
    return clock() - began


def _try(bin_: int, name: str) -> bool:
    """Delete something; return False when there is something in it again."""
    try:
        _delete(bin_, name)
    except OSError as error:
        if error.errno != errno.ENOTEMPTY:
            raise
        return False
    return True


def _delete(bin_: int, name: str) -> None:
    try:
        _open_up(bin_, name)
    except NotADirectoryError:
        os.unlink(name, dir_fd=bin_)
        return
    here = os.open(name, _FOLDER, dir_fd=bin_)
    try:
        with os.scandir(here) as entries:
            for entry in entries:
                # One that was exchanged for another kind is met again when the folder is tried
                # again, because it is not empty.
                with contextlib.suppress(FileNotFoundError, IsADirectoryError, NotADirectoryError):
                    if entry.is_dir(follow_symlinks=False):
                        _move(here, entry.name, bin_)
                    else:
                        os.unlink(entry.name, dir_fd=here)
    finally:
        os.close(here)
    os.rmdir(name, dir_fd=bin_)


def _move(above: int, name: str, bin_: int) -> None:
    # A folder can only be moved by whoever may write in it, as its `..` changes.
    _open_up(above, name)
    os.rename(name, secrets.token_hex(8), src_dir_fd=above, dst_dir_fd=bin_)


def _open_up(above: int, name: str) -> None:
    """Give ourselves all permissions of a folder, which its owner may have taken away."""
    here = os.open(name, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=above)
    try:
        if os.fstat(here).st_mode & _ALL != _ALL:
            # A descriptor without rights to read has no other way to be changed by.
            Path(f"/proc/self/fd/{here}").chmod(_ALL)
    finally:
        os.close(here)
