"""Tests of `services.executor.channels.process.channel`.

What every channel holds is tested by the contract suite.
"""

from __future__ import annotations

import asyncio
import errno
import gc
import os
import signal
import sys
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, TypeVar

import pytest

from services.chassis.failures import Failure
from services.chassis.tasks import Tasks
from services.executor.channel import Exit, ExitReason
from services.executor.channels.process import channel as channels
from services.executor.channels.process.channel import ProcessChannel
from services.executor.channels.process.tree import Trees
from tests.unit.executor.fakes import until
from tests.unit.executor.process.running import (
    LEAVE_BEHIND,
    Heard,
    alive,
    channel_to,
    make_start,
    started,
)

T = TypeVar("T")

ECHO = "import sys\nfor line in sys.stdin.buffer: sys.stdout.buffer.write(line); sys.stdout.flush()"


async def test_long_lines_pass_both_ways(trees: Trees, tmp_path: Path) -> None:
    """Two megabytes and more, while the writer waits for room."""
    heard, line = Heard(), b"x" * (3 << 20)
    async with channel_to(make_start(ECHO, directory=tmp_path), trees) as channel:
        await channel.open(heard)
        await channel.write(line)
        await channel.write(b"short")
        lines = await heard.until(2)

    assert [line, b"short"] == lines


async def test_held_process_waits_at_its_source(trees: Trees, tmp_path: Path) -> None:
    """A bounded part of an endless output is read."""
    code = "import os\nwhile True: os.write(1, b'x' * 1023 + b'\\n')"
    heard = Heard()
    async with channel_to(make_start(code, directory=tmp_path), trees) as channel:
        await channel.open(heard)
        await heard.until(1)
        channel.hold()
        channel.hold()
        count = len(heard.lines)
        # What was read before may come in the next rounds of the loop; how much, the loop says.
        await asyncio.sleep(0.05)
        held = channel.waiting
        await asyncio.sleep(0.1)
        later = channel.waiting
        channel.release()
        await heard.until(count + 2000)

    assert held == later


async def test_environment_is_what_is_said(
    trees: Trees, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing of ours gets in but the mark; it works in its directory, and folders are made."""
    monkeypatch.setenv("SECRET", "x")
    code = (
        "import os\nprint(sorted(os.environ)); print(os.getcwd()); print(os.getsid(0)==os.getpid())"
    )
    heard = Heard()
    async with channel_to(make_start(code, directory=tmp_path), trees) as channel:
        await channel.open(heard)
        await heard.end()

    names = {b"PATH", b"MOORLINE_AGENT", b"LC_CTYPE"}
    printed = heard.lines[0].replace(b"'", b"").strip(b"[]").split(b", ")
    assert {b"PATH", b"MOORLINE_AGENT"} <= set(printed) <= names
    assert [str(tmp_path).encode(), b"True"] == heard.lines[1:]
    assert (tmp_path / "home").is_dir()


@pytest.mark.parametrize(
    ("code", "ended"),
    [
        ("raise SystemExit(3)", Exit(3, ExitReason.EXITED)),
        ("import os; os.abort()", Exit(-6, ExitReason.EXITED)),
        ("import os; os.kill(os.getpid(), 9)", Exit(-9, ExitReason.KILLED)),
        ("import os; os.kill(os.getpid(), 15)", Exit(-15, ExitReason.KILLED)),
    ],
)
async def test_exit_tells_code_and_reason(
    trees: Trees, tmp_path: Path, code: str, ended: Exit
) -> None:
    """Signals are negative; who aborts has ended by itself."""
    heard = Heard()
    async with channel_to(make_start(code, directory=tmp_path), trees) as channel:
        await channel.open(heard)

        assert ended == await heard.end() == await channel.wait()


async def test_last_words_of_a_crash_are_logged(
    trees: Trees, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The end of them, when there are many."""
    code = "import sys; sys.stderr.write('x' * 20000 + 'why'); sys.exit(1)"
    heard = Heard()
    async with channel_to(make_start(code, directory=tmp_path), trees) as channel:
        await channel.open(heard)
        await heard.end()

    (record,) = caplog.records
    words = record.__dict__["stderr"]
    assert (1, 8192) == (record.__dict__["code"], len(words))
    assert words.endswith("xwhy")


async def test_kill_ends_what_was_left_behind(trees: Trees, tmp_path: Path, pids: Path) -> None:
    """Tools in sessions of their own, whose parents are gone, die with the process."""
    code = LEAVE_BEHIND + "\nprint('ready', flush=True); time.sleep(600)"
    heard = Heard()
    async with channel_to(make_start(code, str(pids), directory=tmp_path), trees) as channel:
        await channel.open(heard)
        await heard.until(1)
        before = alive(pids)
        await channel.kill()

        assert 1 == len(before)
        assert [] == alive(pids)


@pytest.mark.parametrize("end", ["pass", "os.kill(os.getpid(), 9)"])
async def test_no_tool_outlives_its_process(
    trees: Trees, tmp_path: Path, pids: Path, end: str
) -> None:
    """However the process itself ends: when its end is told, nothing is left."""
    heard = Heard()
    start = make_start(f"{LEAVE_BEHIND}\n{end}", str(pids), directory=tmp_path)
    async with channel_to(start, trees) as channel:
        await channel.open(heard)
        await heard.end()

        assert 1 == len(started(pids))
        assert [] == alive(pids)


async def test_output_held_open_by_somebody_else_is_not_waited_for(
    trees: Trees, tmp_path: Path, pids: Path
) -> None:
    """A process that hides may keep the pipe, and not the end."""
    code = f"""
import os, pathlib
print("last", flush=True)
if os.fork() == 0:
    os.setsid()
    os.execve({sys.executable!r}, ["x", "-c", '''
import os, pathlib, sys, time
pathlib.Path(sys.argv[1], str(os.getpid())).touch()
time.sleep(600)''', {str(pids)!r}], {{}})
while not os.listdir({str(pids)!r}): pass
"""
    heard = Heard()
    async with channel_to(make_start(code, directory=tmp_path), trees) as channel:
        await channel.open(heard)
        ended = await heard.end()

    assert [b"last"] == heard.lines
    assert Exit(0, ExitReason.EXITED) == ended


async def test_held_end_waits_for_release(trees: Trees, tmp_path: Path) -> None:
    """All that was printed is there then, although the process is long gone."""
    code = "import sys; [print('x' * 1000) for _ in range(50)]"
    heard = Heard()
    async with channel_to(make_start(code, directory=tmp_path), trees) as channel:
        await channel.open(heard)
        channel.hold()
        await channel.wait()
        before = heard.ended
        channel.release()
        await heard.end()

    assert before is None
    assert 50 == len(heard.lines)


async def test_memory_is_that_of_the_whole_tree(trees: Trees, tmp_path: Path, pids: Path) -> None:
    """It grows with what the process starts, and nobody knows it afterwards."""
    code = (
        f"print('ready', flush=True); input()\n{LEAVE_BEHIND}\nprint('more', flush=True); input()"
    )
    heard = Heard()
    async with channel_to(make_start(code, str(pids), directory=tmp_path), trees) as channel:
        before = await channel.memory()
        await channel.open(heard)
        await heard.until(1)
        alone = await channel.memory()
        await channel.write(b"")
        await heard.until(2)
        both = await channel.memory()
        await channel.kill()

        assert before is None
        assert alone is not None
        assert both is not None
        assert 1 << 20 < alone < both - (1 << 20)
        assert await channel.memory() is None


async def test_endless_line_ends_the_process(
    trees: Trees, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It must not take all the memory there is."""
    monkeypatch.setattr(channels, "LINE_LIMIT", 1 << 20)
    code = "import os\nwhile True: os.write(1, b'x' * 65536)"
    heard = Heard()
    async with channel_to(make_start(code, directory=tmp_path), trees) as channel:
        await channel.open(heard)

        assert ExitReason.KILLED is (await heard.end()).reason
    assert [] == heard.lines


async def test_missing_program_is_a_failure(trees: Trees, tmp_path: Path) -> None:
    """Nothing runs, and everything can still be called."""
    heard = Heard()
    start = make_start("", directory=tmp_path, program=str(tmp_path / "none"))
    async with channel_to(start, trees) as channel:
        with pytest.raises(Failure) as caught:
            await channel.open(heard)
        await channel.write(b"x")
        channel.hold()
        channel.release()
        await channel.close_input()

        assert "BACKEND_UNAVAILABLE" == caught.value.reason_name
        assert channel.gone
        assert ExitReason.KILLED is (await channel.wait()).reason


async def test_machine_without_room_is_a_failure_that_passes(
    trees: Trees, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when too many files are open."""

    async def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(asyncio.get_running_loop(), "subprocess_exec", refuse, raising=False)
    async with channel_to(make_start("", directory=tmp_path), trees) as channel:
        with pytest.raises(Failure) as caught:
            await channel.open(Heard())

        assert "EXECUTOR_CAPACITY" == caught.value.reason_name


async def test_program_that_is_none_says_so_and_ends(
    trees: Trees, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It is found out only in its own process."""
    program = tmp_path / "program"
    program.write_bytes(b"\x7fELF")
    program.chmod(0o700)
    heard = Heard()
    async with channel_to(
        make_start("", directory=tmp_path, program=str(program)), trees
    ) as channel:
        await channel.open(heard)

        assert Exit(1, ExitReason.EXITED) == await heard.end()
    assert "does not start" in caplog.records[0].__dict__["stderr"]


async def test_cancelled_start_leaves_nothing(trees: Trees, tmp_path: Path, pids: Path) -> None:
    """Not even when the process has begun."""
    code = f"""
import os, pathlib, time
pathlib.Path({str(pids)!r}, str(os.getpid())).touch()
time.sleep(600)
"""
    async with channel_to(make_start(code, directory=tmp_path), trees) as channel:
        opening = asyncio.ensure_future(channel.open(Heard()))
        await asyncio.sleep(0)
        opening.cancel()
        with pytest.raises(asyncio.CancelledError):
            await opening
        await asyncio.sleep(0.1)

        assert [] == alive(pids)
        assert ExitReason.KILLED is (await channel.wait()).reason


class Roots(set[int]):
    """Cancels an opening as soon as its process has begun."""

    opening: asyncio.Task[None]

    def add(self, pid: int) -> None:
        """Note a process, and give its opening up."""
        super().add(pid)
        self.opening.cancel()


async def test_nobody_waits_for_a_process_whose_start_was_cancelled(
    trees: Trees, tmp_path: Path
) -> None:
    """Another one may get its number, and must not be taken for it."""
    roots = Roots()
    async with Tasks() as tasks:
        start = make_start("import time; time.sleep(600)", directory=tmp_path)
        channel = ProcessChannel(start=start, trees=trees, tasks=tasks, roots=roots)
        roots.opening = asyncio.create_task(channel.open(Heard()))
        with pytest.raises(asyncio.CancelledError):
            await roots.opening
        async with asyncio.timeout(10):
            await until(lambda: not roots)

        assert ExitReason.KILLED is (await channel.wait()).reason


class Ending(Tasks):
    """Tasks whose owner ends whenever another is spawned."""

    def spawn(self, coro: Coroutine[Any, Any, T], *, name: str) -> asyncio.Task[T]:
        """See `Tasks`."""
        task = super().spawn(coro, name=name)
        task.cancel()
        return task


async def test_nothing_is_left_of_a_process_that_ends_with_its_executor(
    trees: Trees, tmp_path: Path
) -> None:
    """Who waits for it is told, although there is nobody left to see what it leaves behind."""
    start = make_start("", directory=tmp_path)
    async with Ending() as tasks:
        channel = ProcessChannel(start=start, trees=trees, tasks=tasks, roots=set())
        await channel.open(Heard())

        assert Exit(0, ExitReason.EXITED) == await channel.wait()
    del channel
    # A transport that was left open complains.
    gc.collect()


async def test_process_dies_with_its_executor(tmp_path: Path, pids: Path) -> None:
    """A killed executor tells nobody."""
    code = f"""
import asyncio, pathlib, sys
sys.path.insert(0, {str(Path.cwd())!r})
from services.executor.channels.process.tree import Trees
from tests.unit.executor.process.running import Heard, channel_to, make_start
async def main():
    agent = '''import os, pathlib, time
pathlib.Path({str(pids)!r}, str(os.getpid())).touch()
print("up", flush=True); time.sleep(600)'''
    start = make_start(agent, directory=pathlib.Path({str(tmp_path)!r}))
    async with channel_to(start, Trees(proc=pathlib.Path("/proc"))) as channel:
        heard = Heard()
        await channel.open(heard)
        await heard.until(1)
        print("up", flush=True)
        await channel.wait()
asyncio.run(main())
"""
    executor = await asyncio.create_subprocess_exec(
        sys.executable, "-c", code, stdout=asyncio.subprocess.PIPE
    )
    assert executor.stdout is not None
    await executor.stdout.readline()
    before = alive(pids)
    executor.send_signal(signal.SIGKILL)
    await executor.wait()
    await until(lambda: not alive(pids))

    assert 1 == len(before)
    assert str(os.getpid()) not in before
