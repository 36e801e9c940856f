"""Runs of whole clusters take minutes: they are for `make test-all` and `-m nemesis` only.

Where there is no emulator they are skipped by name.
"""

from __future__ import annotations

import pytest

from tests.conftest import OPTION
from tests.emulator import EmulatorMissingError, find_emulator

CLUSTER = ("test_nemesis.py", "test_mutants.py", "test_matrix.py")
ALONE = ("test_nemesis.py", "test_mutants.py")
"""These need moments that a busy machine does not give them."""


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark what starts a cluster on the emulator, and leave it out unless it was asked for."""
    long = [
        item for item in items if item.path.parent.name == "nemesis" and item.path.name in CLUSTER
    ]
    for item in long:
        item.add_marker(pytest.mark.nemesis)
        item.add_marker(pytest.mark.firestore)
        if item.path.name in ALONE:
            item.add_marker(pytest.mark.alone)
    if not config.getoption(OPTION) and not config.option.markexpr:
        config.hook.pytest_deselected(items=long)
        items[:] = [item for item in items if item not in long]


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip where there is no emulator."""
    if item.get_closest_marker("nemesis") is not None:
        try:
            find_emulator()
        except EmulatorMissingError as error:
            pytest.skip(str(error))
