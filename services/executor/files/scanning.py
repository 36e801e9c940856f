"""Walks through all folders of a workspace. Does not know what for."""

from __future__ import annotations

import os
import stat
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from services.chassis.failures import Failure
from services.executor.files import folder
from services.executor.files.listing import target_of
from services.executor.files.paths import Parts

DEPTH = 100
"""How deep folders are looked into."""


@dataclass(frozen=True, slots=True)
class Entry:
    """Something in a workspace.

    Attributes:
        parts: Where.
        found: What.
        target: Where it points to, of a link.
    """

    parts: Parts
    found: os.stat_result
    target: str

    @property
    def is_file(self) -> bool:
        """Whether it is a regular file."""
        return stat.S_ISREG(self.found.st_mode)

    @property
    def is_folder(self) -> bool:
        """Whether it is a folder."""
        return stat.S_ISDIR(self.found.st_mode)


class Scan:
    """One walk: folders near the top first, by name in each; the same again if nothing changes.

    What goes away meanwhile, or cannot be looked into, is passed over.

    Args:
        root: The workspace's files.
        start: The folder to begin in.
        limit: Entries at most.
        enters: Tells whether to look into a folder.

    Attributes:
        whole: False once something was left out for being too much or too deep.
    """

    def __init__(
        self,
        root: Path,
        start: Parts = (),
        *,
        limit: int,
        enters: Callable[[Parts], bool] = lambda _: True,
    ) -> None:
        self.whole = True
        self._root = root
        self._start = start
        self._limit = limit
        self._enters = enters

    def __iter__(self) -> Iterator[Entry]:
        waiting = deque([self._start])
        left = self._limit
        while waiting:
            for entry in self._entries(waiting.popleft()):
                if not left:
                    self.whole = False
                    return
                left -= 1
                yield entry
                if not entry.is_folder or not self._enters(entry.parts):
                    continue
                if len(entry.parts) < DEPTH:
                    waiting.append(entry.parts)
                else:
                    self.whole = False

    def _entries(self, parts: Parts) -> list[Entry]:
        entries = []
        try:
            with folder.opened(self._root, parts) as here:
                names = _names(here, self._limit + 1)
                for name in names:
                    found = folder.look(here, name)
                    if found is not None:
                        target = target_of(here, name, found)
                        entries.append(Entry((*parts, name), found, target))
        except Failure:
            if parts == self._start:
                raise
        return entries


def _names(here: int, limit: int) -> list[str]:
    """Return the names in a folder in order; of very many, any so many."""
    names = []
    with os.scandir(here) as found:
        for entry in found:
            names.append(entry.name)
            if len(names) == limit:
                break
    return sorted(names)
