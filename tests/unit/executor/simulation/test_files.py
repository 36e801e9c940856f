"""Tests of `services.executor.channels.simulation.files`."""

from __future__ import annotations

import os
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
        "d/" * 64 + "f",
        "d/" * 1200 + "f",
        ("x" * 200 + "/") * 5 + "x" * 20,
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


def test_path_that_is_just_short_enough_is_taken(workspace: Path) -> None:
    """Of 64 names, or of 1,024 bytes."""
    for path in ("d/" * 63 + "f", ("x" * 200 + "/") * 5 + "x" * 19):
        files.write(workspace, path, "1")

        assert "1" == files.read(workspace, path)


def test_only_the_first_part_of_a_huge_file_is_read(workspace: Path) -> None:
    """Memory is bounded; how much there is is told, within what a reader is shown."""
    with (workspace / "big").open("wb") as file:
        file.write(b"a" * (1 << 20))
        file.truncate(1 << 40)
    text = files.read(workspace, "big")

    assert text.startswith("a" * 65_000)
    assert text.endswith("\n[The first 65408 of 1099511627776 bytes.]")
    assert len(text) <= 64 << 10


def test_file_that_can_be_shown_is_read_whole(workspace: Path) -> None:
    """Bytes that are no text do not hurt."""
    (workspace / "long").write_bytes(b"\xff" * (64 << 10))

    assert "\ufffd" * (64 << 10) == files.read(workspace, "long")


@pytest.mark.timeout(5)
@pytest.mark.parametrize("read_by_somebody", [False, True])
def test_what_is_no_regular_file_is_refused_at_once(
    workspace: Path, read_by_somebody: bool
) -> None:
    """A pipe would make its reader, and its writer, wait for the other end for ever."""
    os.mkfifo(workspace / "pipe")
    other_end = os.open(workspace / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    if not read_by_somebody:
        os.close(other_end)
    with pytest.raises(ToolError):
        files.read(workspace, "pipe")
    with pytest.raises(ToolError):
        files.write(workspace, "pipe", "x")
    if read_by_somebody:
        assert b"" == os.read(other_end, 1)
        os.close(other_end)


def test_written_file_has_nothing_of_the_one_before(workspace: Path) -> None:
    """A shorter text leaves no tail."""
    files.write(workspace, "file", "long text")
    files.write(workspace, "file", "new")

    assert "new" == files.read(workspace, "file")
