"""Decides about permission requests: by rule, by asking, or because nobody is there.

Does not know what is asked for, nor how requests arrive.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import moorline
from moorline.cli.invocation import Invocation
from moorline.cli.views import shorten

Ask = Callable[[str], Awaitable[bool]]
"""Asks a person a yes-or-no question."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """What was decided about a request.

    Attributes:
        allowed: True to let the tool run.
        reason: Told to the agent when refused; empty when a person decided.
    """

    allowed: bool
    reason: str = ""


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

    async def choose(self, request: moorline.AsyncPermissionRequest) -> Choice:
        """Decide about one request; cancelled, nothing is decided."""
        tool = request.tool_name
        if tool in self.deny or tool in self.allow:
            return Choice(allowed=tool not in self.deny)
        if self.ask is not None:
            self._show(request)
            question = self.invocation.texts("permission.ask", tool=tool)
            return Choice(allowed=await self.ask(question))
        self.unattended.append(tool)
        return Choice(allowed=False, reason=self.invocation.texts("permission.unattended.reason"))

    async def answer(self, request: moorline.AsyncPermissionRequest, choice: Choice) -> None:
        """Send what was decided; somebody else's earlier answer stands."""
        try:
            await (request.allow() if choice.allowed else request.deny(choice.reason))
        except moorline.ConflictError:
            self.invocation.say("permission.elsewhere")
            return
        refused = "permission.unattended" if choice.reason else "permission.denied"
        key = "permission.allowed" if choice.allowed else refused
        self.invocation.say(key, tool=request.tool_name)

    def _show(self, request: moorline.AsyncPermissionRequest) -> None:
        if request.question:
            self.invocation.tell(shorten(request.question))
        self.invocation.say(
            "permission.request", tool=request.tool_name, input=shorten(request.input_json)
        )
