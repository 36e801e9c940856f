"""Tests of the conversation at a terminal, on a real one (a pseudo-terminal)."""

from __future__ import annotations

import asyncio
import fcntl
import os
import pty
import re
import struct
import sys
import termios
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from tests.unit.moorline.cli.conftest import ROOT
from tests.unit.moorline.scripted import Gateway
from tests.unit.moorline.scripted_platform import Turn, until

_ESCAPES = re.compile(r"\x1b(\[[0-9;?]*[ -/]*[@-~]|[()][A-Z0-9]|[=>78])")


class Terminal:
    """A person's terminal with the command running in it."""

    def __init__(self, process: asyncio.subprocess.Process, side: int) -> None:
        self.process = process
        self.raw = ""
        self._side = side
        self._news = asyncio.Event()
        asyncio.get_running_loop().add_reader(side, self._read)

    def _read(self) -> None:
        try:
            self.raw += os.read(self._side, 65536).decode(errors="replace")
        except OSError:
            asyncio.get_running_loop().remove_reader(self._side)
        if "\x1b[6n" in self.raw:
            # Where is the cursor? A real terminal answers.
            self.raw = self.raw.replace("\x1b[6n", "")
            self.type("\x1b[1;1R")
        self._news.set()

    @property
    def text(self) -> str:
        """What was shown, without control sequences."""
        return _ESCAPES.sub("", self.raw)

    def type(self, text: str) -> None:
        """Press keys."""
        os.write(self._side, text.encode())

    async def shows(self, text: str) -> None:
        """Wait until something is shown, and forget what came before its end."""
        try:
            async with asyncio.timeout(10):
                while text not in self.text:
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            raise AssertionError(f"{text!r} is not in {self.text!r}") from None
        self.raw = self.text.partition(text)[2]

    async def ends(self) -> int:
        """Wait for the command's end."""
        async with asyncio.timeout(10):
            return await self.process.wait()

    async def close(self) -> None:
        """End what is left."""
        asyncio.get_running_loop().remove_reader(self._side)
        if self.process.returncode is None:
            self.process.kill()
            await self.process.wait()
        os.close(self._side)


Open = Callable[..., Any]


@pytest.fixture
def terminal(environ: dict[str, str]) -> Open:
    """Open a terminal with the command in it, for `async with`."""

    @asynccontextmanager
    async def start(*arguments: str, **more: str) -> AsyncIterator[Terminal]:
        mine, its = pty.openpty()
        fcntl.ioctl(its, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "moorline.cli.main",
            *arguments,
            cwd=ROOT,
            env={**environ, "TERM": "xterm", **more},
            stdin=its,
            stdout=its,
            stderr=its,
            start_new_session=True,
            preexec_fn=_take_terminal,
        )
        os.close(its)
        person = Terminal(process, mine)
        try:
            yield person
        finally:
            await person.close()

    return start


def _take_terminal() -> None:
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


async def test_a_conversation(gateway: Gateway, terminal: Open) -> None:
    """Prompts are answered, commands obeyed, and leaving leaves the agent."""
    async with terminal() as person:
        await person.shows("New agent")
        await person.shows("❯")
        person.type("hello\r")
        await person.shows("You said: hello")
        await person.shows("❯")
        person.type("/mode accept-all\r")
        await person.shows("mode accept-all")
        person.type("/frobnicate\r")
        await person.shows("no command /frobnicate")
        person.type("/help\r")
        await person.shows("/quit")
        person.type("/new Another\r")
        await person.shows("Talking to")
        person.type("/agents\r")
        await person.shows("Another")
        first = next(iter(gateway.platform.agents)).rpartition("/")[2]
        person.type(f"/use {first}\r")
        await person.shows("You said: hello")
        person.type("/use nobody\r")
        await person.shows("There is no such thing")
        person.type("/stop\r")
        await person.shows("stop 0 turn(s)")
        person.type("/quit\r")
        assert 0 == await person.ends()
    assert 2 == len(gateway.platform.agents)
    assert (
        "PERMISSION_MODE_ACCEPT_ALL"
        == [agent.fields["permissionMode"] for agent in gateway.platform.agents.values()][1]
    )


async def test_a_person_decides(gateway: Gateway, terminal: Open) -> None:
    """A permission is asked for at the terminal, and may be answered elsewhere meanwhile."""

    async def script(turn: Turn) -> None:
        for tool in ("Bash", "Edit", "Write"):
            decision = await turn.ask(tool, question="Shall I?")
            await turn.say(f"{tool} {decision['allowed']}")

    gateway.platform.script = script
    async with terminal("-p", "go") as person:
        await person.shows("Shall I?")
        await person.shows("Allow Bash?")
        person.type("y\r")
        await person.shows("Allowed: Bash")
        await person.shows("Bash True")
        await person.shows("Allow Edit?")
        person.type("n\r")
        await person.shows("Edit False")
        await person.shows("Allow Write?")
        (turn,) = gateway.platform.running.values()
        waiting = next(future for future in turn.answers.values() if not future.done())
        waiting.set_result({"permissionId": "p5", "allowed": True})
        await person.shows("Answered elsewhere")
        await person.shows("Write True")
        assert 0 == await person.ends()


async def test_ctrl_c_stops_the_turn_and_then_leaves(gateway: Gateway, terminal: Open) -> None:
    """Ctrl-C in a turn stops it; twice at the prompt leaves; Ctrl-C at a question stops, too."""

    async def script(turn: Turn) -> None:
        if turn.prompt == "ask":
            await turn.ask("Bash")
        turn.agent.write("b", "thinking about it")
        await asyncio.Event().wait()

    gateway.platform.script = script
    async with terminal() as person:
        await person.shows("❯")
        for prompt, sign in (("hang", "thinking about it"), ("ask", "Allow Bash?")):
            person.type(f"{prompt}\r")
            await person.shows(sign)
            person.type("\x03")
            await person.shows("was cancelled")
            await person.shows("❯")
        person.type("\x03")
        await person.shows("Ctrl-C again")
        person.type("\x03")
        assert 130 == await person.ends()


async def test_attaching_shows_what_runs(gateway: Gateway, terminal: Open) -> None:
    """`attach` shows the past, follows the running turn, and then asks for a prompt."""
    go = asyncio.Event()

    async def script(turn: Turn) -> None:
        await turn.say("early words")
        await go.wait()
        await turn.say("late words")

    gateway.platform.script = script
    async with terminal("-p", "go", "--detach") as person:
        assert 0 == await person.ends()
    (agent,) = gateway.platform.agents.values()
    await until(lambda: len(agent.events) == 2)
    async with terminal("attach") as person:
        await person.shows("you❯ go")
        await person.shows("early words")
        go.set()
        await person.shows("late words")
        await person.shows("❯")
        assert "early words" not in person.text
        person.type("\x04")
        assert 0 == await person.ends()


@pytest.mark.parametrize("plain", [True, False])
async def test_markdown_is_drawn(gateway: Gateway, terminal: Open, plain: bool) -> None:
    """On a terminal Markdown is laid out; NO_COLOR is honoured."""

    async def script(turn: Turn) -> None:
        await turn.say("# Title\n\nSome **bold** words.\n\n```python\nx = 1\n```\n\n- one\n- two")

    gateway.platform.script = script
    more = {"NO_COLOR": "1"} if plain else {}
    async with terminal("-p", "go", **more) as person:
        assert 0 == await person.ends()
        await asyncio.sleep(0.05)
        assert "Some \x1b[1mbold\x1b[0m words." in person.raw
        colours = re.findall(r"\x1b\[[0-9;]*3[0-9][0-9;]*m", person.raw)
        assert plain == (colours == [])
