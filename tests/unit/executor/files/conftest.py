"""Fixtures of the tests of the files room."""

from __future__ import annotations

import pytest

from services.executor.files import snapshots


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let snapshots take as long as a busy machine needs."""
    monkeypatch.setattr(snapshots, "TAKE_SECONDS", 60.0)
    monkeypatch.setattr(snapshots, "COMPARE_SECONDS", 60.0)
