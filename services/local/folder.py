"""Keeps what a run on this machine leaves on disk: keys, logs, and where it runs.

Does not know what the services write into the folder themselves.
"""

from __future__ import annotations

import fcntl
import json
import os
import secrets
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from services.local.errors import StartError

LOG_BYTES = 10 * 1024 * 1024
"""A log that is longer at start is set aside; the one set aside before is dropped."""


class DataFolder:
    """The folder of one run, readable by its owner only.

    A context manager: entering makes the folder and takes its lock, which the
    kernel gives back however this process ends.

    Args:
        path: Where it is or is to be made.
    """

    def __init__(self, path: Path) -> None:
        self.path = path.resolve()
        self._lock: int | None = None

    def __enter__(self) -> Self:
        """Make the folder and lock it.

        Raises:
            StartError: It cannot be made, or another run has it.
        """
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            (self.path / "logs").mkdir(mode=0o700, exist_ok=True)
            self._lock = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise StartError(f"{self.path} cannot be used: {error.strerror}.") from error
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            owner = os.pread(self._lock, 32, 0).decode() or "another"
            os.close(self._lock)
            raise StartError(
                f"{self.path} is in use by process {owner}. Stop that, or try:  make run DATA=other"
            ) from None
        os.ftruncate(self._lock, 0)
        os.pwrite(self._lock, str(os.getpid()).encode(), 0)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Forget where it ran, and give the lock back."""
        (self.path / "run.json").unlink(missing_ok=True)
        if self._lock is not None:
            os.close(self._lock)

    def secret(self, name: str) -> str:
        """Return the secret kept in a file, made at the first call.

        Args:
            name: File name; its mode is 0600.

        Raises:
            StartError: The file cannot be read or made, or holds what is no secret.
        """
        file = self.path / name
        try:
            if not file.exists() or not file.read_bytes().strip():
                self._replace(name, secrets.token_urlsafe(32) + "\n")
            file.chmod(0o600)
            secret = file.read_bytes().strip().decode(errors="replace")
        except OSError as error:
            raise StartError(f"{file} cannot be used: {error.strerror}.") from error
        if not (secret.isascii() and secret.isprintable()) or " " in secret:
            raise StartError(
                f"{file} is not a secret: it must be one word of ASCII characters. "
                "Delete it to have a new one made."
            )
        return secret

    def put(self, name: str, text: str) -> None:
        """Write a file that only its owner may read.

        Raises:
            StartError: It cannot be written.
        """
        try:
            self._replace(name, text)
        except OSError as error:
            raise StartError(f"{self.path / name} cannot be used: {error.strerror}.") from error

    def has(self, name: str) -> bool:
        """Tell whether a file is there."""
        return (self.path / name).is_file()

    def log(self, name: str) -> Path:
        """Return where a program's output goes, with a long old one set aside."""
        file = self.path / "logs" / f"{name}.log"
        if file.exists() and file.stat().st_size > LOG_BYTES:
            file.replace(file.with_suffix(".log.1"))
        return file

    def keep(self, name: str, content: Mapping[str, int]) -> None:
        """Write a file for later runs, which read it by `kept`."""
        self._replace(name, json.dumps(content, indent=2) + "\n")

    def kept(self, name: str) -> dict[str, int]:
        """Return what an earlier run kept; nothing when that cannot be read."""
        try:
            content = json.loads((self.path / name).read_bytes())
        except (OSError, ValueError):
            return {}
        if not isinstance(content, dict):
            return {}
        return {key: value for key, value in content.items() if type(value) is int}

    def record(self, state: Mapping[str, Any]) -> None:
        """Write `run.json`, for programs that want to know what runs where."""
        self._replace("run.json", json.dumps(state, indent=2) + "\n")

    def _replace(self, name: str, text: str) -> None:
        fresh = self.path / f"{name}.new"
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(text)
        fresh.replace(self.path / name)
