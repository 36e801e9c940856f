"""Tests of `services.executor.workspaces`."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from services.chassis.failures import Failure
from services.executor.workspaces import Workspaces


async def test_workspace_is_made_once_and_kept(tmp_path: Path) -> None:
    """Its files survive, and only we may look at them."""
    workspaces = Workspaces(root=tmp_path / "deep" / "root")
    place = await workspaces.make("abcdefgh")
    (place.files / "file").write_text("x")
    again = await workspaces.make("abcdefgh")

    assert place == again
    assert "x" == (again.files / "file").read_text()
    assert 0o700 == again.files.parent.stat().st_mode & 0o777


async def test_deletion_does_not_follow_links(tmp_path: Path) -> None:
    """What a link points to stays, be it inside a workspace or in its place."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "file").write_text("x")
    workspaces = Workspaces(root=tmp_path)
    place = await workspaces.make("abcdefgh")
    (place.files / "link").symlink_to(outside)
    (tmp_path / "linkedto").symlink_to(outside)
    await workspaces.delete("abcdefgh")
    await workspaces.delete("linkedto")
    await workspaces.delete("neverwas")

    assert not (tmp_path / "abcdefgh").exists()
    assert not (tmp_path / "linkedto").is_symlink()
    assert "x" == (outside / "file").read_text()


async def test_workspaces_are_listed(tmp_path: Path) -> None:
    """Links are none, and before the first one there is none."""
    workspaces = Workspaces(root=tmp_path / "root")
    before = workspaces.names()
    await workspaces.make("abcdefgh")
    (tmp_path / "root" / "linkedto").symlink_to(tmp_path)

    assert [] == before
    assert ["abcdefgh"] == workspaces.names()


async def test_deletion_knows_no_depth(tmp_path: Path) -> None:
    """An agent may have made more folders in each other than a stack could bear."""
    workspaces = Workspaces(root=tmp_path)
    place = await workspaces.make("abcdefgh")
    here = os.open(place.files, os.O_RDONLY)
    for _ in range(1050):
        os.mkdir("d", dir_fd=here)
        below = os.open("d", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
    os.close(here)
    await workspaces.delete("abcdefgh")

    assert [] == workspaces.names()
    assert not (tmp_path / "abcdefgh").exists()


async def test_an_interrupted_deletion_is_finished_by_the_next(tmp_path: Path) -> None:
    """Though the workspace is no longer to be seen."""
    workspaces = Workspaces(root=tmp_path)
    left = tmp_path / ".rubbish" / "abcdefgh" / "x"
    left.mkdir(parents=True)
    assert [] == workspaces.names()
    await workspaces.delete("abcdefgh")

    assert [] == list((tmp_path / ".rubbish").iterdir())


async def test_deletions_of_the_same_workspace_follow_each_other(tmp_path: Path) -> None:
    """Whoever comes second finds nothing, and that is fine."""
    workspaces = Workspaces(root=tmp_path)
    for _ in range(20):
        place = await workspaces.make("abcdefgh")
        for number in range(5):
            (place.files / f"f{number}").mkdir()
        await asyncio.gather(*(workspaces.delete("abcdefgh") for _ in range(4)))

    assert [] == workspaces.names()
    assert [] == list((tmp_path / ".rubbish").iterdir())


def test_workspaces_are_claimed_by_one_at_a_time(tmp_path: Path) -> None:
    """Whoever comes second can still use them, but must not end what the first has there."""
    workspaces = Workspaces(root=tmp_path / "root")
    with workspaces.claimed() as first, workspaces.claimed() as second:
        assert first
        assert not second
    with workspaces.claimed() as again:
        assert again
    assert [] == workspaces.names()


async def test_directory_that_cannot_be_used_is_told(tmp_path: Path) -> None:
    """By a reason, to whoever wants an agent."""
    (tmp_path / "root").write_text("no folder")
    with pytest.raises(Failure) as caught:
        await Workspaces(root=tmp_path / "root").make("abcdefgh")

    assert "FILE_UNSUITABLE" == caught.value.reason_name
