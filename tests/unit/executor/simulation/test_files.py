"""Tests of `services.executor.channels.simulation.files`."""

from __future__ import annotations

from pathlib import Path

import pytest

from services.executor.channels.simulation import files
from services.executor.channels.simulation.files import ToolError


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    """A workspace beside a secret, with links that lead out of it."""
    workspace = tmp_path / "workspace"
    workspace.mkdir()
    (tmp_path / "secret").write_text("secret")
    (workspace / "file-link").symlink_to(tmp_path / "secret")
    (workspace / "directory-link").symlink_to(tmp_path)
    (workspace / "loop").symlink_to("loop")
    (workspace / "directory").mkdir()
    return workspace


def test_written_file_can_be_read(workspace: Path) -> None:
    """Directories are made; the bytes are exactly those of the text."""
    files.write(workspace, "a/b/c.txt", "한글\r\n")

    assert "한글\r\n".encode() == (workspace / "a/b/c.txt").read_bytes()
    assert "한글\r\n" == files.read(workspace, "a/b/c.txt")


def test_link_within_the_workspace_is_followed(workspace: Path) -> None:
    """Only what ends outside is refused."""
    (workspace / "inner").symlink_to("directory")
    files.write(workspace, "inner/x", "1")

    assert "1" == (workspace / "directory/x").read_text()


@pytest.mark.parametrize(
    "path",
    [
        "../secret",
        "directory/../../secret",
        "/etc/passwd",
        "file-link",
        "directory-link/secret",
        "directory-link/new",
        "loop",
        "loop/x",
        "a\0b",
        ".",
        "",
        "directory",
        "x" * 300,
    ],
)
def test_path_that_is_no_file_of_the_workspace_is_refused(workspace: Path, path: str) -> None:
    """Neither reading nor writing reaches anything outside."""
    with pytest.raises(ToolError):
        files.write(workspace, path, "gotcha")
    with pytest.raises(ToolError):
        files.read(workspace, path)

    assert "secret" == (workspace.parent / "secret").read_text()
    assert {"workspace", "secret"} == {entry.name for entry in workspace.parent.iterdir()}


def test_only_the_first_part_of_a_huge_file_is_read(workspace: Path) -> None:
    """Memory is bounded, and bytes that are no text do not hurt."""
    (workspace / "big").write_bytes(b"\xff" * (2 << 20))

    assert (1 << 20) == len(files.read(workspace, "big"))
