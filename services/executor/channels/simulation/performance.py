"""One turn of the simulated agent: performs the steps of a script as frames.

Does not know the control protocol, nor how a prompt arrives.
"""

from __future__ import annotations

import asyncio
import io
import re
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import orjson

from services.executor.channels.simulation import files, script
from services.executor.channels.simulation.frames import DeltaShape, Frames
from services.executor.channels.simulation.lines import Lines
from services.executor.channels.simulation.pace import Pace
from services.executor.channels.simulation.ticker import Ticker

_BURST = 32
"""Fragments printed before others get a turn."""
_WORD = re.compile(r"\s*\S+")

_RETRIED = {
    "rate_limited": (429, "rate_limit"),
    "overloaded": (529, "overloaded"),
    "provider": (500, "server_error"),
    "provider_unreachable": (None, "unknown"),
}
"""Status and word of the failures the CLI retries before it gives up."""
_REFUSED = {
    "auth": (401, "Failed to authenticate. API Error: 401 invalid x-api-key"),
    "forbidden": (403, "Failed to authenticate. API Error: 403 not allowed"),
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
        frames: Builds the lines.
        lines: Where they go.
        ticker: Wakes what is paced.
        workspace: The directory the tools work in.
        permit: Asks for a tool, given its call's id, its name and its input; returns None when it
            may run, else why not.
        hang: Makes the process deaf.
    """

    def __init__(
        self,
        *,
        frames: Frames,
        lines: Lines,
        ticker: Ticker,
        workspace: Path,
        permit: Callable[[str, str, dict[str, str]], Awaitable[str | None]],
        hang: Callable[[], None],
    ) -> None:
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
        self._frames = frames
        self._lines = lines
        self._ticker = ticker
        self._workspace = workspace
        self._permit = permit
        self._hang = hang
        self._said = ""

    async def play(self, steps: Sequence[script.Step]) -> None:
        """Perform the steps in order; a failure is the last one.

        Raises:
            CrashError: A step says so.
        """
        for step in steps:
            await self._play(step)
            if self.ending["subtype"] != "success" or self.ending.get("is_error"):
                return
        self.ending["result"] = self._said

    async def _play(self, step: script.Step) -> None:
        match step:
            case script.Say(text):
                await self._say("text", text)
            case script.Think(text):
                await self._say("thinking", text)
            case script.Stream():
                await self._stream(step)
            case script.Retract(text):
                await self._retract(text)
            case script.Sleep(pause_ms):
                await asyncio.sleep(pause_ms / 1000)
            case script.Usage():
                self.usage = step
            case script.Fail(reason):
                await self._fail(reason)
            case script.Crash():
                raise CrashError
            case script.Hang():
                self._hang()
                # For ever: only a kill ends a process that hangs.
                await asyncio.get_running_loop().create_future()
            case _:
                await self._use_tool(step)

    # Text.

    async def _say(self, kind: str, text: str) -> None:
        words = _words(text)
        await self._write(kind, len(words), words.__getitem__, 0)

    async def _stream(self, step: script.Stream) -> None:
        await self._write("text", step.count, _now if step.clock else _numbered, step.pause_ms)

    async def _write(
        self, kind: str, count: int, word: Callable[[int], str], pause_ms: int
    ) -> None:
        message_id = self._begin_message({"type": kind, kind: ""})
        text = await self._print_words(message_id, kind, count, word, pause_ms)
        content = {"type": kind, kind: text}
        if kind == "thinking":
            content["signature"] = "simulated"
        else:
            self._said = text
        self._lines.put(self._frames.assistant(message_id, content))
        self._end_message("end_turn")
        await self._lines.room()

    async def _print_words(
        self, message_id: str, kind: str, count: int, word: Callable[[int], str], pause_ms: int
    ) -> str:
        frames, lines = self._frames, self._lines
        shape = frames.delta_shape(message_id, kind)
        printer = _Printer(frames=frames, shape=shape, word=word, lines=lines)
        if pause_ms:
            pace = Pace(
                count=count,
                pause=pause_ms / 1000,
                step=printer.print_word,
                lines=lines,
                ticker=self._ticker,
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
        words = _words(text)
        message_id = self._begin_message({"type": "text", "text": ""})
        await self._print_words(message_id, "text", len(words), words.__getitem__, 0)
        # Let readers see it, as they would before a stream breaks.
        await asyncio.sleep(0.01)
        self._lines.put(self._frames.event(type="content_block_stop", index=0))
        self._lines.put(self._frames.event(type="message_stop"))
        self._lines.put(self._frames.api_retry(1, None, "unknown"))
        await self._lines.room()

    def _begin_message(self, content: dict[str, Any]) -> str:
        message_id = f"msg_{self._frames.new_id('message')}"
        self.messages += 1
        self._lines.put(self._frames.message_start(message_id))
        start = self._frames.event(type="content_block_start", index=0, content_block=content)
        self._lines.put(start)
        return message_id

    def _end_message(self, stop_reason: str) -> None:
        put, event = self._lines.put, self._frames.event
        put(event(type="content_block_stop", index=0))
        usage = {"output_tokens": self.fragments}
        put(event(type="message_delta", delta={"stop_reason": stop_reason}, usage=usage))
        put(event(type="message_stop"))

    # Tools.

    async def _use_tool(self, step: script.Step) -> None:
        match step:
            case script.Write(path, text):
                call = self._call("Write", {"file_path": path, "content": text})
                await self._run(call, files.write, self._workspace, path, text)
            case script.Read(path):
                call = self._call("Read", {"file_path": path})
                await self._run(call, files.read, self._workspace, path)
            case script.Ask(tool, text):
                tool_input = {"text": text}
                call = self._call(tool, tool_input)
                refusal = await self._permit(call, tool, tool_input)
                if refusal is not None:
                    denial = {"tool_name": tool, "tool_use_id": call, "tool_input": tool_input}
                    self.denials.append(denial)
                await self._tool_result(call, "ok" if refusal is None else refusal, refusal)

    def _call(self, tool: str, tool_input: dict[str, str]) -> str:
        tool_id = f"toolu_{self._frames.new_id('tool')}"
        content = {"type": "tool_use", "id": tool_id, "name": tool, "input": {}}
        message_id = self._begin_message(content)
        delta = {"type": "input_json_delta", "partial_json": orjson.dumps(tool_input).decode()}
        self._lines.put(self._frames.event(type="content_block_delta", index=0, delta=delta))
        content["input"] = tool_input
        self._lines.put(self._frames.assistant(message_id, content))
        self._end_message("tool_use")
        return tool_id

    async def _run(self, call: str, tool: Callable[..., str], *arguments: Any) -> None:
        try:
            output, failure = await asyncio.to_thread(tool, *arguments), None
        except files.ToolError as error:
            output = failure = str(error)
        await self._tool_result(call, output, failure)

    async def _tool_result(self, call: str, output: str, failure: str | None) -> None:
        failed = failure is not None
        self._lines.put(self._frames.tool_result(call, output, failed=failed))
        await self._lines.room()

    # Failures.

    async def _fail(self, reason: str) -> None:
        if reason in _ENDED:
            subtype, terminal, said = _ENDED[reason]
            if reason == "session_lost":
                said += self._frames.session_id
            self.ending = {"subtype": subtype, "terminal_reason": terminal, "errors": [said]}
        elif reason in _RETRIED:
            status, word = _RETRIED[reason]
            for attempt in (1, 2):
                self._lines.put(self._frames.api_retry(attempt, status, word))
                await self._lines.room()
            said = f"API Error: {status} {word}" if status else "API Error: Connection error."
            self._refuse(status, said)
        else:
            self._refuse(*_REFUSED[reason])
        self.ending["is_error"] = True

    def _refuse(self, status: int | None, said: str) -> None:
        message_id = f"msg_{self._frames.new_id('message')}"
        content = {"type": "text", "text": said}
        self._lines.put(self._frames.assistant(message_id, content, model="<synthetic>"))
        self.ending = {
            "subtype": "success",
            "terminal_reason": "api_error",
            "api_error_status": status,
            "result": said,
        }


class _Printer:
    """Prints the words of one message, each as a fragment.

    Small, and not a closure: hundreds of them take turns, so that what one is made of is no
    longer in the processor's cache when it prints again.
    """

    __slots__ = ("_frames", "_head", "_lines", "_middle", "_word", "whole")

    def __init__(
        self, *, frames: Frames, shape: DeltaShape, word: Callable[[int], str], lines: Lines
    ) -> None:
        self._frames = frames
        self._head, self._middle = shape
        self._word = word
        self._lines = lines
        # Not a list: millions of short strings would take ten times the memory of their text.
        self.whole = io.StringIO(newline="")

    def print_word(self, index: int) -> None:
        text = self._word(index)
        self.whole.write(text)
        frames = self._frames
        frames.count += 1
        line = b'%b%b%b%012x"}' % (self._head, orjson.dumps(text), self._middle, frames.count)
        self._lines.add(line)


def _words(text: str) -> list[str]:
    """Cut a text after each word, so that the parts make up the whole text."""
    words = _WORD.findall(text)
    rest = text[sum(map(len, words)) :]
    if rest:
        words.append(rest)
    return words


def _numbered(index: int) -> str:
    return f" w{index + 1}" if index else "w1"


def _now(index: int) -> str:
    microseconds = time.time_ns() // 1000
    return f" {microseconds}" if index else str(microseconds)
