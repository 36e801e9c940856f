"""The file of the SQLite store: made, opened, locked, and looked through for damage.

Does not know the documents in it.
"""

from __future__ import annotations

import fcntl
import logging
import os
import sqlite3
import time
from pathlib import Path

log = logging.getLogger(__name__)

_SCHEMA = """
CREATE TABLE IF NOT EXISTS documents (
  collection TEXT NOT NULL,
  id TEXT NOT NULL,
  fields BLOB NOT NULL,
  time INTEGER NOT NULL,
  PRIMARY KEY (collection, id)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS clock (only INTEGER PRIMARY KEY CHECK (only = 1), time INTEGER NOT NULL);
INSERT OR IGNORE INTO clock VALUES (1, 0);
"""
_PROBE = "SELECT collection, id, fields, time FROM documents LIMIT 1"
"""Fails when somebody else's database has a table of the same name."""
_LOCK_PAUSE = 0.02


def lock_file(path: Path, seconds: float) -> int:
    """Return a file that is locked, so that one process at a time uses the store.

    The lock goes with the process, however that ends.

    Args:
        path: The file; made when it does not exist.
        seconds: How long to wait for another process that has it.

    Raises:
        BlockingIOError: Another process has it, and has not ended meanwhile.
    """
    deadline = time.monotonic() + seconds
    # Not the database itself: closing that would take SQLite's own locks away.
    lock = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() < deadline:
                time.sleep(_LOCK_PAUSE)
                continue
            os.close(lock)
            raise BlockingIOError("another process uses it") from None
        return lock


def make(path: Path, lock_seconds: float) -> sqlite3.Connection:
    """Open the file, and make it and its tables when they do not exist.

    Args:
        path: The file.
        lock_seconds: How long a statement waits for others that hold the file.

    Raises:
        sqlite3.Error: It cannot be opened, or is somebody else's.
    """
    connection = _connect(path, lock_seconds, "rwc")
    connection.executescript(_SCHEMA)
    connection.execute(_PROBE).fetchone()
    return connection


def connect(path: Path, lock_seconds: float) -> sqlite3.Connection:
    """Open the file as for `make`, but do not make it: an empty one would hide that it is gone.

    Raises:
        sqlite3.Error: It cannot be opened.
    """
    return _connect(path, lock_seconds, "rw")


def _connect(path: Path, lock_seconds: float, mode: str) -> sqlite3.Connection:
    # check_same_thread: opened in the reading thread, then each used by one thread.
    connection = sqlite3.connect(
        f"{path.absolute().as_uri()}?mode={mode}",
        uri=True,
        isolation_level=None,
        check_same_thread=False,
        timeout=lock_seconds,
    )
    connection.execute("PRAGMA journal_mode = WAL")
    # FULL, not NORMAL: an acknowledged turn must survive a power cut. A flush
    # took 0.2 ms on the machine this was measured on.
    connection.execute("PRAGMA synchronous = FULL")
    return connection


def check(connection: sqlite3.Connection, seconds: float) -> None:
    """Look for damage for so long; a larger file is looked through in part.

    Raises:
        sqlite3.DatabaseError: The file is damaged.
    """
    deadline = time.monotonic() + seconds
    connection.set_progress_handler(lambda: time.monotonic() > deadline, 1000)
    try:
        (found,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    except sqlite3.OperationalError:
        # Out of time; whatever else it may be comes up again with the next statement.
        return
    finally:
        connection.set_progress_handler(None, 0)
    if found != "ok":
        raise sqlite3.DatabaseError(f"it is damaged: {found}")


def abandon(connection: sqlite3.Connection) -> None:
    """Close a connection after a failure, which takes back what it has not committed."""
    try:
        connection.close()
    except sqlite3.Error:
        log.exception("store connection not closed")
