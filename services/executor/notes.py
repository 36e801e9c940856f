"""Notes about executions that are under way, for an executor that comes after this one.

A note stands as long as it is not known that the outcome is stored. Does not know processes, nor
what is done about a note that is found.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from dataclasses import asdict, dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import orjson

from services.executor.agent_process import Budget, Work
from services.executor.files.folder import translated
from services.executor.place import Place
from services.executor.workspaces import Workspaces

log = logging.getLogger(__name__)

_NAME = "execution.jsonl"


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """One execution under way.

    Attributes:
        work: What it was asked to do.
        create_time_ns: When it was accepted, since the epoch.
        begin_time_ns: When its time began to count, since the epoch.
        records: What its meter has recorded.
    """

    work: Work
    create_time_ns: int
    begin_time_ns: int
    records: tuple[bytes, ...] = ()


class Notes:
    """The notes of all workspaces, one in each at most.

    Args:
        workspaces: Where they are.
    """

    def __init__(self, *, workspaces: Workspaces) -> None:
        self._workspaces = workspaces

    async def write(self, place: Place, note: Note) -> None:
        """Write a note, whole or not at all, in the place of the one before.

        Raises:
            Failure: QUOTA_EXCEEDED when the disk is full; SERVICE_UNAVAILABLE when it is broken.
        """
        with translated(()):
            await asyncio.to_thread(_write, place.notes, note)

    def record(self, place: Place, record: bytes) -> None:
        """Add a record of the meter, one line; it is small, and written at once.

        One that comes when there is no note any more, as from work in the background, is dropped.
        """
        try:
            with open(place.notes / _NAME, "ab", opener=_existing) as file:
                file.write(record + b"\n")
        except FileNotFoundError:
            return
        except OSError:
            log.exception("meter record not noted", extra={"workspace": place.workspace})

    def remove(self, workspace: str, execution_id: str) -> None:
        """Remove a note, if it is still the one of that execution; absent is fine."""
        path = self._workspaces.place(workspace).notes / _NAME
        with contextlib.suppress(OSError):
            with path.open("rb") as file:
                first = orjson.loads(file.readline())
            if first["work"]["execution_id"] == execution_id:
                path.unlink()

    async def read(self) -> list[Note]:
        """Return all notes; those that cannot be read are told in the log and left out."""
        return await asyncio.to_thread(self._read)

    def _read(self) -> list[Note]:
        notes = []
        for workspace in self._workspaces.names():
            path = self._workspaces.place(workspace).notes / _NAME
            try:
                lines = path.read_bytes().split(b"\n")
            except FileNotFoundError:
                continue
            except OSError:
                log.exception("note not read", extra={"workspace": workspace})
                continue
            try:
                notes.append(_note(orjson.loads(lines[0]), _whole(lines[1:])))
            except (KeyError, TypeError, ValueError):
                log.exception("note not understood", extra={"workspace": workspace})
        return notes


def _write(folder: Path, note: Note) -> None:
    fields = {
        "work": asdict(note.work) | {"timeout": note.work.timeout.total_seconds()},
        "create_time_ns": note.create_time_ns,
        "begin_time_ns": note.begin_time_ns,
    }
    path = folder / _NAME
    fresh = path.with_suffix(".new")
    with open(fresh, "wb", opener=_private) as file:
        file.write(orjson.dumps(fields) + b"\n")
        file.writelines(record + b"\n" for record in note.records)
    fresh.replace(path)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _existing(path: str, flags: int) -> int:
    return os.open(path, flags & ~os.O_CREAT)


def _whole(lines: list[bytes]) -> tuple[bytes, ...]:
    # What follows the last line ending is empty, or was cut short.
    return tuple(lines[:-1])


def _note(fields: dict[str, Any], records: tuple[bytes, ...]) -> Note:
    work = fields["work"]
    return Note(
        work=Work(
            **work
            | {
                "timeout": timedelta(seconds=work["timeout"]),
                "budget": Budget(**work["budget"]),
                "allowed_rules": tuple(work["allowed_rules"]),
            }
        ),
        create_time_ns=fields["create_time_ns"],
        begin_time_ns=fields["begin_time_ns"],
        records=records,
    )
