"""Packs a folder as a ZIP archive, part by part. Does not know who reads it."""

from __future__ import annotations

import os
import stat
import threading
import time
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO

from moorline.errors.v1 import errors_pb2
from services.chassis.failures import Failure
from services.executor.files import folder
from services.executor.files.paths import Parts, packed
from services.executor.files.scanning import Entry, Scan

ENTRIES = 50_000
"""Files and folders of an archive."""
PART_BYTES = 128 << 10
"""Size of a part, about."""

_READ_BYTES = 256 << 10
_STEP_BYTES = 4 << 20
"""So much is read at most between two parts: what is all zeros gives nothing to send."""
_LARGE = 1 << 30
"""From here on an entry gets sizes of 64 bits, which not every program can read."""
_FIRST_YEAR, _LAST_YEAR = 1980, 2107
_UNIX = 3
# A little for much less time.
_LEVEL = 1


class Archive:
    """One archive while it is packed. Links and all that is no file or folder are left out.

    Args:
        root: The workspace's files.
        start: The folder to pack.
        max_bytes: Bytes of all files at most.
    """

    def __init__(self, root: Path, start: Parts, *, max_bytes: int) -> None:
        self._root = root
        self._start = start
        self._max_bytes = max_bytes
        self._lock = threading.Lock()
        self._parts: Iterator[bytes] = iter(())
        self._closed = False

    def open(self) -> None:
        """Look at what there is to pack; called first.

        Raises:
            Failure: RESOURCE_NOT_FOUND, FILE_UNSUITABLE, QUOTA_EXCEEDED.
        """
        scan = Scan(self._root, self._start, limit=ENTRIES)
        try:
            entries = [entry for entry in scan if entry.is_file or entry.is_folder]
        except Failure as failure:
            missing = failure.reason == errors_pb2.ERROR_REASON_RESOURCE_NOT_FOUND
            if self._start or not missing:
                raise
            # Nothing was ever written: an empty workspace.
            entries = []
        if not scan.whole:
            raise folder.unsuitable(
                self._start, f"have at most {ENTRIES} files, and not too deep, to be packed"
            )
        if sum(entry.found.st_size for entry in entries if entry.is_file) > self._max_bytes:
            raise Failure(
                errors_pb2.ERROR_REASON_QUOTA_EXCEEDED,
                f"Files of more than {self._max_bytes} bytes in all are not packed.",
                limit=str(self._max_bytes),
                limitName="archive_bytes",
            )
        self._parts = self._pack(entries)

    def take(self) -> bytes | None:
        """Return the next part, which may be empty; None after the last one."""
        with self._lock:
            return None if self._closed else next(self._parts, None)

    def close(self) -> None:
        """Let go of what is open; waits for a part that is being packed."""
        with self._lock:
            self._closed = True
            close = getattr(self._parts, "close", None)
            if close is not None:
                close()

    def _pack(self, entries: Sequence[Entry]) -> Iterator[bytes]:
        sink = _Sink()
        with zipfile.ZipFile(sink, "w", zipfile.ZIP_DEFLATED, compresslevel=_LEVEL) as archive:
            for entry in entries:
                if entry.is_folder:
                    archive.writestr(self._named(entry, "/"), b"")
                else:
                    yield from self._pack_file(archive, sink, entry)
                yield from sink.parts(PART_BYTES)
        yield from sink.parts(1)

    def _pack_file(self, archive: zipfile.ZipFile, sink: _Sink, entry: Entry) -> Iterator[bytes]:
        *above, name = entry.parts
        try:
            with (
                folder.opened(self._root, above) as here,
                folder.reading(here, name, entry.parts) as (file, found),
            ):
                # What is appended meanwhile would make it another size than said, and what is put
                # in its place may be of any size.
                left = min(found.st_size, entry.found.st_size)
                large = left >= _LARGE
                with archive.open(self._named(entry), "w", force_zip64=large) as member:
                    while left:
                        part = _read(file, min(left, _STEP_BYTES), member, sink)
                        if not part:
                            break
                        left -= part
                        yield from sink.parts(PART_BYTES)
                        yield b""
        except Failure:
            # It is gone, or something else by now.
            return

    def _named(self, entry: Entry, end: str = "") -> zipfile.ZipInfo:
        name = packed(entry.parts[len(self._start) :]) + end
        moment = time.gmtime(max(0, min(entry.found.st_mtime, _LAST_SECOND)))
        year = min(max(moment.tm_year, _FIRST_YEAR), _LAST_YEAR)
        info = zipfile.ZipInfo(name, (year, *moment[1:6]))
        info.create_system = _UNIX
        info.compress_type = zipfile.ZIP_STORED if end else zipfile.ZIP_DEFLATED
        mode = 0o755 if end or entry.found.st_mode & 0o111 else 0o644
        kind = stat.S_IFDIR if end else stat.S_IFREG
        info.external_attr = (kind | mode) << 16 | (_DOS_FOLDER if end else 0)
        return info


_DOS_FOLDER = 0x10
_LAST_SECOND = 253_402_300_799


def _read(file: int, size: int, member: IO[bytes], sink: _Sink) -> int:
    """Pack some more of a file; return how many bytes, 0 at its end."""
    done = 0
    while done < size and sink.size < PART_BYTES:
        part = os.read(file, min(_READ_BYTES, size - done))
        if not part:
            break
        member.write(part)
        done += len(part)
    return done


class _Sink:
    """A file that can only be written; what was written is taken away in parts."""

    def __init__(self) -> None:
        self.size = 0
        self._pieces: list[bytes] = []

    def write(self, piece: bytes, /) -> int:
        """Called by zipfile."""
        self._pieces.append(bytes(piece))
        self.size += len(piece)
        return len(piece)

    def flush(self) -> None:
        """Called by zipfile."""

    def close(self) -> None:
        """Part of what zipfile takes for a file; not called."""

    def parts(self, least: int) -> Iterator[bytes]:
        """Give away what there is, when it is at least so much."""
        if self.size < least:
            return
        whole = b"".join(self._pieces)
        self._pieces.clear()
        self.size = 0
        for start in range(0, len(whole), 2 * PART_BYTES):
            yield whole[start : start + 2 * PART_BYTES]
