"""One turn of the simulated agent: performs the steps of a script as frames.

Does not know the control protocol, nor how a prompt arrives.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import orjson

from services.executor.channels.simulation import script
from services.executor.channels.simulation.pace import Pace
from services.executor.channels.simulation.reading import steps_of
from services.executor.channels.simulation.stage import Stage
from services.executor.channels.simulation.tools import Tool, Use, tool_of
from services.executor.channels.simulation.words import Printer, now, numbered, words_of

_BURST = 32
"""Fragments printed before others get a turn."""
_TOKENS_BEFORE = 160_000
_TOKENS_AFTER = 12_000

_RETRIED = {
    "rate_limited": (429, "rate_limit"),
    "overloaded": (529, "overloaded"),
    "provider": (500, "server_error"),
    "provider_unreachable": (None, "unknown"),
}
"""Status and word of the failures the CLI retries before it gives up."""
_WORDS = dict(_RETRIED.values())
_REFUSED = {
    "auth": (401, "Failed to authenticate. API Error: 401 invalid x-api-key"),
    "forbidden": (403, "Failed to authenticate. API Error: 403 permission_error"),
    "bad_request": (400, "API Error: 400 invalid_request_error"),
}
"""Status and text of the failures that end a turn at once."""
_ENDED = {
    "max_turns": ("error_max_turns", "max_turns", "Reached maximum number of turns"),
    "budget_exhausted": ("error_max_budget_usd", "budget_exhausted", "Reached maximum budget"),
    "session_lost": ("error_during_execution", "error", "No conversation found with session ID: "),
}
"""Subtype, terminal reason and text of the failures that are the CLI's own."""


class CrashError(Exception):
    """Raised by the step that makes the process die."""


class Performance:
    """What one turn prints, from its first message to what its result tells.

    Args:
        stage: What the process has.
        parent: The tool call that started this sub-agent; None for the agent itself. What a
            sub-agent says is not streamed.
    """

    def __init__(self, *, stage: Stage, parent: str | None = None) -> None:
        self.fragments = 0
        """Fragments printed."""
        self.messages = 0
        """Messages printed."""
        self.usage: script.Usage | None = None
        """What the result is to report, when the script says so."""
        self.denials: list[dict[str, Any]] = []
        """Tool calls that were refused."""
        self.ending: dict[str, Any] = {"subtype": "success", "terminal_reason": "completed"}
        """What the result tells beside usage and ids."""
        self.said = ""
        """The message before this moment."""
        self._stage = stage
        self._frames = stage.frames
        self._lines = stage.lines
        self._parent = parent
        self._tool_messages = 0
        self._refused = False

    @property
    def failed(self) -> bool:
        """Whether it ended before its script did."""
        return self.ending["subtype"] != "success" or bool(self.ending.get("is_error"))

    async def play(self, steps: Sequence[script.Step]) -> None:
        """Perform the steps in order; a failure is the last one.

        Raises:
            CrashError: A step says so.
        """
        waiting = list(steps)
        while waiting:
            step = waiting.pop(0)
            if isinstance(step, script.Parallel):
                together, waiting = waiting[: step.count], waiting[step.count :]
                await self._use_tools(together)
            else:
                await self._play(step)
            if self.failed:
                return
        self.ending["result"] = self.said

    async def _play(self, step: script.Step) -> None:
        match step:
            case script.Say(text) | script.Error(text):
                await self._say("text", text)
            case script.Think(text):
                await self._say("thinking", text)
            case script.Stream():
                await self._stream(step)
            case script.Unstreamed(text):
                await self._say_whole(text)
            case script.Recall():
                await self._say("text", await self._recall())
            case script.Usage():
                self.usage = step
            case script.Sleep(pause_ms):
                await asyncio.sleep(pause_ms / 1000)
            case script.Crash():
                raise CrashError
            case script.Hang():
                self._stage.hang()
                # For ever: only a kill ends a process that hangs.
                await asyncio.get_running_loop().create_future()
            case _:
                await self._go_through(step)

    async def _go_through(self, step: script.Step) -> None:
        """Perform a step that is trouble with the provider, or a tool call."""
        match step:
            case script.Retract(text):
                await self._retract(text)
            case script.Refuse(text):
                await self._refuse(text)
            case script.Fail(reason):
                await self._fail(reason)
            case script.Retry(times, status):
                await self._retry(times, status or None)
            case script.Silence():
                await self._retry(1, None)
            case script.Fallback():
                await self._fall_back()
            case script.Compact():
                self._compact()
            case _:
                await self._use_tools([step])

    # Text.

    async def _say(self, kind: str, text: str, stop_reason: str = "end_turn") -> None:
        words = words_of(text)
        await self._write(kind, len(words), words.__getitem__, 0, stop_reason)

    async def _stream(self, step: script.Stream) -> None:
        await self._write("text", step.count, now if step.clock else numbered, step.pause_ms)

    async def _write(
        self,
        kind: str,
        count: int,
        word: Callable[[int], str],
        pause_ms: int,
        stop_reason: str = "end_turn",
    ) -> None:
        message_id = self._begin_message({"type": kind, kind: ""})
        text = await self._print_words(message_id, kind, count, word, pause_ms)
        content = {"type": kind, kind: text}
        if kind == "thinking":
            content["signature"] = "simulated"
        else:
            self.said = text
        self._lines.put(self._frames.assistant(message_id, content, parent=self._parent))
        self._end_message(stop_reason)
        await self._lines.room()

    async def _say_whole(self, text: str) -> None:
        message_id = f"msg_{self._frames.new_id('message')}"
        self.messages += 1
        self.said = text
        content = {"type": "text", "text": text}
        self._lines.put(self._frames.assistant(message_id, content, parent=self._parent))
        await self._lines.room()

    async def _recall(self) -> str:
        remembered = await self._stage.recall()
        return f"I remember: {', '.join(remembered)}" if remembered else "I remember nothing."

    async def _print_words(
        self, message_id: str, kind: str, count: int, word: Callable[[int], str], pause_ms: int
    ) -> str:
        frames, lines = self._frames, self._lines
        if self._parent is not None:
            self.fragments += count
            return "".join(map(word, range(count)))
        shape = frames.delta_shape(message_id, kind)
        printer = Printer(frames=frames, shape=shape, word=word, lines=lines)
        if pause_ms:
            pace = Pace(
                count=count,
                pause=pause_ms / 1000,
                step=printer.print_word,
                lines=lines,
                ticker=self._stage.ticker,
            )
            while not pace.finished:
                await pace.run()
                await lines.room()
        else:
            for index in range(count):
                printer.print_word(index)
                if index % _BURST == _BURST - 1:
                    await lines.room()
            lines.flush()
        self.fragments += count
        return printer.whole.getvalue()

    async def _retract(self, text: str) -> None:
        words = words_of(text)
        message_id = self._begin_message({"type": "text", "text": ""})
        await self._print_words(message_id, "text", len(words), words.__getitem__, 0)
        # Let readers see it, as they would before a stream breaks.
        await asyncio.sleep(0.01)
        self._event(type="content_block_stop", index=0)
        self._event(type="message_stop")
        self._lines.put(self._frames.api_retry(1, None, "unknown"))
        await self._lines.room()

    def _begin_message(self, *contents: dict[str, Any]) -> str:
        message_id = f"msg_{self._frames.new_id('message')}"
        self.messages += 1
        if self._parent is None:
            self._lines.put(self._frames.message_start(message_id))
            for content in contents:
                self._event(type="content_block_start", index=0, content_block=content)
        return message_id

    def _end_message(self, stop_reason: str) -> None:
        self._event(type="content_block_stop", index=0)
        usage = {"output_tokens": self.fragments}
        self._event(type="message_delta", delta={"stop_reason": stop_reason}, usage=usage)
        self._event(type="message_stop")

    def _event(self, **event: Any) -> None:
        if self._parent is None:
            self._lines.put(self._frames.event(**event))

    # Tools.

    async def _use_tools(self, steps: Sequence[script.Step]) -> None:
        """Call tools in one message, then run them one after another."""
        tools = [tool_of(step, self._stage, self._play_sub_agent) for step in steps]
        message_id = self._begin_message()
        calls = [self._call(message_id, index, tool) for index, tool in enumerate(tools)]
        usage = {"output_tokens": self.fragments}
        self._event(type="message_delta", delta={"stop_reason": "tool_use"}, usage=usage)
        self._event(type="message_stop")
        for call, tool in zip(calls, tools, strict=True):
            await self._run(call, tool)
        self._tool_messages += 1
        if 0 < self._stage.max_steps <= self._tool_messages:
            await self._fail("max_turns")

    def _call(self, message_id: str, index: int, tool: Tool) -> str:
        tool_id = f"toolu_{self._frames.new_id('tool')}"
        content = {"type": "tool_use", "id": tool_id, "name": tool.name, "input": {}}
        self._event(type="content_block_start", index=index, content_block=content)
        delta = {"type": "input_json_delta", "partial_json": orjson.dumps(tool.input).decode()}
        self._event(type="content_block_delta", index=index, delta=delta)
        content["input"] = tool.input
        self._lines.put(self._frames.assistant(message_id, content, parent=self._parent))
        self._event(type="content_block_stop", index=index)
        return tool_id

    async def _run(self, call: str, tool: Tool) -> None:
        tool_input = tool.input
        failed = False
        if tool.asks:
            permit = await self._stage.permit(call, tool)
            tool_input, output, failed = permit.tool_input, permit.refusal, not permit.allowed
        if failed:
            denial = {"tool_name": tool.name, "tool_use_id": call, "tool_input": tool.input}
            self.denials.append(denial)
        else:
            output, failed = await tool.run(Use(call, tool_input))
        self._lines.put(self._frames.tool_result(call, output, failed=failed, parent=self._parent))
        await self._lines.room()

    async def _play_sub_agent(self, call: str, prompt: str) -> tuple[str, bool]:
        frames, put = self._frames, self._lines.put
        task = {"task_id": frames.new_id("task"), "tool_use_id": call}
        put(frames.system("task_started", **task, description="task", is_backgrounded=False))
        put(frames.told(prompt, parent=call))
        performance = Performance(stage=self._stage, parent=call)
        await performance.play(steps_of(prompt))
        self.fragments += performance.fragments
        self.denials += performance.denials
        said, failed = performance.said, performance.failed
        if failed:
            why = performance.ending.get("result") or performance.ending["errors"][0]
            said = f"Agent terminated early due to an API error: {why}"
        status = "failed" if failed else "completed"
        put(frames.system("task_notification", **task, status=status, summary=said))
        put(frames.requesting())
        return said, failed

    # Failures.

    async def _fail(self, reason: str) -> None:
        if reason in _ENDED:
            subtype, terminal, said = _ENDED[reason]
            if reason == "session_lost":
                said += self._frames.session_id
            self.ending = {"subtype": subtype, "terminal_reason": terminal, "errors": [said]}
        elif reason in _RETRIED:
            status, word = _RETRIED[reason]
            await self._retry(2, status)
            said = f"API Error: {status} {word}" if status else "API Error: Connection error."
            self._give_up(status, said)
        else:
            self._give_up(*_REFUSED[reason])
        self.ending["is_error"] = True

    async def _refuse(self, text: str) -> None:
        """Stop in the middle; the CLI asks the model to go on, but once in a turn."""
        if text:
            await self._say("text", text, "refusal")
        if self._refused:
            self._lines.put(self._frames.system("model_refusal_no_fallback"))
            self._give_up(
                None, "API Error: The model's safeguards flagged this message.", "refusal"
            )
            self.ending["is_error"] = True
            return
        self._refused = True
        self._lines.put(self._frames.system("informational", content="Continuing once."))
        self._lines.put(self._frames.stopped())
        await self._lines.room()

    async def _retry(self, times: int, status: int | None) -> None:
        for attempt in range(1, times + 1):
            self._lines.put(self._frames.api_retry(attempt, status, _WORDS[status]))
            await self._lines.room()
            await asyncio.sleep(0.01)

    async def _fall_back(self) -> None:
        stage = self._stage
        if not stage.fallback_model:
            await self._fail("overloaded")
            return
        await self._retry(2, 529)
        models = {"original_model": self._frames.model, "fallback_model": stage.fallback_model}
        self._lines.put(self._frames.system("model_fallback", trigger="overloaded", **models))
        self._frames.model = stage.fallback_model

    def _compact(self) -> None:
        facts = {"trigger": "auto", "pre_tokens": _TOKENS_BEFORE, "post_tokens": _TOKENS_AFTER}
        self._lines.put(self._frames.system("compact_boundary", compact_metadata=facts))

    def _give_up(self, status: int | None, said: str, stop_reason: str = "stop_sequence") -> None:
        # What a sub-agent failed of is the result of its call, and no message.
        if self._parent is None:
            message_id = f"msg_{self._frames.new_id('message')}"
            content = {"type": "text", "text": said}
            self._lines.put(self._frames.assistant(message_id, content, model="<synthetic>"))
        self.ending = {
            "subtype": "success",
            "terminal_reason": "api_error",
            "api_error_status": status,
            "stop_reason": stop_reason,
            "result": said,
        }
