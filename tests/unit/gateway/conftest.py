"""What the tests of the gateway share."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from tests.unit.jumping import JumpingLoop

WITHOUT_SOCKETS = {"test_peers", "test_rebalancing", "test_routing", "test_slow_heads"}
"""Where how long a call takes is what it waits, whatever the machine does."""


def pytest_asyncio_loop_factories(
    item: pytest.Item,
) -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Let the time of tests jump that have nothing but their own loop to wait for."""
    if item.path.stem in WITHOUT_SOCKETS:
        return {"jumping": JumpingLoop}
    return {"asyncio": asyncio.new_event_loop}
