"""Tests of `services.executor.files.workspace_files`, `placing`, `uploads` and `room`."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import pytest

from services.chassis.failures import Failure
from services.chassis.tasks import Tasks
from services.executor.files import placing, room, uploads, workspace_files
from services.executor.files.disk import Disk
from services.executor.files.placing import Terms
from services.executor.place import Place
from tests.unit.executor.fakes import until
from tests.unit.executor.files.places import WORKSPACE, fill, reason
from tests.unit.executor.files.setting import ANY, ROOM, Setting

P = ParamSpec("P")
R = TypeVar("R")


@pytest.fixture
async def s(tmp_path: Path) -> AsyncIterator[Setting]:
    """The files of workspaces."""
    async with Disk() as disk, Tasks() as tasks:
        yield Setting(tmp_path / "workspaces", disk, tasks)


class Holding(Disk):
    """Holds one use of the disk back until the test lets it go on, and only that."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = asyncio.Event()
        self.held = asyncio.Event()

    async def run(
        self, workspace: str, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs
    ) -> R:
        """Call a function in a thread; the first one when it may."""
        if not self.held.is_set():
            self.held.set()
            await self.gate.wait()
        return await super().run(workspace, function, *args, **kwargs)


class TestReading:
    """Where nothing was ever written, too."""

    async def test_a_workspace_that_never_was_is_an_empty_one(self, s: Setting) -> None:
        """And looking at it makes nothing."""
        assert ([], "") == await s.files.list(WORKSPACE, (), size=10, token="")
        assert not (await s.files.changes(WORKSPACE)).changes
        for act in (
            s.files.list(WORKSPACE, ("a",), size=10, token=""),
            s.files.read(WORKSPACE, ("a",), offset=0, length=10),
            s.files.delete(WORKSPACE, ("a",)),
        ):
            with pytest.raises(Failure) as caught:
                await act
            assert "RESOURCE_NOT_FOUND" == reason(caught)

        assert not s.place.files.parent.exists()

    async def test_what_was_written_is_read_and_listed(self, s: Setting) -> None:
        """With the folders above it."""
        written = await s.write("a/b/file", b"content")
        read, content = await s.files.read(WORKSPACE, ("a", "b", "file"), offset=3, length=2)
        listed, _ = await s.files.list(WORKSPACE, ("a", "b"), size=10, token="")

        assert b"te" == content
        assert written == read == listed[0]
        assert 0o644 == (s.place.files / "a" / "b" / "file").stat().st_mode & 0o777
        assert [] == s.left()


class TestWriting:
    """Whole, or not at all."""

    async def test_a_file_is_replaced_at_once(self, s: Setting) -> None:
        """Whoever has the old one open keeps it."""
        await s.write("file", b"old")
        with (s.place.files / "file").open("rb") as old:
            file = await s.write("file", b"newer", replace(ANY, executable=True))
            assert b"old" == old.read()

        assert b"newer" == (s.place.files / "file").read_bytes()
        assert (5, True) == (file.size, file.executable)
        assert 0o755 == (s.place.files / "file").stat().st_mode & 0o777

    async def test_etags_are_heeded(self, s: Setting) -> None:
        """A file that was changed, or is gone, is left as it is."""
        first = await s.write("file", b"1")
        second = await s.write("file", b"22", replace(ANY, etag=first.etag))

        assert "ETAG_MISMATCH" == await s.refusal("file", b"3", replace(ANY, etag=first.etag))
        assert "ETAG_MISMATCH" == await s.refusal("gone", b"3", replace(ANY, etag=first.etag))
        assert b"22" == (s.place.files / "file").read_bytes()
        assert [] == s.left()
        await s.write("file", b"3", replace(ANY, etag=second.etag))

    async def test_what_must_be_new_replaces_nothing(self, s: Setting) -> None:
        """Nor a link or a folder."""
        new = replace(ANY, create_only=True)
        await s.write("file", b"1", new)
        (s.place.files / "link").symlink_to("nowhere")
        fill(s.place.files, "folder/")
        for name in ("file", "link", "folder"):
            assert "RESOURCE_EXISTS" == await s.refusal(name, b"2", new)

        assert b"1" == (s.place.files / "file").read_bytes()
        assert [] == s.left()

    async def test_of_two_that_must_be_new_one_is(self, s: Setting) -> None:
        """At whatever moment they come."""
        new = replace(ANY, create_only=True)
        answers = await asyncio.gather(
            *(s.write("file", b"%d" % number, new) for number in range(8)), return_exceptions=True
        )

        assert 1 == sum(not isinstance(answer, Failure) for answer in answers)
        assert [] == s.left()

    async def test_links_and_folders_are_not_written(self, s: Setting) -> None:
        """What a link points to stays as it is; so does a file in the place of a folder."""
        outside = s.place.files.parents[2] / "outside"
        outside.write_text("x")
        await s.write("file", b"1")
        (s.place.files / "link").symlink_to(outside)
        fill(s.place.files, "folder/")
        for path in ("link", "folder", "file/below", "link/below"):
            assert "FILE_UNSUITABLE" == await s.refusal(path, b"2")

        assert "x" == outside.read_text()
        assert (s.place.files / "link").is_symlink()

    async def test_a_link_that_comes_in_between_is_taken_away_itself(
        self, s: Setting, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Between the look and the act, what it points to stays as it is."""
        outside = s.place.files.parents[2] / "outside"
        outside.write_text("x")
        real = placing._check

        def late(here: int, parts: Any, terms: Terms) -> None:
            real(here, parts, terms)
            os.symlink(outside, parts[-1], dir_fd=here)

        monkeypatch.setattr(placing, "_check", late)
        await s.write("file", b"1")
        assert "RESOURCE_EXISTS" == await s.refusal("file2", b"2", replace(ANY, create_only=True))

        assert "x" == outside.read_text()
        assert b"1" == (s.place.files / "file").read_bytes()

    async def test_files_belong_to_the_agent(self, s: Setting) -> None:
        """Who has to be able to change them."""
        if os.geteuid() != 0:
            pytest.skip("needs to be root")
        place = await s.workspaces.make(WORKSPACE)
        os.chown(place.files, 10001, 10001)
        await s.write("a/file", b"1")

        assert {10001} == {(place.files / name).stat().st_uid for name in ("a", "a/file")}


class TestParts:
    """Files that come in parts."""

    async def test_the_file_appears_with_its_last_part(self, s: Setting) -> None:
        """And not before."""
        assert await s.write("file", b"one ", upload_id="upload-1", more=True) is None
        assert await s.write("file", b"two ", upload_id="upload-1", offset=4, more=True) is None
        assert [] == list(s.place.files.iterdir())
        file = await s.write("file", b"three", upload_id="upload-1", offset=8)

        assert 13 == file.size
        assert b"one two three" == (s.place.files / "file").read_bytes()
        assert [] == s.left()

    async def test_a_part_can_be_sent_again(self, s: Setting) -> None:
        """Its answer may have been lost."""
        await s.write("file", b"one ", upload_id="upload-1", more=True)
        for _ in range(2):
            await s.write("file", b"two ", upload_id="upload-1", offset=4, more=True)
        await s.write("file", b"three", upload_id="upload-1", offset=8)

        assert b"one two three" == (s.place.files / "file").read_bytes()

    async def test_offset_zero_begins_anew(self, s: Setting) -> None:
        """What came before is forgotten."""
        await s.write("file", b"long long ago", upload_id="upload-1", more=True)
        await s.write("file", b"new ", upload_id="upload-1", more=True)
        await s.write("file", b"file", upload_id="upload-1", offset=4)

        assert b"new file" == (s.place.files / "file").read_bytes()
        assert [] == s.left()

    async def test_an_upload_that_began_anew_outlives_the_call_that_began_it_before(
        self, tmp_path: Path
    ) -> None:
        """A client that gave the call up may be heard again before its end is."""
        async with Holding() as disk, Tasks() as tasks:
            s = Setting(tmp_path / "workspaces", disk, tasks)
            before = asyncio.create_task(s.write("file", b"x", upload_id="upload-1", more=True))
            await disk.held.wait()
            await s.write("file", b"one ", upload_id="upload-1", more=True)
            before.cancel()
            await asyncio.wait([before])
            await s.write("file", b"two", upload_id="upload-1", offset=4)

            assert before.cancelled()
            assert b"one two" == (s.place.files / "file").read_bytes()

    async def test_parts_may_not_be_missing(self, s: Setting) -> None:
        """The upload is known, and goes on where it is."""
        assert "FIELD_INVALID" == await s.refusal("file", b"x", upload_id="upload-1", offset=3)
        await s.write("file", b"one", upload_id="upload-1", more=True)
        assert "FIELD_INVALID" == await s.refusal("file", b"x", upload_id="upload-1", offset=4)
        await s.write("file", b"!", upload_id="upload-1", offset=3)

        assert b"one!" == (s.place.files / "file").read_bytes()

    async def test_uploads_are_few(self, s: Setting) -> None:
        """In one workspace, and until some are given up."""
        for number in range(uploads.UPLOADS_PER_WORKSPACE):
            await s.write("file", b"x", upload_id=f"upload-{number}", more=True)
        assert "QUOTA_EXCEEDED" == await s.refusal("file", b"x", upload_id="upload-x", more=True)
        assert uploads.UPLOADS_PER_WORKSPACE == len(s.left())
        s.now += uploads.PATIENCE_SECONDS + 1
        await s.write("file", b"x", upload_id="upload-x", more=True)
        assert 1 == len(s.left())

        assert "FIELD_INVALID" == await s.refusal("file", b"x", upload_id="upload-0", offset=1)

    async def test_files_that_come_whole_are_not_counted(self, s: Setting) -> None:
        """However many come at once."""
        await asyncio.gather(*(s.write(f"f{number}", b"x") for number in range(40)))

        assert 40 == len(list(s.place.files.iterdir()))
        assert [] == s.left()

    async def test_what_nobody_finishes_is_deleted(self, s: Setting) -> None:
        """After a while, and only that."""
        left = []
        await s.write("file", b"x", upload_id="upload-1", more=True)
        s.now = 3
        await s.write("file", b"y", upload_id="upload-2", more=True)
        for now in (600, 602, 700):
            s.now = now
            s.files._sweeps[WORKSPACE].cancel()
            s.files._begin_sweep(WORKSPACE)
            await until(lambda: not s.tasks._tasks)
            left.append(len(s.left()))

        assert [2, 1, 0] == left
        assert {} == s.files._sweeps

    @pytest.mark.parametrize("what", ["write", "sweep"])
    async def test_what_began_while_others_were_being_deleted_goes_on(
        self, tmp_path: Path, what: str
    ) -> None:
        """However late they are: only what was given up is."""
        async with Holding() as disk, Tasks() as tasks:
            s = Setting(tmp_path / "workspaces", disk, tasks)
            late = asyncio.create_task(
                s.write("other", b"x") if what == "write" else s.files._sweep(WORKSPACE)
            )
            await disk.held.wait()
            await s.write("file", b"one ", upload_id="upload-1", more=True)
            disk.gate.set()
            await late
            await s.write("file", b"two", upload_id="upload-1", offset=4)

            assert b"one two" == (s.place.files / "file").read_bytes()
            assert [] == s.left()

    async def test_a_workspace_that_is_gone_is_not_tidied_up(self, s: Setting) -> None:
        """Nor made again for that."""
        await s.write("file", b"x", upload_id="upload-1", more=True)
        await s.workspaces.delete(WORKSPACE)
        await s.files._sweep(WORKSPACE)

        assert not s.place.files.parent.exists()

    async def test_a_refused_upload_is_over(self, s: Setting) -> None:
        """Nothing of it is left."""
        await s.write("file", b"x" * 600, upload_id="upload-1", more=True)
        fill(s.place.files, "file/")
        assert "FILE_UNSUITABLE" == await s.refusal("file", b"x", upload_id="upload-1", offset=600)

        assert [] == s.left()
        assert "FIELD_INVALID" == await s.refusal("file", b"x", upload_id="upload-1", offset=1)


class TestRoom:
    """How much may be written."""

    async def test_files_have_a_limit(self, s: Setting) -> None:
        """In parts as well."""
        assert "QUOTA_EXCEEDED" == await s.refusal("file", b"x" * 1001)
        await s.write("file", b"x" * 600, upload_id="upload-1", more=True)
        assert "QUOTA_EXCEEDED" == await s.refusal(
            "file", b"x" * 401, upload_id="upload-1", offset=600
        )

    async def test_workspaces_may_have_one(self, s: Setting) -> None:
        """Nothing is left of what did not fit, whether it came whole or in parts."""
        s.files = s.make(replace(ROOM, workspace_bytes=100))
        await s.write("a/file", b"x" * 90)
        assert "QUOTA_EXCEEDED" == await s.refusal("b", b"x" * 11)
        await s.write("b", b"x" * 10, upload_id="upload-1", more=True)
        assert "QUOTA_EXCEEDED" == await s.refusal("b", b"x", upload_id="upload-1", offset=10)
        await s.write("b", b"x" * 10)

        assert {"a", "b"} == {path.name for path in s.place.files.iterdir()}

    async def test_a_workspace_of_too_many_files_is_full(
        self, s: Setting, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """As nobody counts them."""
        monkeypatch.setattr(room, "COUNTED", 2)
        s.files = s.make(replace(ROOM, workspace_bytes=1000))
        for name in ("a", "b", "c"):
            await s.write(name, b"")

        assert "QUOTA_EXCEEDED" == await s.refusal("d", b"")

    async def test_some_of_the_disk_stays_free(self, s: Setting) -> None:
        """For the agents."""
        s.files = s.make(replace(ROOM, spare_bytes=1 << 60))

        assert "QUOTA_EXCEEDED" == await s.refusal("file", b"x")


class TestDeleting:
    """Files, folders, workspaces."""

    async def test_files_and_folders_go_once(self, s: Setting) -> None:
        """The second time they are not found."""
        await s.write("a/b/file", b"1")
        await s.files.delete(WORKSPACE, ("a", "b", "file"))
        await s.files.delete(WORKSPACE, ("a",))
        with pytest.raises(Failure) as caught:
            await s.files.delete(WORKSPACE, ("a",))

        assert "RESOURCE_NOT_FOUND" == reason(caught)
        assert [] == list(s.place.files.iterdir())

    async def test_links_on_the_way_are_not_followed(self, s: Setting) -> None:
        """What is behind them stays."""
        await s.write("a/file", b"1")
        (s.place.files / "link").symlink_to("a")
        with pytest.raises(Failure) as caught:
            await s.files.delete(WORKSPACE, ("link", "file"))

        assert "FILE_UNSUITABLE" == reason(caught)
        assert (s.place.files / "a" / "file").exists()

    async def test_a_workspace_that_is_gone_is_not_made_again(self, s: Setting) -> None:
        """By a call that was still on its way."""
        s.files.close(WORKSPACE)

        assert "RESOURCE_NOT_FOUND" == await s.refusal("file", b"1")
        assert not s.place.files.parent.exists()

    async def test_what_is_written_meanwhile_goes_with_it(
        self, s: Setting, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Even by a call that was not refused any more."""
        make = s.workspaces.make

        async def slow(workspace: str) -> Place:
            s.files.close(workspace)
            await s.workspaces.delete(workspace)
            return await make(workspace)

        monkeypatch.setattr(s.workspaces, "make", slow)
        await s.write("file", b"1")

        assert not s.place.files.parent.exists()

    def test_only_so_many_are_remembered(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Those that went last."""
        monkeypatch.setattr(workspace_files, "CLOSED", 2)
        s = Setting(tmp_path, Disk(), Tasks())
        for name in ("a", "b", "c"):
            s.files.close(name)

        assert ["b", "c"] == list(s.files._closed)
