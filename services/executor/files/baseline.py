"""What a workspace held when a turn began, kept beside it. Does not look at the workspace."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

_NAME = "baseline.db"
_SCHEMA = """
CREATE TABLE IF NOT EXISTS facts (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS files (
    path BLOB PRIMARY KEY, stamp TEXT NOT NULL, digest BLOB, binary INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS texts (
    digest BLOB PRIMARY KEY, size INTEGER NOT NULL, text BLOB NOT NULL
);
"""
_LOCK_SECONDS = 10.0
# Reading and writing again what was kept costs more than the room that is saved.
_LEVEL = 1


@dataclass(frozen=True, slots=True)
class Kept:
    """What is known of a file.

    Attributes:
        stamp: What it was by its looks, see `snapshots`; empty when it has to be looked at again.
        digest: Of its content; None when that is not known.
        binary: Whether it is known to be no text.
    """

    stamp: str
    digest: bytes | None
    binary: bool


class Baseline:
    """One workspace's baseline, open.

    Args:
        database: Open, within a transaction.
    """

    def __init__(self, database: sqlite3.Connection) -> None:
        self._database = database

    @property
    def whole(self) -> bool:
        """Whether it has all files there were."""
        return bool(self._fact("whole", 1))

    @property
    def taken_ns(self) -> int:
        """When it was taken, in nanoseconds since the epoch."""
        return self._fact("taken_ns", 0)

    def note(self, *, whole: bool, taken_ns: int) -> None:
        """Keep what is true of all of it."""
        self._database.executemany(
            "INSERT OR REPLACE INTO facts VALUES (?, ?)",
            [("whole", int(whole)), ("taken_ns", taken_ns)],
        )

    def files(self) -> dict[bytes, Kept]:
        """Return all files by path."""
        rows = self._database.execute("SELECT path, stamp, digest, binary FROM files")
        return {path: Kept(stamp, digest, bool(binary)) for path, stamp, digest, binary in rows}

    def put(self, files: Mapping[bytes, Kept]) -> None:
        """Keep files, also in the place of what was known of them."""
        self._database.executemany(
            "INSERT OR REPLACE INTO files VALUES (?, ?, ?, ?)",
            ((path, one.stamp, one.digest, one.binary) for path, one in files.items()),
        )

    def drop(self, paths: Iterable[bytes]) -> None:
        """Forget files that are gone, and texts that no file has any more."""
        self._database.executemany("DELETE FROM files WHERE path = ?", ((path,) for path in paths))
        self._database.execute(
            "DELETE FROM texts WHERE digest NOT IN "
            "(SELECT digest FROM files WHERE digest IS NOT NULL)"
        )

    def size(self) -> int:
        """Return the bytes of all texts as they are kept."""
        row = self._database.execute("SELECT COALESCE(SUM(size), 0) FROM texts").fetchone()
        return int(row[0])

    def keep(self, digest: bytes, text: bytes) -> int:
        """Keep a text; return the bytes that takes."""
        squeezed = zlib.compress(text, _LEVEL)
        self._database.execute(
            "INSERT OR IGNORE INTO texts VALUES (?, ?, ?)", (digest, len(squeezed), squeezed)
        )
        return len(squeezed)

    def text(self, digest: bytes) -> bytes | None:
        """Return a text; None when it is not kept."""
        row = self._database.execute(
            "SELECT text FROM texts WHERE digest = ?", (digest,)
        ).fetchone()
        return None if row is None else zlib.decompress(row[0])

    def _fact(self, name: str, default: int) -> int:
        row = self._database.execute("SELECT value FROM facts WHERE name = ?", (name,)).fetchone()
        return default if row is None else int(row[0])


def is_blank(notes: Path) -> bool | None:
    """Tell whether the baseline is that of an empty workspace; None when there is none."""
    try:
        return (notes / _NAME).stat().st_size == 0
    except FileNotFoundError:
        return None


def begin_blank(notes: Path) -> None:
    """Make the baseline of an empty workspace, where there is none."""
    with contextlib.suppress(FileExistsError):
        os.close(os.open(notes / _NAME, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600))


def discard(notes: Path) -> None:
    """Forget a baseline."""
    for name in (_NAME, f"{_NAME}-journal"):
        (notes / name).unlink(missing_ok=True)


@contextmanager
def opened(notes: Path) -> Iterator[Baseline]:
    """Have a workspace's baseline while inside; what was changed is kept at a good end.

    Raises:
        sqlite3.Error: It cannot be read, or written.
    """
    database = sqlite3.connect(notes / _NAME, timeout=_LOCK_SECONDS, isolation_level=None)
    try:
        # It may be lost with the machine, like the files; not with the executor.
        database.execute("PRAGMA synchronous = OFF")
        database.execute("BEGIN IMMEDIATE")
        for statement in _SCHEMA.split(";"):
            database.execute(statement)
        yield Baseline(database)
        database.execute("COMMIT")
    finally:
        database.close()
