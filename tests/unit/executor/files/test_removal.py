"""Tests of `services.executor.files.removal`."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from services.executor.files import removal
from tests.unit.executor.files.places import descriptors, fill


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A workspace's files, with something outside."""
    fill(tmp_path, "outside/file")
    (tmp_path / "root").mkdir()
    (tmp_path / "bin").mkdir()
    return tmp_path / "root"


@pytest.fixture
def bin_(root: Path) -> Iterator[int]:
    """What is being deleted."""
    descriptor = os.open(root.parent / "bin", os.O_RDONLY)
    yield descriptor
    os.close(descriptor)


def remove(root: Path, name: str, bin_: int) -> None:
    """Delete something in a folder."""
    here = os.open(root, os.O_RDONLY)
    try:
        removal.remove(here, name, bin_)
    finally:
        os.close(here)


def test_everything_in_a_folder_goes(root: Path, bin_: int) -> None:
    """Links and pipes as well; what links point to stays."""
    fill(root, "a/file", "a/b/c/file", "a/empty/", "other")
    (root / "a" / "link").symlink_to(root.parent / "outside")
    (root / "a" / "b" / "loop").symlink_to(".")
    os.mkfifo(root / "a" / "pipe")
    remove(root, "a", bin_)
    remove(root, "other", bin_)

    assert [] == list(root.iterdir())
    assert [] == list((root.parent / "bin").iterdir())
    assert (root.parent / "outside" / "file").exists()


def test_a_link_goes_alone(root: Path, bin_: int) -> None:
    """A folder it points to stays."""
    (root / "link").symlink_to(root.parent / "outside")
    remove(root, "link", bin_)

    assert (root.parent / "outside" / "file").exists()
    assert [] == list(root.iterdir())


def test_what_is_missing_is_an_error(root: Path, bin_: int) -> None:
    """The caller's."""
    with pytest.raises(FileNotFoundError):
        remove(root, "nothing", bin_)


def test_folders_may_be_deeper_than_a_stack(root: Path, bin_: int) -> None:
    """And than there are descriptors."""
    depth = 1050
    here = os.open(root, os.O_RDONLY)
    for _ in range(depth):
        os.mkdir("d", dir_fd=here)
        below = os.open("d", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
    os.close(here)
    before = descriptors()
    remove(root, "d", bin_)

    assert [] == list(root.iterdir())
    assert before == descriptors()


def test_permissions_that_were_taken_away_are_no_help(root: Path, bin_: int) -> None:
    """To whoever wants files to stay."""
    fill(root, "a/b/file")
    (root / "a" / "b").chmod(0)
    (root / "a").chmod(0)
    remove(root, "a", bin_)

    assert [] == list(root.iterdir())


def test_what_an_interruption_left_goes_with_the_next(root: Path, bin_: int) -> None:
    """Files as well as folders."""
    fill(root.parent, "bin/old/file", "bin/file")
    fill(root, "a/b")
    remove(root, "a", bin_)

    assert [] == list((root.parent / "bin").iterdir())


def test_a_folder_that_is_being_filled_is_emptied_again(root: Path, bin_: int) -> None:
    """As often as it takes, and not for ever."""
    fill(root, "a/file")
    here = os.open(root / "a", os.O_RDONLY)
    over = threading.Event()

    def refill() -> None:
        number = 0
        while not over.is_set():
            number += 1
            try:
                os.close(os.open(f"n{number}", os.O_CREAT | os.O_WRONLY, dir_fd=here))
            except FileNotFoundError:
                return

    thread = threading.Thread(target=refill)
    thread.start()
    try:
        try:
            remove(root, "a", bin_)
        except OSError as error:
            failed = error.strerror
        else:
            failed = None
    finally:
        over.set()
        thread.join()
        os.close(here)

    assert [] == list(root.iterdir())
    assert failed in (None, "Directory not empty")
    removal.empty(bin_)
    assert [] == list((root.parent / "bin").iterdir())


def test_whoever_goes_on_filling_a_folder_is_given_up(
    root: Path, bin_: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody waits for ever."""
    monkeypatch.setattr(removal, "_TRIES", 3)
    fill(root.parent, "bin/a/file")
    tried = []
    delete = os.rmdir

    def stubborn(name: str, *, dir_fd: int) -> None:
        tried.append(name)
        raise OSError(39, "Directory not empty")

    monkeypatch.setattr("services.executor.files.removal.os.rmdir", stubborn)
    with pytest.raises(OSError, match="not empty"):
        removal.empty(bin_)
    monkeypatch.setattr("services.executor.files.removal.os.rmdir", delete)
    removal.empty(bin_)

    assert ["a"] * 3 == tried
