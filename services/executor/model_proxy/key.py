"""The model provider's key, in a file that may be replaced at any time. Does not know its use."""

from __future__ import annotations

import logging
import stat
from pathlib import Path

log = logging.getLogger(__name__)

_LIMIT = 8 << 10
"""Bytes of the longest key there may be."""


class Key:
    """Reads the key, again whenever its file has changed.

    Args:
        file: Path; empty for none.
    """

    def __init__(self, file: str) -> None:
        self._file = file
        self._seen: tuple[int, int, int] | None = None
        self._value = ""
        self._problem = ""

    @property
    def value(self) -> str:
        """The key; the last good one while the file is bad; empty when there never was one."""
        self._look()
        return self._value

    @property
    def problem(self) -> str:
        """What is wrong with the file now, one English sentence; empty for nothing."""
        self._look()
        return self._problem

    def _look(self) -> None:
        if not self._file:
            self._problem = "No key of the model provider is set: MOORLINE_MODEL_KEY_FILE is empty."
            return
        try:
            status = Path(self._file).stat()
            seen = (status.st_mtime_ns, status.st_ino, status.st_size)
            if seen == self._seen:
                return
            value = _read(Path(self._file))
        except (OSError, ValueError) as error:
            seen, value = (0, 0, 0), ""
            problem = error.strerror if isinstance(error, OSError) else str(error)
            problem = f"The key file {self._file} cannot be used: {problem}."
        else:
            problem = ""
        self._seen = seen
        if problem != self._problem and problem:
            log.warning("model key not usable", extra={"problem": problem})
        self._problem = problem
        self._value = value or self._value


def _read(file: Path) -> str:
    """Read a key.

    Raises:
        OSError: It cannot be read.
        ValueError: It is none.
    """
    if not stat.S_ISREG(file.stat().st_mode):
        # To open a pipe would wait for its other end.
        raise ValueError("it is a folder, a pipe or a device")
    with file.open("rb") as stream:
        value = stream.read(_LIMIT + 1).decode("ascii", "replace").strip()
    if not value:
        raise ValueError("it is empty")
    if len(value) > _LIMIT or not value.isprintable() or not value.isascii() or " " in value:
        raise ValueError("it does not contain one key")
    return value
