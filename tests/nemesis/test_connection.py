"""What a client of the nemesis records of its calls."""

from __future__ import annotations

import asyncio
import json

import pytest
from websockets.asyncio.server import ServerConnection, serve

from tests.nemesis.connection import AnswerError, open_connection
from tests.nemesis.history import CLOSED, GIVEN_UP, History, Kind


async def _answer_no_turn(socket: ServerConnection) -> None:
    async for text in socket:
        frame = json.loads(text)
        if "listBackends" in frame:
            welcome = {"user": "users/ada"}
            await socket.send(json.dumps({"id": 0, "welcome": welcome}))
            await socket.send(json.dumps({"id": frame["id"], "listBackendsResponse": {}}))
        if "cancelTurn" in frame:
            await socket.close()


async def _reasons(method: str, *, seconds: float) -> list[str]:
    """Make a call, wait so long for its answer, and return the reasons in the record."""
    history = History()
    async with serve(_answer_no_turn, "127.0.0.1", 0, subprotocols=["moorline.v1"]) as server:  # type: ignore[list-item]
        port = server.sockets[0].getsockname()[1]
        url = f"http://127.0.0.1:{port}"
        async with open_connection(
            url, "token", history=history, client="ada-1", gateway="g"
        ) as connection:
            with pytest.raises((TimeoutError, AnswerError)):
                async with asyncio.timeout(seconds):
                    await connection.call(method, {})
    return [entry.detail["reason"] for entry in history.of(Kind.ANSWER)]


async def test_a_call_that_is_given_up_was_not_answered() -> None:
    """Or a turn that nobody accepted would seem to be lost."""
    assert ["", GIVEN_UP] == await _reasons("createTurn", seconds=0.05)


async def test_a_call_whose_connection_breaks_was_not_answered() -> None:
    """Whether it had its effect is not known."""
    assert ["", CLOSED] == await _reasons("cancelTurn", seconds=5)
