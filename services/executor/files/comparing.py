"""Compares a workspace as it is with its baseline. Does not know when that was taken."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import orjson

from moorline.transcript.v1 import transcript_pb2
from services.executor.files.baseline import Baseline, Kept
from services.executor.files.difference import between
from services.executor.files.looking import FILE_STAMP, Content, Look, Reading, Seen
from services.executor.files.paths import shown

CHANGES = 400
"""Changes that are told one by one."""
PATHS_BYTES = 32 << 10
"""Bytes of their paths together."""
DIFF_BYTES = 64 << 10
"""Bytes of their diffs together; the shortest come first."""

Change = transcript_pb2.FileChange


@dataclass(frozen=True, slots=True)
class _Pair:
    """A file that may have changed: what it was and what it is; one of them can be missing."""

    path: bytes
    before: Kept | None
    now: Seen | None


def changes(look: Look, kept: Baseline, reading: Reading) -> transcript_pb2.FileChanges:
    """Return what changed.

    Args:
        look: The files as they are.
        kept: What they were.
        reading: Reads them.
    """
    told: list[transcript_pb2.FileChange] = []
    omitted = paths_bytes = 0
    for pair in _pairs(look, kept):
        full = len(told) >= CHANGES or paths_bytes >= PATHS_BYTES
        change = _change(pair, kept, reading, full=full)
        if change is None:
            continue
        if full:
            omitted += 1
            continue
        paths_bytes += _bytes(change.path)
        told.append(change)
    _fit(told)
    return transcript_pb2.FileChanges(changes=told, omitted_files=omitted)


def _pairs(look: Look, kept: Baseline) -> Iterator[_Pair]:
    """Return the files that do not look as they did, by path."""
    known, whole, taken_ns = kept.files(), kept.whole, kept.taken_ns
    for path in sorted(look.files.keys() | known.keys()):
        before, now = known.get(path), look.files.get(path)
        if before is None and now is not None:
            # One that is as old as the baseline was there, and had no room in it.
            if whole or now.ctime_ns >= taken_ns:
                yield _Pair(path, None, now)
        elif now is None:
            # Where not all was looked at, nobody knows what is gone.
            if look.whole:
                yield _Pair(path, before, None)
        elif before is not None and before.stamp != now.stamp:
            yield _Pair(path, before, now)


def _change(
    pair: _Pair, kept: Baseline, reading: Reading, *, full: bool
) -> transcript_pb2.FileChange | None:
    """Return what became of a file; None when it only looks otherwise.

    Args:
        pair: The file.
        kept: Its baseline.
        reading: Reads it.
        full: True when nobody will see more than that it changed.
    """
    before, now = pair.before, pair.now
    content = None if now is None or (full and before is None) else reading.content(now)
    if before is not None and now is not None and _is_same(before, now, content):
        return None
    change = Change(path=_path(pair), kind=_kind(pair))
    if not full:
        _compare(change, pair, content, kept, enough=reading.over)
    return change


def _is_same(before: Kept, now: Seen, content: Content | None) -> bool:
    if before.digest is not None and content is not None:
        return before.digest == content.digest
    # What is too large to be compared has not changed when only its permissions have.
    return before.digest is None and before.stamp.startswith(now.loose)


def _compare(
    change: transcript_pb2.FileChange,
    pair: _Pair,
    content: Content | None,
    kept: Baseline,
    *,
    enough: bool,
) -> None:
    """Add what changed in a file, as far as that can be told."""
    old = _old(pair.before, kept)
    new = content.text if content is not None else None
    change.binary = bool(pair.before and pair.before.binary) or (
        content is not None and content.text is None
    )
    if change.binary:
        return
    if not _is_file(pair):
        return
    unknown = (pair.before is not None and old is None) or (pair.now is not None and new is None)
    if unknown or enough:
        change.omitted = True
        return
    difference = between(change.path, old, new)
    change.added_lines = difference.added
    change.removed_lines = difference.removed
    change.diff = difference.diff


def _is_file(pair: _Pair) -> bool:
    """Tell whether a text could have changed: links and folders have none."""
    stamps = [one.stamp for one in (pair.before, pair.now) if one is not None]
    return all(stamp.startswith(FILE_STAMP) or not stamp for stamp in stamps)


def _old(before: Kept | None, kept: Baseline) -> str | None:
    if before is None or before.digest is None or before.binary:
        return None
    raw = kept.text(before.digest)
    return None if raw is None else raw.decode()


def _path(pair: _Pair) -> str:
    return shown((pair.path.decode(errors="surrogateescape"),))


def _kind(pair: _Pair) -> transcript_pb2.FileChange.Kind.ValueType:
    if pair.before is None:
        return Change.KIND_ADDED
    return Change.KIND_REMOVED if pair.now is None else Change.KIND_CHANGED


def _bytes(text: str) -> int:
    """Return how large a text is, also for whoever keeps it as JSON, where some bytes become six.

    Half of that is what such a text may take of a document.
    """
    return max(len(text.encode()), len(orjson.dumps(text)) // 2)


def _fit(told: list[transcript_pb2.FileChange]) -> None:
    """Take away the longest diffs until all fit."""
    room = DIFF_BYTES
    for change in sorted(told, key=lambda change: len(change.diff)):
        size = _bytes(change.diff)
        if size > room:
            change.diff = ""
            change.omitted = True
        else:
            room -= size
