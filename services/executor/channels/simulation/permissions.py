"""What a simulated agent may do without asking. Does not know the wire protocol."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from services.executor.channels.simulation.shell import is_editing
from services.executor.channels.simulation.tools import Tool

_EDITING_TOOLS = frozenset({"Edit", "MultiEdit", "NotebookEdit", "Write"})
_COMMAND = "command"
_PREFIXES = (":*", " *")
"""How the content of a rule ends that holds for all commands that begin so."""


class Permissions:
    """The mode of a process and its rules.

    Args:
        mode: Value of `--permission-mode`.
        rules: Values of `--allowedTools`.
    """

    def __init__(self, *, mode: str, rules: Iterable[str]) -> None:
        self.mode = mode
        self._rules = set(rules)

    def allow(self, tool: Tool) -> bool:
        """Tell whether a tool may run unasked."""
        if tool.needs_user:
            return False
        if self.mode == "acceptEdits" and self._edits(tool):
            return True
        command = str(tool.input.get(_COMMAND, ""))
        return any(self._matches(rule, tool.name, command) for rule in self._rules)

    def suggest(self, tool: Tool) -> list[dict[str, Any]]:
        """Return what could be allowed for the time to come, in the CLI's words."""
        suggestions: list[dict[str, Any]] = []
        if tool.name not in _EDITING_TOOLS:
            rule = {"toolName": tool.name}
            if _COMMAND in tool.input:
                rule["ruleContent"] = tool.input[_COMMAND]
            suggestions.append(
                {
                    "type": "addRules",
                    "rules": [rule],
                    "behavior": "allow",
                    "destination": "localSettings",
                }
            )
        if self._edits(tool):
            suggestions.append({"type": "setMode", "mode": "acceptEdits", "destination": "session"})
        return suggestions

    def update(self, updates: Sequence[Mapping[str, Any]]) -> None:
        """Take over changes that came with a permission."""
        for update in updates:
            if update["type"] == "setMode":
                self.mode = update["mode"]
            elif update["type"] == "addRules":
                for rule in update["rules"]:
                    content = rule.get("ruleContent")
                    name = rule["toolName"]
                    self._rules.add(f"{name}({content})" if content else name)

    def _edits(self, tool: Tool) -> bool:
        if tool.name in _EDITING_TOOLS:
            return True
        return _COMMAND in tool.input and is_editing(tool.input[_COMMAND])

    def _matches(self, rule: str, name: str, command: str) -> bool:
        parsed = re.fullmatch(r"(\w+)(?:\((.*)\))?", rule, re.DOTALL)
        if parsed is None or parsed[1] != name:
            return False
        content = parsed[2]
        if content is None:
            return True
        if content.endswith(_PREFIXES):
            return command.startswith(content[:-2])
        return command == content
