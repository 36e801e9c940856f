"""Workspaces for tests of the files room."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import pytest

from services.chassis.failures import Failure
from services.executor.place import Place
from services.executor.workspaces import Workspaces

WORKSPACE = "abcdefgh"


def fill(root: Path, *paths: str) -> None:
    """Write files with their own path in them; one that ends with a slash is a folder."""
    for path in paths:
        whole = root / path
        if path.endswith("/"):
            whole.mkdir(parents=True, exist_ok=True)
        else:
            whole.parent.mkdir(parents=True, exist_ok=True)
            whole.write_bytes(os.fsencode(path) + b"\n")


async def make_place(tmp_path: Path) -> Place:
    """Return a new workspace."""
    return await Workspaces(root=tmp_path / "workspaces").make(WORKSPACE)


def reason(caught: pytest.ExceptionInfo[Failure]) -> str:
    """Return the reason of a failure."""
    return caught.value.reason_name


def descriptors(root: Path) -> int:
    """Return how many descriptors are open of what is, or was, in a folder."""
    found = 0
    for descriptor in Path("/proc/self/fd").iterdir():
        # Others of this process come and go, in whatever threads it has.
        with contextlib.suppress(FileNotFoundError):
            found += descriptor.readlink().is_relative_to(root)
    return found
