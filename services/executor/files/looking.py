"""Looks at the files of a workspace that are watched, and reads them within bounds.

Does not know what they were before.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from services.chassis.failures import Failure
from services.executor.files import folder
from services.executor.files.listing import File, kind_of
from services.executor.files.paths import Parts
from services.executor.files.reading import read_at
from services.executor.files.scanning import Entry, Scan

TEXT_BYTES = 1 << 20
"""Larger files are not read: of them is told that they changed, and not what."""
GENERATED = frozenset(
    {
        "node_modules", ".venv", "__pycache__", ".mypy_cache", ".pytest_cache", ".ruff_cache",
        ".tox", ".gradle",
    }
)  # fmt: skip
"""Folders which programs fill with thousands of files that can be made again at any time, and
which nobody gives another use: they count as one thing, that is there or is not."""
REPOSITORY = ".git"
"""The same goes for most of this one: a commit changes hundreds of files in it, and none that
anybody reads."""
WATCHED = frozenset({"config", "hooks"})
"""Not for these in it: they can make git run programs, on the machine of whoever downloads them."""

FILE_STAMP = f"{File.KIND_FILE} "
"""How the stamp of a file begins that is no link, no folder and nothing else."""

_RACE_NS = 50_000_000
"""Clocks of file systems tick coarsely: a file that was changed so short ago may be changed again
and look the same."""


@dataclass(frozen=True, slots=True)
class Seen:
    """A file as it is now, by its looks.

    Attributes:
        parts: Where it is.
        stamp: Kind, inode, size, and when content and inode changed; empty when it is too new for
            that to tell anything.
        loose: The same without the last: enough for content that cannot be compared.
        readable: Whether its content can be looked at.
        ctime_ns: When it changed in any way.
    """

    parts: Parts
    stamp: str
    loose: str
    readable: bool
    ctime_ns: int


class Look:
    """All files that are watched.

    Args:
        root: The workspace's files.
        limit: Files at most.
        now_ns: The time, in nanoseconds since the epoch; 0 when no file is too new.

    Attributes:
        files: By path.
        whole: Whether these are all.
    """

    def __init__(self, root: Path, *, limit: int, now_ns: int) -> None:
        scan = Scan(root, limit=limit, enters=_enters)
        self.files = {
            "/".join(entry.parts).encode(errors="surrogateescape"): _seen(entry, now_ns)
            for entry in scan
            if (_is_one_thing(entry.parts[-1]) if entry.is_folder else _is_watched(entry.parts))
        }
        self.whole = scan.whole


def _enters(parts: Parts) -> bool:
    return parts[-1] not in GENERATED and (parts[-1] == REPOSITORY or _is_watched(parts))


def _is_one_thing(name: str) -> bool:
    return name in GENERATED or name == REPOSITORY


def _is_watched(parts: Parts) -> bool:
    """Tell whether something is no part of a repository, or one that matters."""
    if REPOSITORY not in parts[:-1]:
        return True
    return parts[parts.index(REPOSITORY) + 1] in WATCHED


def _seen(entry: Entry, now_ns: int) -> Seen:
    found = entry.found
    if entry.is_folder:
        return Seen(entry.parts, "folder", "folder", readable=False, ctime_ns=found.st_ctime_ns)
    what = entry.target or str(found.st_size)
    loose = f"{kind_of(found.st_mode)} {found.st_ino} {found.st_mtime_ns} {what}"
    new = now_ns and found.st_ctime_ns > now_ns - _RACE_NS
    readable = entry.is_file and found.st_size <= TEXT_BYTES
    stamp = "" if new and readable else f"{loose} {found.st_ctime_ns}"
    return Seen(entry.parts, stamp, loose, readable=readable, ctime_ns=found.st_ctime_ns)


@dataclass(frozen=True, slots=True)
class Content:
    """What is in a file.

    Attributes:
        raw: Its bytes.
        text: The same as text; None when it is none.
        digest: Of the bytes.
    """

    raw: bytes
    text: str | None
    digest: bytes


class Reading:
    """Reads files until it has taken too much, or too long.

    Args:
        root: The workspace's files.
        max_bytes: Bytes to read at most.
        seconds: How long to read.
        clock: Seconds of a clock that does not go back.
    """

    def __init__(
        self,
        root: Path,
        *,
        max_bytes: int,
        seconds: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._root = root
        self._left = max_bytes
        self._clock = clock
        self._end = clock() + seconds

    @property
    def over(self) -> bool:
        """Whether no more is read."""
        return self._left <= 0 or self._clock() >= self._end

    def content(self, seen: Seen) -> Content | None:
        """Return what is in a file; None when it is not read, or cannot be."""
        if not seen.readable or self.over:
            return None
        *above, name = seen.parts
        try:
            with (
                folder.opened(self._root, above) as here,
                folder.reading(here, name, seen.parts) as (file, _),
            ):
                raw = read_at(file, 0, TEXT_BYTES + 1)
        except Failure:
            return None
        self._left -= len(raw)
        if len(raw) > TEXT_BYTES:
            return None
        return Content(raw, _text(raw), hashlib.sha256(raw).digest())


def _text(raw: bytes) -> str | None:
    if b"\0" in raw:
        return None
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return None
