"""Deletes folders that somebody hostile has filled. Does not know workspaces."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import stat
from pathlib import Path

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_ALL = 0o700
_TRIES = 100
"""How often a folder is emptied that a process with a hold on it goes on filling."""


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


def empty(bin_: int) -> None:
    """Delete all that is in a folder which agents do not reach.

    Raises:
        OSError: As `os.unlink` and `os.rename`; also when somebody goes on filling a folder.
    """
    tries: dict[str, int] = {}
    while names := os.listdir(bin_):
        for name in names:
            tries[name] = tries.get(name, 0) + 1
            try:
                _delete(bin_, name)
            except OSError as error:
                if error.errno != errno.ENOTEMPTY or tries[name] == _TRIES:
                    raise
            else:
                del tries[name]


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
