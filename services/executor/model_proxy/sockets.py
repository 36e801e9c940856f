"""A listening socket at a path, for one user only. Does not know what is said over it."""

from __future__ import annotations

import contextlib
import os
import socket
from pathlib import Path

_MODE = 0o600
"""Connecting needs the right to write."""
_DESCRIPTORS = Path("/proc/self/fd")


def listen(folder: Path, name: str) -> socket.socket:
    """Return a socket that is bound, and takes the place of what is there.

    It belongs to the folder's owner. The agent may do in the folder what it likes meanwhile, so
    nothing here follows a link.

    Args:
        folder: Exists.
        name: Of the socket in it.

    Raises:
        OSError: It cannot be made.
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        _remove(descriptor, name)
        # Before it has a name, so that it never has one that others may use.
        os.fchmod(listening.fileno(), _MODE)
        # A path may be longer than the address of a socket.
        short = _DESCRIPTORS / str(descriptor)
        listening.bind(str((short if short.exists() else folder) / name))
        owner = os.fstat(descriptor)
        if owner.st_uid != os.geteuid():
            os.chown(name, owner.st_uid, owner.st_gid, dir_fd=descriptor, follow_symlinks=False)
    except BaseException:
        listening.close()
        raise
    finally:
        os.close(descriptor)
    return listening


def remove(folder: Path, name: str) -> None:
    """Remove a socket; absent is fine, the folder too."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            _remove(descriptor, name)
        finally:
            os.close(descriptor)


def _remove(descriptor: int, name: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(name, dir_fd=descriptor)
