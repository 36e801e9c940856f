"""Tests of `services.executor.channels.simulation.permissions`."""

from __future__ import annotations

from typing import Any

import pytest

from services.executor.channels.simulation.permissions import Permissions
from services.executor.channels.simulation.tools import Tool, Use


async def nothing(_: Use) -> tuple[str, bool]:
    """Do nothing."""
    return "", False


def tool(name: str, *, needs_user: bool = False, **tool_input: Any) -> Tool:
    """Return the use of a tool."""
    return Tool(name=name, input=tool_input, asks=True, run=nothing, needs_user=needs_user)


@pytest.mark.parametrize(
    ("rule", "allowed"),
    [
        ("Bash", True),
        ("Bash(npm test)", True),
        ("Bash(npm:*)", True),
        ("Bash(npm *)", True),
        ("Bash(npm)", False),
        ("Bash(touch:*)", False),
        ("Write", False),
        ("nonsense(", False),
    ],
)
def test_rule_spares_the_question(rule: str, allowed: bool) -> None:
    """For the tool it names, and the command, or how the command begins."""
    permissions = Permissions(mode="default", rules=[rule])

    assert allowed is permissions.allow(tool("Bash", command="npm test"))


def test_what_only_the_user_can_answer_is_always_asked() -> None:
    """No mode and no rule spares it."""
    permissions = Permissions(mode="acceptEdits", rules=["Edit"])

    assert permissions.allow(tool("Edit"))
    assert not permissions.allow(tool("Edit", needs_user=True))


@pytest.mark.parametrize(
    ("command", "allowed"),
    [("touch a && cat a", True), ("echo x > a", True), ("npm test", False), ("", False)],
)
def test_accepting_edits_covers_commands_that_edit(command: str, allowed: bool) -> None:
    """Others are asked for."""
    permissions = Permissions(mode="acceptEdits", rules=[])

    assert allowed is permissions.allow(tool("Bash", command=command))


def test_what_may_be_allowed_is_suggested() -> None:
    """A rule for other tools than those that edit, the mode for those."""
    permissions = Permissions(mode="default", rules=[])
    (mode,) = permissions.suggest(tool("Edit"))
    (rule,) = permissions.suggest(tool("Other"))

    assert "acceptEdits" == mode["mode"]
    assert [{"toolName": "Other"}] == rule["rules"]


def test_changes_are_taken_over() -> None:
    """Rules and modes; others are left alone."""
    permissions = Permissions(mode="default", rules=[])
    permissions.update(
        [
            {"type": "addRules", "rules": [{"toolName": "Other"}]},
            {"type": "setMode", "mode": "plan"},
            {"type": "addDirectories"},
        ]
    )

    assert permissions.allow(tool("Other"))
    assert "plan" == permissions.mode
