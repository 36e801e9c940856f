"""What each turn has changed in its workspace. Does not know turns.

A snapshot is taken before a turn; afterwards the workspace is compared with it. Files that look
the same as last time are not read again.
"""

from __future__ import annotations

import logging
import os
import sqlite3
import time
from contextlib import suppress
from pathlib import Path

from moorline.transcript.v1 import transcript_pb2
from services.chassis.failures import Failure
from services.executor.files import baseline
from services.executor.files.comparing import changes
from services.executor.files.disk import Disk
from services.executor.files.looking import Look, Reading
from services.executor.place import Place

log = logging.getLogger(__name__)

FILES = 20_000
"""Files that are watched in a workspace; of more, those near the top."""
KEPT_BYTES = 256 << 20
"""Bytes of texts that are kept of a workspace, as they are on the disk."""
TAKE_SECONDS = 2.0
"""How long texts are read that have not been kept yet; the next turn goes on with the rest."""
COMPARE_SECONDS = 2.0
"""How long files are compared; of the rest is told that they changed, and not what."""
READ_BYTES = 64 << 20
"""Bytes that are read for one snapshot or comparison."""


class Snapshots:
    """The snapshots of all workspaces, each kept with the executor's notes about it.

    Args:
        disk: Where files are read.
    """

    def __init__(self, *, disk: Disk) -> None:
        self._disk = disk

    async def take(self, place: Place) -> None:
        """Remember what a workspace holds, in the place of what was remembered.

        Never fails: without a snapshot a turn runs just as well. Cancelling lets the rest of it
        go on by itself, for a few seconds at most.

        Args:
            place: The workspace; its folders exist.
        """
        # Most turns of a simulation have no files, and are over before a thread had begun.
        if _is_empty(place):
            if baseline.is_blank(place.notes):
                return
            if baseline.is_blank(place.notes) is None:
                baseline.begin_blank(place.notes)
                return
        await self._disk.run(place.workspace, _take, place)

    async def changes(self, place: Place) -> transcript_pb2.FileChanges:
        """Return what changed since the last snapshot; nothing when there is none."""
        blank = baseline.is_blank(place.notes)
        if blank is None or (blank and _is_empty(place)):
            return transcript_pb2.FileChanges()
        return await self._disk.run(place.workspace, _changes, place)


def _is_empty(place: Place) -> bool:
    with suppress(OSError), os.scandir(place.files) as entries:
        return next(entries, None) is None
    return False


def _take(place: Place) -> None:
    started = time.time_ns()
    try:
        look = Look(place.files, limit=FILES, now_ns=started)
        with baseline.opened(place.notes) as kept:
            known = kept.files()
            reading = Reading(place.files, max_bytes=READ_BYTES, seconds=TAKE_SECONDS)
            kept.put(_news(look, known, reading, kept))
            kept.drop(known.keys() - look.files.keys())
            kept.note(whole=look.whole, taken_ns=started)
    except (sqlite3.Error, OSError, Failure) as error:
        _give_up(place.notes, error)


def _news(
    look: Look,
    known: dict[bytes, baseline.Kept],
    reading: Reading,
    kept: baseline.Baseline,
) -> dict[bytes, baseline.Kept]:
    """Return what is to be kept of the files that look otherwise, and keep their texts."""
    news = {}
    room = KEPT_BYTES - kept.size()
    for path, seen in look.files.items():
        before = known.get(path)
        # Two that are too new to tell are not the same for that.
        same = before if before is not None and before.stamp == seen.stamp != "" else None
        if same is not None and (same.digest is not None or not seen.readable):
            continue
        content = reading.content(seen)
        news[path] = baseline.Kept(
            seen.stamp,
            None if content is None else content.digest,
            content is not None and content.text is None,
        )
        if content is not None and content.text is not None and room > 0:
            room -= kept.keep(content.digest, content.raw)
    return news


def _changes(place: Place) -> transcript_pb2.FileChanges:
    reading = Reading(place.files, max_bytes=READ_BYTES, seconds=COMPARE_SECONDS)
    try:
        look = Look(place.files, limit=FILES, now_ns=0)
        with baseline.opened(place.notes) as kept:
            return changes(look, kept, reading)
    except (sqlite3.Error, OSError, Failure) as error:
        _give_up(place.notes, error)
        return transcript_pb2.FileChanges()


def _give_up(notes: Path, error: Exception) -> None:
    log.warning("snapshot given up", extra={"error": str(error)})
    with suppress(OSError):
        baseline.discard(notes)
