"""The obvious shape, to compare with: one FastAPI application that streams to its sockets.

It speaks as much of the WebSocket protocol as the load generator uses and streams the same
fragments, one frame each. It stores nothing, resumes nothing, checks nobody and dies with every
turn it runs. `python -m tests.load.monolith PORT`.
"""

from __future__ import annotations

import asyncio
import sys
import time
from typing import Any

import uvicorn
from fastapi import FastAPI, WebSocket, WebSocketDisconnect

app = FastAPI()


@app.websocket("/v1/ws")
async def socket(websocket: WebSocket) -> None:
    """Serve one client until it goes."""
    await websocket.accept(subprotocol="moorline.v1")
    turns: set[asyncio.Task[None]] = set()
    try:
        while True:
            frame = await websocket.receive_json()
            if "createAgent" in frame:
                agent = {"name": f"{frame['createAgent']['parent']}/agents/a"}
                await websocket.send_json(
                    {"id": frame["id"], "createAgentResponse": {"agent": agent}}
                )
            elif "watchEvents" in frame:
                await send_update(websocket, {"checkpoint": {}})
            elif "createTurn" in frame:
                request = frame["createTurn"]
                await websocket.send_json(
                    {"id": frame["id"], "createTurnResponse": {"turn": request["turn"]}}
                )
                task = asyncio.create_task(run_turn(websocket, request))
                turns.add(task)
                task.add_done_callback(turns.discard)
    except WebSocketDisconnect:
        pass
    finally:
        for task in turns:
            task.cancel()


async def run_turn(websocket: WebSocket, request: dict[str, Any]) -> None:
    """Stream what the script asks for, then the whole message and the outcome."""
    _, _, count, pause_ms = request["turn"]["prompt"]["text"].split()
    turn = request["turnId"]
    words: list[str] = []
    begin = asyncio.get_running_loop().time()
    for index in range(int(count)):
        # A deadline for each word, as the simulation keeps it, so that the pace does not drift.
        await asyncio.sleep(
            begin + index * int(pause_ms) / 1000 - asyncio.get_running_loop().time()
        )
        word = str(time.time_ns() // 1000)
        text = f" {word}" if words else word
        words.append(word)
        await send_update(websocket, {"delta": {"blockId": "b1", "text": text}})
    message = {"blockId": "b1", "text": " ".join(words)}
    event = {"sequence": 1, "turnId": turn, "item": {"agentMessage": message}}
    await send_update(websocket, {"event": event})
    outcome = {"turnOutcome": {"state": "STATE_FINISHED"}}
    await send_update(websocket, {"event": {"sequence": 2, "turnId": turn, "item": outcome}})


async def send_update(websocket: WebSocket, update: dict[str, Any]) -> None:
    """Send one update of the watch in a frame of its own."""
    await websocket.send_json({"id": 1, "watchEventsResponse": {"updates": [update]}})


def main() -> None:
    """Serve on the port given."""
    uvicorn.run(
        app, port=int(sys.argv[1]), loop="uvloop", log_level="warning", ws_ping_interval=None
    )


if __name__ == "__main__":
    main()
