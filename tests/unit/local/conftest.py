"""What the tests of a run on this machine share."""

from __future__ import annotations

import pytest

from tests.unit.jumping import Factories, loops


def pytest_asyncio_loop_factories(item: pytest.Item) -> Factories:
    """Let time jump where a program is given some and takes all of it."""
    return loops(jumping=item.path.stem == "test_grace")
