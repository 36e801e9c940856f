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

    async def decide(self, request: moorline.AsyncPermissionRequest) -> None:
        """Answer one request; somebody else's earlier answer stands."""
        tool = request.tool_name
        reason = ""
        if tool in self.deny or tool in self.allow:
            allowed = tool not in self.deny
        elif self.ask is not None:
            self._show(request)
            allowed = await self.ask(self.invocation.texts("permission.ask", tool=tool))
        else:
            allowed = False
            self.unattended.append(tool)
            reason = self.invocation.texts("permission.unattended.reason")
        try:
            await (request.allow() if allowed else request.deny(reason))
        except moorline.ConflictError:
            self.invocation.say("permission.elsewhere")
            return
        key = "permission.unattended" if reason else "permission.denied"
        self.invocation.say("permission.allowed" if allowed else key, tool=tool)

    def _show(self, request: moorline.AsyncPermissionRequest) -> None:
        if request.question:
            self.invocation.tell(shorten(request.question))
        self.invocation.say(
            "permission.request", tool=request.tool_name, input=shorten(request.input_json)
        )
