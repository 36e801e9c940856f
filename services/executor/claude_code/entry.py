"""A turn or an attendance on its way into a process. Does not know what goes on there."""

from __future__ import annotations

import asyncio

from services.executor.agent_process import Ending
from services.executor.claude_code.turn import Turn

TURN = "moorline/turn/"
ATTEND = "moorline/attend/"
"""How the ids begin of the requests that mark a beginning."""
MODEL = "/model"
"""How the id ends of the request for another model, which comes before that one."""


class Entry:
    """A turn, or an attendance, that the process has not yet been seen to know of.

    Args:
        turn: Its turn; the message's id is a name of the attendance, too.
        attends: Whether it is an attendance.
        mode: The CLI's word for what the agent may do without asking.
        model: The model that answers.
        prompt: The line that begins the turn; empty for an attendance.
    """

    __slots__ = ("attends", "ending", "marker", "mode", "model", "prompt", "turn")

    def __init__(self, *, turn: Turn, attends: bool, mode: str, model: str, prompt: bytes) -> None:
        self.turn = turn
        self.attends = attends
        self.mode = mode
        self.model = model
        self.prompt = prompt
        self.marker = f"{ATTEND if attends else TURN}{turn.message_id}"
        self.ending: asyncio.Future[Ending] = asyncio.get_running_loop().create_future()
