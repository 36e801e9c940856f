"""Answers to permission requests: which fit, which are the same, and what they change.

Does not know who answers, nor how an answer is recorded.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from moorline.errors.v1 import errors_pb2
from moorline.session.v1 import agents_pb2
from moorline.transcript.v1 import transcript_pb2
from services.chassis.failures import Failure, field_invalid
from services.session.agent_record import AgentRecord
from services.session.agent_settings import AgentSettings, change
from services.session.options import MOST_RULES, Options, distinct, is_rule

Agent = agents_pb2.Agent
Decision = transcript_pb2.PermissionDecision
Request = transcript_pb2.PermissionRequest

MOST_ANSWERS = 20
"""Answers to one question."""

_ANSWER_CHARACTERS = 2000
_DECIDER = "DECIDER_"


def check_answer(request: Request, answer: Decision) -> None:
    """Check that a user's answer fits the request.

    Raises:
        Failure: FIELD_INVALID.
    """
    if answer.suggestion_id and (not answer.allowed or suggested(request, answer) is None):
        raise field_invalid(
            "decision.suggestion_id",
            "be empty or, with `allowed`, the id of one of the request's suggestions",
        )
    if answer.allowed and request.omitted_bytes:
        raise field_invalid(
            "decision.allowed",
            "be false: the request is too long to be shown whole, so nobody can know what would"
            " run. Refuse it, and ask the agent for smaller steps",
        )
    if not (answer.allowed and request.kind == Request.KIND_QUESTION):
        if answer.answers:
            raise field_invalid("decision.answers", "be empty but for questions that are allowed")
        return
    asked = sorted(question.question for question in request.questions)
    if asked != sorted(given.question for given in answer.answers):
        raise field_invalid("decision.answers", "have one entry for each question")
    for given in answer.answers:
        texts = given.answers
        if not 1 <= len(texts) <= MOST_ANSWERS or not all(
            1 <= len(text) <= _ANSWER_CHARACTERS for text in texts
        ):
            raise field_invalid(
                "decision.answers",
                f"have 1 to {MOST_ANSWERS} answers to each question, each of 1 to"
                f" {_ANSWER_CHARACTERS} characters",
            )


def suggested(request: Request, answer: Decision) -> transcript_pb2.PermissionSuggestion | None:
    """Return the suggestion that an answer allows too, or None."""
    for suggestion in request.suggestions:
        if answer.suggestion_id and suggestion.suggestion_id == answer.suggestion_id:
            return suggestion
    return None


def settings_after(
    request: Request,
    answer: Decision,
    *,
    mode: Agent.PermissionMode.ValueType,
    options: Options,
) -> AgentSettings | None:
    """Return how an answer changes its agent's settings; None when it does not.

    Args:
        request: What was asked.
        answer: Fits the request.
        mode: The agent's permission mode.
        options: The agent's options.

    Raises:
        Failure: FIELD_INVALID, QUOTA_EXCEEDED: they cannot be changed that way.
    """
    suggestion = suggested(request, answer)
    after = mode
    if answer.allowed and request.kind == Request.KIND_PLAN and mode == Agent.PERMISSION_MODE_PLAN:
        after = Agent.PERMISSION_MODE_ASK
    rules = options.allowed_rules
    if suggestion is not None:
        if suggestion.accept_edits and mode != Agent.PERMISSION_MODE_ACCEPT_ALL:
            after = Agent.PERMISSION_MODE_ACCEPT_EDITS
        rules = _merged(rules, suggestion)
    if (after, rules) == (mode, options.allowed_rules):
        return None
    return AgentSettings(permission_mode=after, options={"allowed_rules": rules})


def carry_out(
    agent: AgentRecord, request: Request, answer: Decision, now: datetime
) -> Mapping[str, Mapping[str, Any]]:
    """Change an agent's settings as an answer says.

    Returns:
        What is to be stored together with the answer: fields by path.

    Raises:
        Failure: As `settings_after`; nothing was changed.
    """
    settings = settings_after(request, answer, mode=agent.permission_mode, options=agent.options)
    if settings is None:
        return {}
    change(agent, settings, now)
    return {str(agent.name): agent.fields()}


def require_same(decided: Mapping[str, Any], answer: Decision) -> None:
    """Check that an answer repeats the first one, which a user gave.

    Args:
        decided: The first one, as a turn's document keeps it.
        answer: The answer.

    Raises:
        Failure: PERMISSION_RESOLVED with the first answer.
    """
    again = summarize(answer)
    names = ("allowed", "suggestion", "answers")
    if decided["decider"] == "USER" and all(
        decided.get(name, "") == again.get(name, "") for name in names
    ):
        return
    raise Failure(
        errors_pb2.ERROR_REASON_PERMISSION_RESOLVED,
        "The request was answered before, and differently.",
        decision="allowed" if decided["allowed"] else "refused",
        decider=decided["decider"],
    )


def summarize(decision: Decision) -> dict[str, Any]:
    """Return what a turn's document keeps of a decision: enough to know it again."""
    name = Decision.Decider.Name(decision.decider)
    summary = {"allowed": decision.allowed, "decider": name.removeprefix(_DECIDER)}
    if decision.suggestion_id:
        summary["suggestion"] = decision.suggestion_id
    if decision.answers:
        summary["answers"] = _digest(decision)
    return summary


def _digest(decision: Decision) -> str:
    answers = sorted((given.question, tuple(given.answers)) for given in decision.answers)
    return hashlib.sha256(repr(answers).encode()).hexdigest()[:32]


def _merged(
    rules: tuple[str, ...], suggestion: transcript_pb2.PermissionSuggestion
) -> tuple[str, ...]:
    if not all(is_rule(rule) for rule in suggestion.rules):
        raise field_invalid(
            "decision.suggestion_id", "be empty: no agent can have this rule. Allow it this once"
        )
    merged = distinct([*rules, *suggestion.rules])
    if len(merged) > MOST_RULES:
        raise Failure(
            errors_pb2.ERROR_REASON_QUOTA_EXCEEDED,
            f"An agent may have {MOST_RULES} allowed rules. Remove some first, or allow it once.",
            limit=str(MOST_RULES),
            limitName="allowedRules",
        )
    return merged
