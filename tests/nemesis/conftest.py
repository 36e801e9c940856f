"""Marks what needs an emulator, and skips it by name where there is none."""

from __future__ import annotations

import pytest

from tests.emulator import EmulatorMissingError, find_emulator

CLUSTER = ("test_nemesis.py", "test_mutants.py", "test_matrix.py")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Everything in these modules starts a cluster on the emulator."""
    for item in items:
        if item.path.parent.name == "nemesis" and item.path.name in CLUSTER:
            item.add_marker(pytest.mark.nemesis)
            item.add_marker(pytest.mark.firestore)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip where there is no emulator."""
    if item.get_closest_marker("nemesis") is not None:
        try:
            find_emulator()
        except EmulatorMissingError as error:
            pytest.skip(str(error))
