"""`moorline approve`, `deny` and `stop`: steering turns from another terminal.

Knows how to find what waits; does not follow turns.
"""

from __future__ import annotations

from collections.abc import Sequence

import moorline
from moorline.cli import requests
from moorline.cli.exits import Exit
from moorline.cli.invocation import Invocation, Output, WrongUsage
from moorline.cli.views import shorten


async def answer(
    client: moorline.AsyncClient,
    invocation: Invocation,
    name: str | None,
    *,
    allowed: bool,
    reason: str = "",
    always: bool = False,
    answers: Sequence[str] = (),
) -> Exit:
    """Answer the one open request, or the one named.

    Args:
        client: The client.
        invocation: Where to tell what was done.
        name: `AGENT/TURN/PERMISSION`, or an end or the agent of it that is
            enough to tell which; None when only one is open.
        allowed: True to allow, False to refuse.
        reason: Told to the agent when refused.
        always: True to allow the agent's first suggestion for the time to come.
        answers: Answers to its questions, in their order.
    """
    waiting = await find_open(client)
    chosen = [place for place in waiting if name is None or _means(place, name)]
    if len(chosen) != 1:
        if name is not None and not chosen:
            raise WrongUsage(invocation.texts("usage.request", request=name))
        invocation.say("permission.many" if chosen else "permission.none")
        _list(invocation, {place: waiting[place] for place in chosen})
        return Exit.USAGE if chosen else Exit.OK
    request = waiting[chosen[0]]
    invocation.tell(requests.describe(request, invocation.texts))
    if allowed:
        await request.decide(_permission(request, invocation, always=always, answers=answers))
    else:
        await request.deny(reason)
    key = "permission.allowed" if allowed else "permission.denied"
    invocation.say(key, tool=request.tool_name)
    return Exit.OK


async def find_open(
    client: moorline.AsyncClient,
) -> dict[str, moorline.AsyncPermissionRequest]:
    """Every open request of the user's, by `AGENT/TURN/PERMISSION`."""
    found: dict[str, moorline.AsyncPermissionRequest] = {}
    for agent in await client.agents.list():
        if agent.state is not moorline.AgentState.NEEDS_YOU or not agent.running_turn:
            continue
        turn = await agent.turn(agent.running_turn).refresh()
        waiting: dict[str, moorline.AsyncPermissionRequest] = {}
        for event in await agent.history(after=max(turn.sequence - 1, 0)):
            if event.turn_id != turn.id:
                continue
            if isinstance(event, moorline.PermissionRequest):
                waiting[event.permission_id] = event
            elif isinstance(event, moorline.PermissionDecision):
                waiting.pop(event.permission_id, None)
        found |= {f"{agent.id}/{turn.id}/{name}": request for name, request in waiting.items()}
    return found


async def stop_turns(agent: moorline.AsyncAgent, invocation: Invocation) -> None:
    """Ask every turn of an agent that waits or runs to stop, the waiting ones first.

    Otherwise a waiting one would begin the moment the running one stops.
    """
    turns = await agent.turns(unfinished_only=True)
    for turn in reversed(turns):
        await turn.cancel()
    invocation.say("agent.stopped", agent=agent.id, count=len(turns))


def _permission(
    request: moorline.PermissionRequest,
    invocation: Invocation,
    *,
    always: bool,
    answers: Sequence[str],
) -> moorline.Decision:
    if len(answers) != len(request.questions):
        count = len(request.questions)
        raise WrongUsage(invocation.texts("permission.answers", count=count))
    if always and not request.suggestions:
        raise WrongUsage(invocation.texts("permission.suggestion"))
    given = {
        question.question: requests.answers_from(answer, question)
        for question, answer in zip(request.questions, answers, strict=True)
    }
    chosen = request.suggestions[0].suggestion_id if always else ""
    return moorline.Decision(allowed=True, suggestion_id=chosen, answers=given)


def _means(place: str, name: str) -> bool:
    return place == name or place.endswith(f"/{name}") or place.startswith(f"{name}/")


def _list(invocation: Invocation, waiting: dict[str, moorline.AsyncPermissionRequest]) -> None:
    for place, request in waiting.items():
        if invocation.output is Output.TEXT:
            what = f"{request.tool_name} {shorten(request.input_json)}"
            invocation.write(f"{place}  {what}\n")
        else:
            invocation.write_json({"request": place, **request.raw})
