"""The simulated process: its control protocol, its turns, its end.

Does not know who owns it. Behaves as version 2.1.330 of the CLI was observed to.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import orjson

from services.chassis.tasks import Tasks
from services.executor.channel import Exit, ExitReason
from services.executor.channels.simulation.frames import MODEL, Frames
from services.executor.channels.simulation.lines import Lines
from services.executor.channels.simulation.performance import CrashError, Performance
from services.executor.channels.simulation.reading import steps_of
from services.executor.channels.simulation.script import Usage
from services.executor.channels.simulation.ticker import Ticker

_EDITING_TOOLS = frozenset({"Edit", "MultiEdit", "NotebookEdit", "Write"})
_INTERRUPTED: dict[str, Any] = {
    "subtype": "error_during_execution",
    "is_error": True,
    "terminal_reason": "aborted_streaming",
    "errors": ["[ede_diagnostic] interrupted"],
}


class SimulatedCli:
    """One simulated process, from its command line to its exit.

    Args:
        argv: Command line, as for the real one.
        directory: The workspace; the tools work in it.
        seed: Any number; with it the ids are the same in each run.
        ticker: Wakes what is paced.
        tasks: Owner of the task that runs a turn.
    """

    def __init__(
        self, *, argv: Sequence[str], directory: Path, seed: int, ticker: Ticker, tasks: Tasks
    ) -> None:
        options = dict(word.partition("=")[::2] for word in argv if "=" in word)
        self.lines = Lines()
        """What it prints."""
        self.exited: asyncio.Future[Exit] = asyncio.get_running_loop().create_future()
        """How it ended."""
        self._directory = directory
        self._ticker = ticker
        self._tasks = tasks
        self._mode = options.get("--permission-mode", "default")
        self._frames = Frames(
            seed=seed,
            session_id=options.get("--resume") or options.get("--session-id") or "",
            mode=self._mode,
            directory=str(directory),
        )
        # The mutable state of a process is the rest.
        self._deaf = False
        self._input_closed = False
        self._prompts: list[dict[str, Any]] = []
        self._turns: asyncio.Task[None] | None = None
        self._running: asyncio.Timeout | None = None
        self._asks: dict[str, asyncio.Future[dict[str, Any]]] = {}
        self._results = 0
        self._cost = 0.0
        self._failed = False

    def receive(self, line: bytes) -> None:
        """Take in one line of input. One that is not JSON ends the process."""
        if self._deaf or self._input_closed or self.exited.done():
            return
        try:
            frame = orjson.loads(line)
        except ValueError:
            self._exit(1, ExitReason.EXITED)
            return
        if frame["type"] == "user":
            self._prompts.append(frame)
            if self._turns is None:
                self._turns = self._tasks.spawn(self._take_turns(), name="simulated-turns")
                self._turns.add_done_callback(self._turns_ended)
        elif frame["type"] == "control_request":
            self._control(frame["request_id"], frame["request"])
        elif frame["type"] == "control_response":
            response = frame["response"]
            asked = self._asks.pop(response["request_id"], None)
            if asked is not None and not asked.done():
                asked.set_result(response)

    def close_input(self) -> None:
        """No line follows: finish the turns that were asked for, then exit."""
        self._input_closed = True
        if self._turns is None:
            self._exit(1 if self._failed else 0, ExitReason.EXITED)

    def kill(self) -> None:
        """End at once."""
        if self._turns is not None:
            self._turns.cancel()
        self._exit(-9, ExitReason.KILLED)

    def _exit(self, code: int, reason: ExitReason) -> None:
        if not self.exited.done():
            ended = Exit(code, reason)
            self.exited.set_result(ended)
            self.lines.end(ended)

    def _control(self, request_id: str, request: dict[str, Any]) -> None:
        subtype = request["subtype"]
        response: dict[str, Any] = {"subtype": "success", "request_id": request_id}
        if subtype == "initialize":
            response["response"] = {"commands": [], "models": [{"value": MODEL}]}
        elif subtype == "interrupt":
            response["response"] = {"still_queued": []}
            if self._running is not None and not self._running.expired():
                self._running.reschedule(asyncio.get_running_loop().time())
        else:
            response |= {"subtype": "error", "error": "unsupported_request"}
        self.lines.put(orjson.dumps({"type": "control_response", "response": response}))

    async def _take_turns(self) -> None:
        try:
            while self._prompts:
                await self._take_turn(self._prompts.pop(0))
        except CrashError:
            self._exit(1, ExitReason.EXITED)
        self._turns = None
        if self._input_closed:
            self.close_input()

    def _turns_ended(self, turns: asyncio.Task[None]) -> None:
        # A bug of ours, which the owner of the task logs, ends this process as it would a real one.
        if not turns.cancelled() and turns.exception() is not None:
            self._exit(1, ExitReason.EXITED)

    async def _take_turn(self, prompt: dict[str, Any]) -> None:
        frames, put = self._frames, self.lines.put
        frames.message_id = prompt["uuid"]
        put(frames.lifecycle("queued"))
        put(frames.lifecycle("started"))
        put(frames.state("running"))
        put(frames.init())
        put(frames.line(type="system", subtype="status", status="requesting"))
        performance = Performance(
            frames=frames,
            lines=self.lines,
            ticker=self._ticker,
            workspace=self._directory,
            permit=self._permit,
            hang=self._hang,
        )
        text = prompt["message"]["content"]
        ending = performance.ending
        try:
            async with asyncio.timeout(None) as self._running:
                await performance.play(steps_of(text))
            ending = performance.ending
        except TimeoutError:
            ending = _INTERRUPTED
            self._withdraw_asks()
        finally:
            self._running = None
        put(self._result(performance, ending, len(text.split())))
        put(frames.lifecycle("completed"))
        put(frames.state("idle"))

    def _hang(self) -> None:
        self._deaf = True

    def _withdraw_asks(self) -> None:
        for request_id in self._asks:
            frame = {"type": "control_cancel_request", "request_id": request_id}
            self.lines.put(orjson.dumps(frame))
        self._asks.clear()

    async def _permit(self, call: str, tool: str, tool_input: dict[str, str]) -> str | None:
        edits = self._mode == "acceptEdits" and tool in _EDITING_TOOLS
        if edits or self._mode == "bypassPermissions":
            return None
        frames, put = self._frames, self.lines.put
        request_id = frames.new_id("request")
        asked = self._asks[request_id] = asyncio.get_running_loop().create_future()
        put(frames.permission(request_id, call, tool, tool_input))
        put(frames.state("requires_action"))
        # As long as nobody decides; whoever asked us has the clock.
        response = await asked
        put(frames.state("running"))
        answer = response.get("response") or {}
        if answer.get("behavior") == "allow":
            return None
        return str(answer.get("message") or response.get("error") or "Refused.")

    def _result(self, performance: Performance, ending: dict[str, Any], words: int) -> bytes:
        written = performance.fragments
        usage = performance.usage or Usage(words, written, 3 * words + 15 * written)
        cost = usage.cost_usd_micros / 1_000_000
        self._cost += cost
        self._failed = bool(ending.get("is_error"))
        model = {
            MODEL: {
                "inputTokens": usage.input_tokens,
                "outputTokens": usage.output_tokens,
                "cacheReadInputTokens": 0,
                "cacheCreationInputTokens": 0,
                "costUSD": cost,
            }
        }
        line = self._frames.line(
            type="result",
            is_error=self._failed,
            num_turns=performance.messages,
            total_cost_usd=self._cost,
            usage={
                "input_tokens": usage.input_tokens,
                "output_tokens": usage.output_tokens,
                "cache_read_input_tokens": 0,
                "cache_creation_input_tokens": 0,
            },
            modelUsage=model,
            model_usage_since_last_result=model,
            permission_denials=performance.denials,
            user_message_uuid=self._frames.message_id,
            user_message_uuids=[self._frames.message_id],
            result_index=self._results,
            queued_turn_count=len(self._prompts),
            **{key: value for key, value in ending.items() if key != "is_error"},
        )
        self._results += 1
        return line
