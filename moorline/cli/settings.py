"""`moorline set`, and the options that settings of an agent have in common.

Does not know how settings are stored.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import moorline
from moorline.cli.invocation import Invocation, Output, WrongUsage
from moorline.cli.tables import agent_row


def parse_dollars(invocation: Invocation, text: str | None) -> int | None:
    """Read an amount of US dollars as millionths.

    Args:
        invocation: Speaks to the person.
        text: For example `0.50`; `0` for no limit; None when it was not given.

    Raises:
        WrongUsage: It is none.
    """
    if text is None:
        return None
    if re.fullmatch(r"\d{1,9}(\.\d{1,6})?", text) is None:
        raise WrongUsage(invocation.texts("usage.dollars", value=text))
    whole, _, part = text.partition(".")
    return int(whole) * 1_000_000 + int(part.ljust(6, "0"))


async def change_agent(
    client: moorline.AsyncClient,
    invocation: Invocation,
    agent: str,
    settings: Mapping[str, Any],
) -> None:
    """`moorline set`: change what was given, leave the rest.

    Raises:
        WrongUsage: Nothing was given.
    """
    given = {name: value for name, value in settings.items() if value is not None}
    if not given:
        raise WrongUsage(invocation.texts("usage.nothing"))
    changed = await client.agents.update(agent, **given)
    if invocation.output is Output.TEXT:
        invocation.say("agent.changed", agent=changed.id)
    else:
        invocation.write_json(agent_row(changed, None))
