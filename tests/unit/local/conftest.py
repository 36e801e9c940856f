"""What the tests of a run on this machine share."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from tests.unit.jumping import JumpingLoop


def pytest_asyncio_loop_factories(
    item: pytest.Item,
) -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Let time jump where a program is given some and takes all of it."""
    if item.path.stem == "test_grace":
        return {"jumping": JumpingLoop}
    return {"asyncio": asyncio.new_event_loop}
