"""Tests of `services.executor.files.looking` and `scanning`."""

from __future__ import annotations

from pathlib import Path

import pytest

from services.chassis.failures import Failure
from services.executor.files import looking, scanning
from services.executor.files.looking import Look, Reading
from services.executor.files.scanning import Scan
from tests.unit.executor.files.places import fill


class TestLooking:
    """What a workspace holds."""

    def test_a_look_is_stopped_at_its_limit(self, tmp_path: Path) -> None:
        """And says so."""
        fill(tmp_path, "a", "b", "c/d")

        assert {b"a", b"b"} == set(Look(tmp_path, limit=3, now_ns=0).files)
        assert not Look(tmp_path, limit=3, now_ns=0).whole
        assert Look(tmp_path, limit=4, now_ns=0).whole

    def test_folders_that_cannot_be_looked_into_are_passed_over(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Too deep, or gone since they were seen."""
        fill(tmp_path, "a/b/c", "gone/x")
        scan = Scan(tmp_path, limit=10)
        seen = []
        for entry in scan:
            seen.append("/".join(entry.parts))
            if seen == ["a", "gone"]:
                (tmp_path / "gone" / "x").unlink()
                (tmp_path / "gone").rmdir()
        assert ["a", "gone", "a/b", "a/b/c"] == seen
        monkeypatch.setattr(scanning, "DEPTH", 1)

        assert ["a"] == ["/".join(entry.parts) for entry in Scan(tmp_path, limit=10)]

    def test_a_folder_of_very_many_is_not_read_to_its_end(self, tmp_path: Path) -> None:
        """Only as far as the limit."""
        fill(tmp_path, *(f"f{number}" for number in range(20)))
        scan = Scan(tmp_path, limit=5)

        assert 5 == len(list(scan))
        assert not scan.whole

    def test_where_a_walk_begins_there_has_to_be_something(self, tmp_path: Path) -> None:
        """Unlike further down."""
        with pytest.raises(Failure):
            list(Scan(tmp_path, ("none",), limit=5))

    def test_files_that_have_grown_meanwhile_are_not_read(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Nor those that are gone."""
        fill(tmp_path, "a", "b")
        look = Look(tmp_path, limit=5, now_ns=0)
        monkeypatch.setattr(looking, "TEXT_BYTES", 4)
        (tmp_path / "a").write_text("12345")
        (tmp_path / "b").unlink()
        reading = Reading(tmp_path, max_bytes=100, seconds=10)

        assert [None, None] == [reading.content(look.files[name]) for name in (b"a", b"b")]

    def test_an_entry_without_facts_is_passed_over(self, tmp_path: Path) -> None:
        """It was there when the names were read."""
        fill(tmp_path, "a")
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("services.executor.files.folder.look", lambda *_: None)
            assert [] == list(Scan(tmp_path, limit=5))
