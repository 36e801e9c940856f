"""Tests of `services.executor.channels.simulation.shell`."""

from __future__ import annotations

from pathlib import Path

import pytest

from services.executor.channels.simulation.shell import is_harmless, run_command


@pytest.mark.parametrize(
    ("command", "printed"),
    [
        ("echo one two", ("one two", False)),
        ("echo one && echo two", ("one\ntwo", False)),
        ("true", ("(Bash completed with no output)", False)),
        ("echo one && false && echo two", ("Exit code 1\none", True)),
        ("dance", ("Exit code 1\ndance: command not found", True)),
        ("sleep x", ("Exit code 1\nsleep: command not found", True)),
        (" && ", ("Exit code 1\n: command not found", True)),
        ("echo text > a.txt && cat a.txt", ("text", False)),
        ("touch b && cat b && sleep 0.001", ("(Bash completed with no output)", False)),
        ("touch ..", ("Exit code 1\nThe path must lie inside the workspace.", True)),
    ],
)
async def test_commands_of_the_toy_shell(
    tmp_path: Path, command: str, printed: tuple[str, bool]
) -> None:
    """What they print, and whether they fail."""
    assert printed == await run_command(command, tmp_path)


@pytest.mark.parametrize(
    ("command", "harmless"),
    [
        ("echo x && cat a && sleep 1 && true", True),
        ("echo x > a", False),
        ("cat a && touch b", False),
        ("", False),
    ],
)
def test_commands_that_only_look_are_harmless(command: str, harmless: bool) -> None:
    """They need no permission."""
    assert harmless is is_harmless(command)
