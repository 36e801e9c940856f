"""Counts what tools did: how often each file of a workspace was written, by inotify.

Counts from outside, so that the product needs no test code for it. Where counting
races with a directory's birth it counts too few, never too many. Linux only.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import struct
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Self

_IN_CLOSE_WRITE = 0x8
_IN_OPEN = 0x20
_IN_CREATE = 0x100
_IN_MOVED_TO = 0x80
_IN_ISDIR = 0x40000000
_EVENT = struct.Struct("iIII")


class Effects:
    """Writes below some roots, one level of directories deep; a context manager.

    Args:
        roots: Directories of workspaces; made when they are missing.
    """

    def __init__(self, roots: Iterable[Path]) -> None:
        self._roots = list(roots)
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._descriptor = -1
        self._directories: dict[int, Path] = {}
        self._written: Counter[Path] = Counter()
        self._found: set[Path] = set()

    @property
    def counts(self) -> dict[str, int]:
        """How often each file was written, by name, in all workspaces together."""
        counts: Counter[str] = Counter()
        for path in self._found | set(self._written):
            counts[path.name] += max(self._written[path], int(path in self._found))
        return dict(counts)

    def __enter__(self) -> Self:
        """Begin to count; needs a running loop."""
        self._descriptor = self._libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        if self._descriptor < 0:
            raise OSError(ctypes.get_errno(), "inotify")
        for root in self._roots:
            root.mkdir(parents=True, exist_ok=True)
            self._watch(root, _IN_CREATE | _IN_MOVED_TO)
        asyncio.get_running_loop().add_reader(self._descriptor, self.read)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Stop counting."""
        self.read()
        asyncio.get_running_loop().remove_reader(self._descriptor)
        os.close(self._descriptor)

    def read(self) -> None:
        """Take in what happened; called by the loop."""
        try:
            news = os.read(self._descriptor, 1 << 16)
        except BlockingIOError:
            return
        offset = 0
        while offset < len(news):
            watch, mask, _, length = _EVENT.unpack_from(news, offset)
            offset += _EVENT.size
            name = news[offset : offset + length].rstrip(b"\0").decode()
            offset += length
            path = self._directories[watch] / name
            if mask & _IN_ISDIR and mask & (_IN_CREATE | _IN_MOVED_TO):
                self._take_up(path)
            elif mask & _IN_CLOSE_WRITE:
                self._written[path] += 1

    def _take_up(self, directory: Path) -> None:
        if directory.parent in self._roots:
            # One agent's place; its files are in a folder of it.
            self._watch(directory, _IN_CREATE)
            directory /= "files"
        if directory.name != "files" or not directory.is_dir():
            return
        # Two equal events in a row would be told as one: openings stand between.
        self._watch(directory, _IN_CLOSE_WRITE | _IN_OPEN)
        # Written before the watch began, or at this moment, which would be told too.
        self._found.update(path for path in directory.iterdir() if path.is_file())

    def _watch(self, directory: Path, mask: int) -> None:
        watch = self._libc.inotify_add_watch(self._descriptor, os.fsencode(directory), mask)
        if watch >= 0:
            self._directories[watch] = directory
