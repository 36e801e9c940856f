"""The README's pictures."""

from __future__ import annotations

import pytest

from tests.browser.screenshots import DOCS, LIMIT_BYTES


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_picture_is_there_and_is_light(scheme: str) -> None:
    """A README loads both; `python -m tests.browser.screenshots` takes them again."""
    size = (DOCS / f"screenshot-{scheme}.png").stat().st_size

    assert 20_000 < size <= LIMIT_BYTES
