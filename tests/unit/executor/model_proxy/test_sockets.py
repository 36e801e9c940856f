"""Tests of `services.executor.model_proxy.sockets`."""

from __future__ import annotations

import os
import socket
import stat
from pathlib import Path

import pytest

from services.executor.model_proxy import sockets

ROOT_ONLY = pytest.mark.skipif(os.geteuid() != 0, reason="needs to be root")


def connect(path: Path) -> None:
    """Connect, from inside the folder, where the address is short."""
    with socket.socket(socket.AF_UNIX) as client:
        descriptor = os.open(path.parent, os.O_RDONLY)
        client.connect(f"/proc/self/fd/{descriptor}/{path.name}")
        os.close(descriptor)


def test_path_may_be_longer_than_an_address(tmp_path: Path) -> None:
    """The folders of agents may lie deep."""
    folder = tmp_path / ("x" * 100) / ("y" * 100)
    folder.mkdir(parents=True)
    with sockets.listen(folder, "api.sock") as listening:
        listening.listen()
        connect(folder / "api.sock")


def test_takes_the_place_of_what_is_there(tmp_path: Path) -> None:
    """A socket of an executor that is gone, or a link of an agent's, which is not followed."""
    other = tmp_path / "other"
    other.write_text("precious")
    (tmp_path / "api.sock").symlink_to(other)
    for _ in range(2):
        with sockets.listen(tmp_path, "api.sock") as listening:
            listening.listen()
            connect(tmp_path / "api.sock")

    assert "precious" == other.read_text()
    assert stat.S_ISSOCK((tmp_path / "api.sock").lstat().st_mode)


def test_is_for_one_user_only(tmp_path: Path) -> None:
    """Whatever the mask of this process is."""
    before = os.umask(0)
    try:
        with sockets.listen(tmp_path, "api.sock"):
            mode = (tmp_path / "api.sock").lstat().st_mode
    finally:
        os.umask(before)

    assert 0o600 == stat.S_IMODE(mode)


@ROOT_ONLY
def test_belongs_to_the_folders_owner(tmp_path: Path) -> None:
    """An agent that is another user can connect."""
    os.chown(tmp_path, 10001, 10002)
    with sockets.listen(tmp_path, "api.sock"):
        status = (tmp_path / "api.sock").lstat()

    assert (10001, 10002) == (status.st_uid, status.st_gid)


def test_folder_that_is_a_link_is_refused(tmp_path: Path) -> None:
    """Nobody sends the socket elsewhere."""
    (tmp_path / "real").mkdir()
    (tmp_path / "run").symlink_to(tmp_path / "real")
    with pytest.raises(OSError, match="Not a directory"):
        sockets.listen(tmp_path / "run", "api.sock")

    assert [] == list((tmp_path / "real").iterdir())


def test_name_that_cannot_be_freed_is_refused(tmp_path: Path) -> None:
    """An agent may have put a folder there."""
    (tmp_path / "api.sock").mkdir()
    with pytest.raises(OSError, match=r"api\.sock"):
        sockets.listen(tmp_path, "api.sock")


def test_removing_is_fine_with_nothing_there(tmp_path: Path) -> None:
    """Neither the socket nor the folder has to be."""
    with sockets.listen(tmp_path, "api.sock"):
        pass
    for _ in range(2):
        sockets.remove(tmp_path, "api.sock")
    sockets.remove(tmp_path / "none", "api.sock")

    assert [] == list(tmp_path.iterdir())
