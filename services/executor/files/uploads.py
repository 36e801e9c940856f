"""Files on their way in: kept out of the agent's sight until they are whole.

Does not know where they go.
"""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Callable
from dataclasses import dataclass

from moorline.errors.v1 import errors_pb2
from services.chassis.failures import Failure, field_invalid

UPLOADS = 4096
"""Uploads in parts at once."""
UPLOADS_PER_WORKSPACE = 8
"""Of those, into one workspace."""
PATIENCE_SECONDS = 600.0
"""How long an upload waits for its next part."""

_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_OLD = os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC


@dataclass(slots=True)
class Upload:
    """A file of which parts have come.

    Attributes:
        workspace: Where it goes.
        name: Of the file in the folder of uploads.
        size: Bytes so far.
        touched: When the last part came, in seconds of the clock.
        whole: Whether it came whole: it is over with the call, and not counted.
    """

    workspace: str
    name: str
    size: int
    touched: float
    whole: bool


class Uploads:
    """The uploads in parts of all workspaces.

    Called from the event loop, except for `names`; touches no disk.

    Args:
        clock: Seconds of a clock that does not go back.
    """

    def __init__(self, *, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._uploads: dict[tuple[str, str], Upload] = {}

    def begin(self, workspace: str, upload_id: str, *, whole: bool) -> Upload:
        """Begin an upload, anew when it was begun before.

        Args:
            workspace: Where it goes.
            upload_id: Chosen by the client.
            whole: Whether all of it has come.

        Raises:
            Failure: QUOTA_EXCEEDED when there are too many.
        """
        self.expire()
        self._uploads.pop((workspace, upload_id), None)
        if not whole and self._is_full(workspace):
            raise Failure(
                errors_pb2.ERROR_REASON_QUOTA_EXCEEDED,
                "Too many uploads are not finished. Finish one, or wait ten minutes.",
                limit=str(UPLOADS_PER_WORKSPACE),
                limitName="uploads",
            )
        upload = Upload(workspace, secrets.token_hex(8), 0, self._clock(), whole)
        self._uploads[workspace, upload_id] = upload
        return upload

    def get(self, workspace: str, upload_id: str, offset: int) -> Upload:
        """Return an upload that goes on.

        Raises:
            Failure: FIELD_INVALID when it is not known, or has less than `offset` bytes.
        """
        self.expire()
        upload = self._uploads.get((workspace, upload_id))
        if upload is None:
            raise field_invalid("offset", "be 0: no such upload is going on")
        if offset > upload.size:
            raise field_invalid("offset", f"be {upload.size}, as so many bytes have come")
        upload.touched = self._clock()
        return upload

    def end(self, upload_id: str, upload: Upload) -> None:
        """Forget an upload, unless it was begun anew meanwhile."""
        key = (upload.workspace, upload_id)
        if self._uploads.get(key) is upload:
            del self._uploads[key]

    def names(self, workspace: str) -> frozenset[str]:
        """Return the names of the files of a workspace's uploads that go on.

        May be called from a thread.
        """
        # Copied in one step, as the event loop goes on changing them meanwhile.
        known = self._uploads.copy().values()
        return frozenset(one.name for one in known if one.workspace == workspace)

    def expire(self) -> None:
        """Give up the uploads whose next part did not come in time."""
        oldest = self._clock() - PATIENCE_SECONDS
        for key in [key for key, one in self._uploads.items() if one.touched < oldest]:
            del self._uploads[key]

    def _is_full(self, workspace: str) -> bool:
        unfinished = [one for one in self._uploads.values() if not one.whole]
        same = sum(one.workspace == workspace for one in unfinished)
        return same >= UPLOADS_PER_WORKSPACE or len(unfinished) >= UPLOADS


def write(here: int, name: str, content: bytes, offset: int) -> None:
    """Write a part of a file, which ends there then.

    Args:
        here: Descriptor of the folder of uploads.
        name: The file.
        content: The part.
        offset: Where it begins; 0 makes the file.

    Raises:
        OSError: As `os.write`.
    """
    file = os.open(name, _NEW if offset == 0 else _OLD, 0o600, dir_fd=here)
    try:
        os.ftruncate(file, offset)
        os.lseek(file, offset, os.SEEK_SET)
        rest = memoryview(content)
        while rest:
            rest = rest[os.write(file, rest) :]
    finally:
        os.close(file)


def clear(here: int, going_on: Callable[[], frozenset[str]]) -> None:
    """Delete the files of uploads that were given up.

    Args:
        here: Descriptor of the folder of uploads.
        going_on: Returns the names of those that go on.
    """
    found = os.listdir(here)
    # Asked afterwards: an upload is known before its file is made, so all that were found are.
    keep = going_on()
    for name in found:
        if name not in keep:
            with contextlib.suppress(OSError):
                os.unlink(name, dir_fd=here)
