"""What a user has chosen about an agent's turns: the model, what they may cost and use.

Does not know the agent, nor who enforces it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from moorline.session.v1 import agents_pb2
from services.chassis.failures import field_invalid

MOST_RULES = 100
"""Rules of one agent."""

_MODEL_CHARACTERS = 100
_RULE_CHARACTERS = 500
_MODEL = re.compile(r"[!-~]*")
_RULE = re.compile(r"[A-Za-z][A-Za-z0-9_-]*(\((?P<content>[^\x00-\x1f\x7f]+)\))?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What an agent's turns are like; zero and empty mean no limit and the default.

    Attributes:
        turn_budget: What one turn may cost, in millionths of a US dollar.
        budget: What all turns may cost, in millionths of a US dollar.
        max_steps: Answers of the model that one turn may take.
        allowed_rules: Uses of tools that need no question, each once.
    """

    model: str = ""
    turn_budget: int = 0
    budget: int = 0
    max_steps: int = 0
    allowed_rules: tuple[str, ...] = ()

    @property
    def words(self) -> tuple[str, ...]:
        """The same for equal options only; empty when nothing was chosen."""
        if self == DEFAULTS:
            return ()
        numbers = (str(number) for number in (self.turn_budget, self.budget, self.max_steps))
        return (self.model, *numbers, *self.allowed_rules)

    def stored(self) -> dict[str, Any]:
        """Return the fields for a document."""
        return {
            "model": self.model,
            "turnBudget": self.turn_budget,
            "budget": self.budget,
            "maxSteps": self.max_steps,
            "allowedRules": list(self.allowed_rules),
        }

    def fill(self, agent: agents_pb2.Agent) -> None:
        """Put them into a message."""
        agent.model = self.model
        agent.turn_budget_usd_micros = self.turn_budget
        agent.budget_usd_micros = self.budget
        agent.max_steps = self.max_steps
        agent.allowed_rules.extend(self.allowed_rules)


DEFAULTS = Options()
"""What an agent has when nothing was chosen."""

PATHS = {
    "model": "model",
    "turn_budget_usd_micros": "turn_budget",
    "budget_usd_micros": "budget",
    "max_steps": "max_steps",
    "allowed_rules": "allowed_rules",
}
"""The attribute of `Options` for each path of an update mask."""


def read_options(stored: Mapping[str, Any]) -> Options:
    """Return the options that a document holds; the defaults for an older one."""
    return Options(
        model=stored.get("model", ""),
        turn_budget=stored.get("turnBudget", 0),
        budget=stored.get("budget", 0),
        max_steps=stored.get("maxSteps", 0),
        allowed_rules=tuple(stored.get("allowedRules", ())),
    )


def check_options(agent: agents_pb2.Agent) -> Options:
    """Return the options that a request's agent holds.

    Raises:
        Failure: FIELD_INVALID.
    """
    if len(agent.model) > _MODEL_CHARACTERS or _MODEL.fullmatch(agent.model) is None:
        rule = f"have at most {_MODEL_CHARACTERS} printable ASCII characters and no spaces"
        raise field_invalid("agent.model", rule)
    for field in ("turn_budget_usd_micros", "budget_usd_micros", "max_steps"):
        if getattr(agent, field) < 0:
            raise field_invalid(f"agent.{field}", "be at least 0")
    for rule in agent.allowed_rules:
        if not is_rule(rule):
            raise field_invalid(
                "agent.allowed_rules",
                f"be `Tool` or `Tool(content)`, each at most {_RULE_CHARACTERS} characters",
            )
    rules = distinct(agent.allowed_rules)
    if len(rules) > MOST_RULES:
        raise field_invalid("agent.allowed_rules", f"be at most {MOST_RULES}")
    return Options(
        model=agent.model,
        turn_budget=agent.turn_budget_usd_micros,
        budget=agent.budget_usd_micros,
        max_steps=agent.max_steps,
        allowed_rules=rules,
    )


def is_rule(rule: str) -> bool:
    """Tell whether a text is one rule; its content's brackets must match."""
    match = _RULE.fullmatch(rule)
    return match is not None and len(rule) <= _RULE_CHARACTERS and _balanced(match["content"] or "")


def distinct(rules: Iterable[str]) -> tuple[str, ...]:
    """Return each rule once, in their order."""
    return tuple(dict.fromkeys(rules))


def _balanced(text: str) -> bool:
    """Tell whether a bracket closes only what one has opened: or one rule were two."""
    depth = 0
    for character in text:
        depth += (character == "(") - (character == ")")
        if depth < 0:
            return False
    return depth == 0
