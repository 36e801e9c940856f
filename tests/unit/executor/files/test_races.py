"""Tests of what happens when an agent exchanges folders for links meanwhile."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from services.chassis.failures import Failure
from services.chassis.tasks import Tasks
from services.executor.files.disk import Disk
from tests.unit.executor.files.places import WORKSPACE, fill
from tests.unit.executor.files.setting import Setting
from tests.unit.executor.files.swaps import exchange, rounds, swapping


@pytest.fixture
async def s(tmp_path: Path) -> AsyncIterator[Setting]:
    """The files of workspaces."""
    async with Disk() as disk, Tasks() as tasks:
        yield Setting(tmp_path / "workspaces", disk, tasks)


class TestRaces:
    """An agent exchanges a folder for a link while its files are written and deleted."""

    async def test_nothing_happens_where_the_link_points(self, s: Setting) -> None:
        """Thousands of times; what is refused is refused for that."""
        outside = s.place.files.parents[2] / "outside"
        fill(outside, "file", "sub/file")
        await s.write("a/sub/file", b"mine")
        (s.place.files / "link").symlink_to(outside)
        expected = {"", "FILE_UNSUITABLE", "RESOURCE_NOT_FOUND"}
        told: set[str] = set()

        async def attempt(act: Any) -> None:
            try:
                await act
                told.add("")
            except Failure as failure:
                told.add(failure.reason_name)

        with swapping(lambda: exchange(s.place.files / "a", s.place.files / "link")):
            for number in rounds(lambda: expected <= told, least=150):
                await attempt(s.write("a/new", b"%d" % number))
                await attempt(s.write("a/made/new", b"x"))
                await attempt(s.files.delete(WORKSPACE, ("a", "file")))
                await attempt(s.files.delete(WORKSPACE, ("a", "sub", "file")))
                await attempt(s.files.list(WORKSPACE, ("a", "sub"), size=5, token=""))

        assert expected == told
        assert ["file", "sub"] == sorted(path.name for path in outside.iterdir())
        assert "file\n" == (outside / "file").read_text()
        assert "sub/file\n" == (outside / "sub" / "file").read_text()
        assert [] == s.left()
