"""The files of an agent as the synchronous client hands them out.

Wraps the asynchronous twin; nothing here knows the protocol.
"""

from __future__ import annotations

from pathlib import Path

from moorline.async_files import AsyncFiles
from moorline.bridge import Bridge
from moorline.files import File, WorkspaceChanges


class SyncFiles:
    """The files of one agent; see `AsyncFiles`."""

    def __init__(self, twin: AsyncFiles, bridge: Bridge) -> None:
        self._twin = twin
        self._bridge = bridge

    def list(self, path: str = "", *, limit: int | None = None) -> tuple[File, ...]:
        """List a folder, folders first, by name; see `AsyncFiles.list`."""
        return self._bridge.run(self._twin.list(path, limit=limit))

    def read(self, path: str) -> bytes:
        """Read a whole file into memory; see `AsyncFiles.read`."""
        return self._bridge.run(self._twin.read(path))

    def write(
        self,
        path: str,
        content: bytes | str,
        *,
        etag: str = "",
        create_only: bool = False,
        executable: bool = False,
    ) -> File:
        """Write a file; see `AsyncFiles.write`."""
        return self._bridge.run(
            self._twin.write(
                path, content, etag=etag, create_only=create_only, executable=executable
            )
        )

    def delete(self, path: str) -> None:
        """Delete a file, a link, or a folder with all that is in it."""
        self._bridge.run(self._twin.delete(path))

    def diff(self) -> WorkspaceChanges:
        """Tell what changed since the running turn began, or else the last one."""
        return self._bridge.run(self._twin.diff())

    def upload(
        self,
        local: Path | str,
        path: str | None = None,
        *,
        etag: str = "",
        create_only: bool = False,
    ) -> File:
        """Send a local file of any size; see `AsyncFiles.upload`."""
        return self._bridge.run(self._twin.upload(local, path, etag=etag, create_only=create_only))

    def download(self, path: str, local: Path | str | None = None) -> Path:
        """Save a file of any size; see `AsyncFiles.download`."""
        return self._bridge.run(self._twin.download(path, local))

    def archive(self, local: Path | str | None = None, path: str = "") -> Path:
        """Save a folder as a ZIP archive; see `AsyncFiles.archive`."""
        return self._bridge.run(self._twin.archive(local, path))
