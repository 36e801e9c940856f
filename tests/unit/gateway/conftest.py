"""What the tests of the gateway share."""

from __future__ import annotations

import pytest

from tests.unit.jumping import Factories, loops

WITHOUT_SOCKETS = {"test_peers", "test_rebalancing", "test_routing", "test_slow_heads"}
"""Where how long a call takes is what it waits, whatever the machine does."""


def pytest_asyncio_loop_factories(item: pytest.Item) -> Factories:
    """Let the time of tests jump that have nothing but their own loop to wait for."""
    return loops(jumping=item.path.stem in WITHOUT_SOCKETS)
