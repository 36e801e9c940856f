"""Tests of `services.executor.files.baseline`."""

from __future__ import annotations

import sqlite3
from contextlib import suppress
from pathlib import Path

from services.executor.files import baseline


def test_a_failed_change_of_a_baseline_changes_nothing(tmp_path: Path) -> None:
    """The one before stays."""
    kept = baseline.Kept("s", b"d", binary=False)
    with baseline.opened(tmp_path) as one:
        one.put({b"a": kept})
        one.note(whole=False, taken_ns=5)
    with suppress(sqlite3.Error), baseline.opened(tmp_path) as one:
        one.drop([b"a"])
        raise sqlite3.Error
    with baseline.opened(tmp_path) as one:
        assert ({b"a": kept}, False, 5) == (one.files(), one.whole, one.taken_ns)
        assert one.text(b"d") is None
    baseline.begin_blank(tmp_path)
    assert baseline.is_blank(tmp_path) is False
    baseline.discard(tmp_path)
    assert baseline.is_blank(tmp_path) is None
