"""Tests of `services.executor.files.removal`."""

from __future__ import annotations

import contextlib
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
    before = descriptors(root.parent)
    remove(root, "d", bin_)

    assert [] == list(root.iterdir())
    assert before == descriptors(root.parent)


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


def test_a_folder_that_is_being_filled_is_emptied_again(
    root: Path, bin_: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As often as it takes."""
    monkeypatch.setattr(removal, "PATIENCE_SECONDS", 60.0)
    fill(root, "a/file")
    here = os.open(root / "a", os.O_RDONLY)
    rounds = list(range(20))
    wanted, begun = threading.Semaphore(0), threading.Semaphore(0)

    def refill() -> None:
        for _ in range(20):
            wanted.acquire()
            # The last ones may come too late, when the folder is gone.
            with contextlib.suppress(FileNotFoundError):
                for number in range(100):
                    os.close(os.open(f"n{number}", os.O_CREAT | os.O_WRONLY, dir_fd=here))
                    if number == 0:
                        begun.release()

    delete = os.rmdir

    def late(name: str, *, dir_fd: int) -> None:
        if rounds:
            rounds.pop()
            wanted.release()
            begun.acquire()
        delete(name, dir_fd=dir_fd)

    monkeypatch.setattr("services.executor.files.removal.os.rmdir", late)
    thread = threading.Thread(target=refill)
    thread.start()
    try:
        remove(root, "a", bin_)
    finally:
        wanted.release(20)
        thread.join()
        os.close(here)

    assert [] == rounds
    assert [] == list(root.iterdir())
    assert [] == list((root.parent / "bin").iterdir())


def test_whoever_goes_on_filling_folders_is_given_up(
    root: Path, bin_: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After so many seconds of trying again in all, however many times that is."""
    fill(root.parent, "bin/a/file", "bin/b/file")
    now = 0.0
    delete = os.rmdir

    def refill(name: str, *, dir_fd: int) -> None:
        nonlocal now
        now += 1
        # Somebody lets go of the one folder after a while, and never of the other.
        if name != "a" or now < 4:
            os.close(os.open(f"{name}/new", os.O_CREAT | os.O_WRONLY, dir_fd=dir_fd))
        delete(name, dir_fd=dir_fd)

    monkeypatch.setattr("services.executor.files.removal.os.rmdir", refill)
    with pytest.raises(OSError, match="not empty"):
        removal.empty(bin_, clock=lambda: now)
    spent = now
    monkeypatch.setattr("services.executor.files.removal.os.rmdir", delete)
    removal.empty(bin_)

    assert removal.PATIENCE_SECONDS <= spent <= removal.PATIENCE_SECONDS + 2
    assert [] == list((root.parent / "bin").iterdir())
