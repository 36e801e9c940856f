"""Tests of `services.executor.settings`."""

from __future__ import annotations

from datetime import timedelta

import pytest

from services.chassis.settings import SettingsError, load
from services.executor.settings import Settings

KEY = {"MOORLINE_IDENTITY_KEY": "k" * 32}


def test_defaults_need_a_key_only() -> None:
    """Everything else has a value that works on a laptop."""
    settings = load(Settings, KEY)

    assert settings.max_executions >= 1000
    assert timedelta(seconds=0.5) == settings.grace
    assert timedelta(minutes=10) == settings.drain_seconds
    assert not settings.disable_docker


@pytest.mark.parametrize("text", ["true", "TRUE", "True"])
def test_docker_is_disabled_in_any_case(text: str) -> None:
    """The variable keeps its old name."""
    assert load(Settings, KEY | {"DISABLE_DOCKER": text}).disable_docker


def test_absurd_limits_are_refused() -> None:
    """All of them in one error."""
    wrong = {"MOORLINE_MAX_EXECUTIONS": "0", "MOORLINE_GRACE": "-1"}
    with pytest.raises(SettingsError) as caught:
        load(Settings, KEY | wrong)

    assert 2 == len(caught.value.problems)
