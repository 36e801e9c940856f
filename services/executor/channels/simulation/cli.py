"""The simulated process: its control protocol, its turns, its end.

Does not know who owns it. Behaves as version 2.1.330 of the CLI was observed to.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import orjson

from services.chassis.tasks import Tasks
from services.executor.channel import Exit, ExitReason
from services.executor.channels.simulation.background import Background
from services.executor.channels.simulation.frames import MODEL, Frames
from services.executor.channels.simulation.lines import Lines
from services.executor.channels.simulation.memory import Memory, remark_of
from services.executor.channels.simulation.performance import CrashError, Performance
from services.executor.channels.simulation.permissions import Permissions
from services.executor.channels.simulation.reading import steps_of
from services.executor.channels.simulation.script import Say, Step, Usage
from services.executor.channels.simulation.stage import Permit
from services.executor.channels.simulation.ticker import Ticker
from services.executor.channels.simulation.tools import Tool

_INTERRUPTED: dict[str, Any] = {
    "subtype": "error_during_execution",
    "is_error": True,
    "terminal_reason": "aborted_streaming",
    "errors": ["[ede_diagnostic] interrupted"],
}
_BY_ITSELF: dict[str, Any] = {"origin": {"kind": "task-notification"}}
_REFUSED = "Cannot set permission mode to bypassPermissions because the session was not launched"


class SimulatedCli:
    """One simulated process, from its command line to its exit; the `Stage` of its turns.

    Args:
        argv: Command line, as for the real one.
        environment: What it is told, as the real one.
        directory: The workspace; the tools work in it.
        seed: Any number; with it the ids are the same in each run.
        ticker: Wakes what is paced.
        tasks: Owner of the task that runs a turn.
    """

    def __init__(
        self,
        *,
        argv: Sequence[str],
        environment: Mapping[str, str],
        directory: Path,
        seed: int,
        ticker: Ticker,
        tasks: Tasks,
    ) -> None:
        words = [word.partition("=")[::2] for word in argv if "=" in word]
        options = dict(words)
        self.lines = Lines()
        """What it prints."""
        self.exited: asyncio.Future[Exit] = asyncio.get_running_loop().create_future()
        """How it ended."""
        self.ticker = ticker
        self.workspace = directory
        self.fallback_model = options.get("--fallback-model", "")
        self.max_steps = int(options.get("--max-turns", "0"))
        self.permissions = Permissions(
            mode=options.get("--permission-mode", "default"),
            rules=[value for option, value in words if option == "--allowedTools"],
        )
        self.frames = Frames(
            seed=seed,
            session_id=options.get("--resume") or options.get("--session-id") or "",
            mode=self.permissions.mode,
            model=options.get("--model", MODEL),
            directory=str(directory),
        )
        self._first_model = self.frames.model
        self._memory = Memory(
            folder=Path(environment.get("CLAUDE_CONFIG_DIR", "")),
            directory=str(directory),
            conversation=self.frames.session_id,
        )
        self._mirrors = "--session-mirror" in argv and "CLAUDE_CONFIG_DIR" in environment
        self._tasks = tasks
        self._background = Background(
            frames=self.frames, lines=self.lines, tasks=tasks, ended=self._notice
        )
        # The mutable state of a process is the rest.
        self._deaf = False
        self._input_closed = False
        # A dictionary is the user's; a text is the agent's own.
        self._prompts: list[dict[str, Any] | str] = []
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
            self._queue(frame)
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

    # What turns ask of it, see `Stage`.

    def hang(self) -> None:
        """Become deaf."""
        self._deaf = True

    def leave(self, call: str, description: str, pause: float) -> str:
        """Let a command go on in the background."""
        return self._background.start(call, description, pause)

    async def recall(self) -> list[str]:
        """Return what the user asked before in this conversation, as far as it was kept."""
        return await asyncio.to_thread(self._memory.recall, self.frames.message_id)

    async def permit(self, call: str, tool: Tool) -> Permit:
        """Ask whether a tool may run, unless it may anyway."""
        if self.permissions.allow(tool):
            return Permit(allowed=True, tool_input=tool.input)
        frames, put = self.frames, self.lines.put
        request_id = frames.new_id("request")
        asked = self._asks[request_id] = asyncio.get_running_loop().create_future()
        put(frames.state("requires_action"))
        put(
            frames.permission(
                request_id,
                call,
                tool.name,
                tool.input,
                suggestions=self.permissions.suggest(tool),
                needs_user=tool.needs_user,
            )
        )
        # As long as nobody decides; whoever asked us has the clock.
        response = await asked
        answer = response.get("response") or {}
        allowed = answer.get("behavior") == "allow"
        if allowed:
            updates = answer.get("updatedPermissions") or ()
            self.permissions.update(updates)
            if any(update["type"] == "setMode" for update in updates):
                self._print_mode()
        put(frames.state("running"))
        refusal = "" if allowed else answer.get("message") or response.get("error") or "Refused."
        return Permit(
            allowed=allowed, tool_input=answer.get("updatedInput") or tool.input, refusal=refusal
        )

    def _exit(self, code: int, reason: ExitReason) -> None:
        self._background.end()
        if not self.exited.done():
            ended = Exit(code, reason)
            self.exited.set_result(ended)
            self.lines.end(ended)

    def _control(self, request_id: str, request: dict[str, Any]) -> None:
        response: dict[str, Any] = {"subtype": "success", "request_id": request_id}
        mode = ""
        match request["subtype"]:
            case "initialize":
                response["response"] = {
                    "commands": [],
                    "models": [{"value": self.frames.model}],
                }
            case "interrupt":
                response["response"] = {"still_queued": []}
                if self._running is not None and not self._running.expired():
                    self._running.reschedule(asyncio.get_running_loop().time())
            case "set_permission_mode" if request["mode"] != "bypassPermissions":
                mode = request["mode"]
                response["response"] = {"mode": mode}
            case "set_permission_mode":
                response |= {"subtype": "error", "error": _REFUSED}
            case "set_model":
                model = request["model"]
                self.frames.model = self._first_model if model == "default" else model
                response["response"] = {"model": self.frames.model}
            case "mcp_status":
                response["response"] = {"mcpServers": []}
            case _:
                response |= {"subtype": "error", "error": "unsupported_request"}
        self.lines.put(orjson.dumps({"type": "control_response", "response": response}))
        if mode and mode != self.permissions.mode:
            self.permissions.mode = mode
            self._print_mode()

    def _print_mode(self) -> None:
        self.frames.mode = self.permissions.mode
        self.lines.put(self.frames.system("status", status=None, permissionMode=self.frames.mode))

    def _notice(self, description: str) -> None:
        """Hear that a command in the background has ended: the agent will tell."""
        self._queue(description)

    def _queue(self, prompt: dict[str, Any] | str) -> None:
        self._prompts.append(prompt)
        if self._turns is None:
            self._turns = self._tasks.spawn(self._take_turns(), name="simulated-turns")
            self._turns.add_done_callback(self._turns_ended)

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

    async def _take_turn(self, prompt: dict[str, Any] | str) -> None:
        frames, put = self.frames, self.lines.put
        text, steps = await self._begin(prompt)
        put(frames.init())
        put(frames.requesting())
        performance = Performance(stage=self)
        try:
            async with asyncio.timeout(None) as self._running:
                await performance.play(steps)
            ending = performance.ending
        except TimeoutError:
            ending = _INTERRUPTED
            self._withdraw_asks()
        finally:
            self._running = None
        put(self._result(performance, ending, len(text.split())))
        if frames.message_id:
            put(frames.lifecycle("completed"))
        if not self._prompts:
            put(frames.state("idle"))

    async def _begin(self, prompt: dict[str, Any] | str) -> tuple[str, Sequence[Step]]:
        """Print that a turn begins; return what is asked, and what is done for it."""
        frames, put = self.frames, self.lines.put
        if isinstance(prompt, str):
            frames.message_id = ""
            put(frames.state("running"))
            return prompt, [Say(prompt)]
        text = prompt["message"]["content"]
        frames.message_id = prompt["uuid"]
        put(frames.state("running"))
        put(frames.lifecycle("queued"))
        put(frames.lifecycle("started"))
        if self._mirrors and remark_of(text):
            entry = await asyncio.to_thread(self._memory.keep, text, frames.message_id)
            put(
                orjson.dumps(
                    {
                        "type": "transcript_mirror",
                        "filePath": str(self._memory.path),
                        "entries": [entry],
                    }
                )
            )
        return text, steps_of(text)

    def _withdraw_asks(self) -> None:
        for request_id in self._asks:
            frame = {"type": "control_cancel_request", "request_id": request_id}
            self.lines.put(orjson.dumps(frame))
        self._asks.clear()

    def _result(self, performance: Performance, ending: dict[str, Any], words: int) -> bytes:
        written = performance.fragments
        usage = performance.usage or Usage(words, written, 3 * words + 15 * written)
        cost = usage.cost_usd_micros / 1_000_000
        self._cost += cost
        self._failed = bool(ending.get("is_error"))
        frames = self.frames
        model = {
            frames.model: {
                "inputTokens": usage.input_tokens,
                "outputTokens": usage.output_tokens,
                "cacheReadInputTokens": 0,
                "cacheCreationInputTokens": 0,
                "costUSD": cost,
            }
        }
        whose: dict[str, Any] = _BY_ITSELF
        if frames.message_id:
            whose = {"user_message_uuid": frames.message_id, **frames.answered()}
        line = frames.line(
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
            **whose,
            result_index=self._results,
            queued_turn_count=len(self._prompts),
            **{key: value for key, value in ending.items() if key != "is_error"},
        )
        self._results += 1
        return line
