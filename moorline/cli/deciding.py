"""Decides about permission requests: by rule, by asking, or because nobody is there.

Does not know what is asked for, nor how requests arrive.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

import moorline
from moorline.cli import requests
from moorline.cli.invocation import Invocation

Ask = Callable[[str], Awaitable[str]]
"""Asks a person for a line; empty when there is no answer."""


@dataclass(slots=True, kw_only=True)
class Decisions:
    """What is decided without looking, and who is asked about the rest.

    Attributes:
        invocation: Where to tell what was decided.
        allow: Names of tools that are allowed.
        deny: Names of tools that are refused; refusing wins.
        ask: Asks the person; None when there is none.
        unattended: Tools refused because nobody was there.
    """

    invocation: Invocation
    allow: frozenset[str] = frozenset()
    deny: frozenset[str] = frozenset()
    ask: Ask | None = None
    unattended: list[str] = field(default_factory=list)

    async def choose(self, request: moorline.AsyncPermissionRequest) -> moorline.Decision:
        """Decide about one request; cancelled, nothing is decided."""
        tool = request.tool_name
        if tool in self.deny:
            return moorline.Decision(allowed=False)
        # A question cannot be answered by rule.
        if tool in self.allow and request.kind is not moorline.PermissionKind.QUESTION:
            return moorline.Decision(allowed=True)
        if self.ask is None:
            self.unattended.append(tool)
            reason = self.invocation.texts("permission.unattended.reason")
            return moorline.Decision(allowed=False, reason=reason)
        texts = self.invocation.texts
        self.invocation.tell(requests.describe(request, texts))
        if request.kind is moorline.PermissionKind.QUESTION:
            return await self._answer(request, self.ask)
        answer = await self.ask(requests.offer(request, texts))
        return requests.decision_from(answer, request, texts)

    async def answer(
        self, request: moorline.AsyncPermissionRequest, decision: moorline.Decision
    ) -> None:
        """Send what was decided; somebody else's earlier answer stands."""
        try:
            await request.decide(decision)
        except moorline.ConflictError:
            self.invocation.say("permission.elsewhere")
            return
        unattended = request.tool_name in self.unattended
        refused = "permission.unattended" if unattended else "permission.denied"
        key = "permission.allowed" if decision.allowed else refused
        self.invocation.say(key, tool=request.tool_name)

    async def _answer(
        self, request: moorline.AsyncPermissionRequest, ask: Ask
    ) -> moorline.Decision:
        answers: dict[str, Sequence[str]] = {}
        for question in request.questions:
            said = await ask(requests.offer_question(question, self.invocation.texts))
            answer = requests.answers_from(said, question)
            if not answer:
                return moorline.Decision(allowed=False)
            answers[question.question] = answer
        return moorline.Decision(allowed=True, answers=answers)
