"""Keeping programs running, with small programs of the tests' own."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

import pytest

from services.local.programs import ROOT, Program
from services.local.supervisor import Backoff, Death, Supervisor

MS = timedelta(milliseconds=1)
QUICK = Backoff(first=10 * MS, most=40 * MS, forgotten=timedelta(seconds=30))

SLEEPS = "import time; print('up', flush=True); time.sleep(60)"
STUBBORN = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); " + SLEEPS
POLITE = (
    "import signal, sys; signal.signal(signal.SIGTERM, lambda *_: (print('bye'), sys.exit(0))); "
) + SLEEPS


class Runs:
    """A supervisor's news, as things to await."""

    def __init__(self) -> None:
        self.deaths: asyncio.Queue[Death] = asyncio.Queue()
        self.starts: asyncio.Queue[None] = asyncio.Queue()
        self.supervisor: Supervisor

    @asynccontextmanager
    async def of(
        self, *programs: Program, grace: timedelta = timedelta(seconds=5)
    ) -> AsyncIterator[Supervisor]:
        """Run programs for the length of a block."""
        self.supervisor = Supervisor(
            programs=programs,
            backoff=QUICK,
            grace=grace,
            started=lambda: self.starts.put_nowait(None),
            died=self.deaths.put_nowait,
        )
        async with self.supervisor:
            yield self.supervisor


@pytest.fixture
def runs() -> Runs:
    """News of one supervisor."""
    return Runs()


def program(folder: Path, code: str, name: str = "one") -> Program:
    """A program that runs some Python."""
    return Program(
        name=name,
        command=(sys.executable, "-c", code),
        environment={"MARK": "kept"},
        log=folder / f"{name}.log",
    )


async def until_logged(log: Path, word: str) -> None:
    """Wait for another process's words; there is no event to wait for."""
    async with asyncio.timeout(10):
        while word not in (log.read_text() if log.exists() else ""):  # noqa: ASYNC110, ASYNC240
            await asyncio.sleep(0.005)


def alive(pid: int) -> bool:
    """True for a process that runs, false for one that is gone or a zombie."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state.rpartition(")")[2].split()[0] != "Z"


async def test_a_program_that_ends_is_started_again(tmp_path: Path, runs: Runs) -> None:
    """A program that dies comes back by itself, as another process."""
    one = program(tmp_path, "raise SystemExit(3)")

    async with runs.of(one) as supervisor, asyncio.timeout(10):
        first = supervisor.pids["one"]
        death = await runs.deaths.get()
        await runs.deaths.get()

        assert 3 == death.status
        assert one == death.program
        assert first != supervisor.pids["one"]


async def test_a_killed_program_tells_its_signal(tmp_path: Path, runs: Runs) -> None:
    """The news of a death says which signal it was."""
    async with runs.of(program(tmp_path, SLEEPS)) as supervisor, asyncio.timeout(10):
        os.kill(supervisor.pids["one"], signal.SIGKILL)

        assert -signal.SIGKILL == (await runs.deaths.get()).status


async def test_a_death_is_told_however_busy_the_loop_s_threads_are(
    tmp_path: Path, runs: Runs
) -> None:
    """There are more programs than a loop on a small machine has threads."""
    loop, busy = asyncio.get_running_loop(), threading.Event()
    with ThreadPoolExecutor(1) as only:
        loop.set_default_executor(only)
        holding = loop.run_in_executor(None, busy.wait)
        several = [program(tmp_path, SLEEPS, name) for name in ("one", "two", "three")]
        try:
            async with runs.of(*several) as supervisor, asyncio.timeout(10):
                for name in ("one", "two", "three"):
                    os.kill(supervisor.pids[name], signal.SIGKILL)
                    assert name == (await runs.deaths.get()).program.name
        finally:
            busy.set()
            await holding


async def test_each_start_is_told_after_the_process_is_known(tmp_path: Path, runs: Runs) -> None:
    """Whoever is told of a start finds the new process's number."""
    async with runs.of(program(tmp_path, SLEEPS)) as supervisor, asyncio.timeout(10):
        await runs.starts.get()
        first = supervisor.pids["one"]
        os.kill(first, signal.SIGKILL)
        await runs.starts.get()

        assert first != supervisor.pids["one"]


async def test_leaving_asks_programs_to_end(tmp_path: Path, runs: Runs) -> None:
    """A program gets to clean up, and its last words reach its log."""
    one = program(tmp_path, POLITE)

    async with runs.of(one) as supervisor:
        await until_logged(one.log, "up")
        pid = supervisor.pids["one"]

    assert ["up", "bye"] == one.log.read_text().split()
    assert not alive(pid)
    assert runs.deaths.empty()


async def test_leaving_forces_a_program_that_does_not_listen(tmp_path: Path, runs: Runs) -> None:
    """A program that ignores SIGTERM is gone after the grace."""
    one = program(tmp_path, STUBBORN)

    async with asyncio.timeout(10), runs.of(one, grace=50 * MS) as supervisor:
        await until_logged(one.log, "up")
        pid = supervisor.pids["one"]

    assert not alive(pid)


async def test_kill_ends_everything_at_once(tmp_path: Path, runs: Runs) -> None:
    """A second Ctrl-C does not wait for the grace."""
    one = program(tmp_path, STUBBORN)

    async with asyncio.timeout(10), runs.of(one, grace=timedelta(seconds=60)) as supervisor:
        await until_logged(one.log, "up")
        asyncio.get_running_loop().call_later(0.05, supervisor.kill)


async def test_leaving_during_a_pause_starts_nothing(tmp_path: Path, runs: Runs) -> None:
    """A program waiting to be started again is not started while all ends."""
    async with runs.of(program(tmp_path, "raise SystemExit(1)")) as supervisor:
        async with asyncio.timeout(10):
            await runs.deaths.get()
        pid = supervisor.pids["one"]

    assert pid == supervisor.pids["one"]
    assert not alive(pid)


async def test_a_program_gets_its_own_environment_only(tmp_path: Path, runs: Runs) -> None:
    """Nothing of the supervisor's environment leaks into a program."""
    one = program(
        tmp_path, "import os, time; print(sorted(os.environ), flush=True); time.sleep(60)"
    )

    async with runs.of(one):
        await until_logged(one.log, "]")

    names = set(one.log.read_text().strip("[]\n").replace("'", "").split(", "))
    # Python adds a locale by itself when none is set.
    assert {"MARK"} == names - {"LC_CTYPE"}


async def test_what_a_dead_program_left_running_ends_with_it(tmp_path: Path, runs: Runs) -> None:
    """A child of a dead service does not stay behind."""
    code = (
        "import subprocess, sys, time\n"
        f"child = subprocess.Popen([sys.executable, '-c', {SLEEPS!r}])\n"
        "print('child', child.pid, 'started', flush=True)\n"
        "time.sleep(60)"
    )
    one = program(tmp_path, code)

    async with runs.of(one) as supervisor:
        await until_logged(one.log, "started")
        await until_logged(one.log, "up")
        child = int(one.log.read_text().split("child ")[1].split()[0])
        os.kill(supervisor.pids["one"], signal.SIGKILL)
        async with asyncio.timeout(10):
            await runs.deaths.get()
            while alive(child):  # noqa: ASYNC110 - another process's end
                await asyncio.sleep(0.005)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends a child with its parent")
async def test_a_killed_supervisor_leaves_no_orphans(tmp_path: Path) -> None:
    """SIGKILL of the supervisor ends its programs, which it can no longer ask."""
    code = (
        "import asyncio, sys\n"
        "from pathlib import Path\n"
        "from tests.unit.local.test_supervisor import Runs, STUBBORN, program\n"
        "async def main():\n"
        "    async with Runs().of(program(Path(sys.argv[1]), STUBBORN)) as supervisor:\n"
        "        print(supervisor.pids['one'], flush=True)\n"
        "        await asyncio.sleep(60)\n"
        "asyncio.run(main())\n"
    )
    process = subprocess.Popen(  # noqa: ASYNC220 - a moment
        [sys.executable, "-c", code, str(tmp_path)], cwd=ROOT, stdout=subprocess.PIPE
    )
    with process:
        assert process.stdout is not None
        child = int(process.stdout.readline())
        await until_logged(tmp_path / "one.log", "up")
        process.kill()
        process.wait()

        async with asyncio.timeout(10):
            while alive(child):  # noqa: ASYNC110 - another process's end
                await asyncio.sleep(0.005)


def test_pauses_double_up_to_a_limit() -> None:
    """The pauses of a program that keeps dying are Kubernetes' shape."""
    backoff = Backoff()
    pause = timedelta(0)
    seconds = []
    for _ in range(7):
        pause = backoff.after(pause, timedelta(seconds=1))
        seconds.append(pause.total_seconds())

    assert [0.5, 1, 2, 4, 8, 10, 10] == seconds


def test_a_long_run_is_forgiven() -> None:
    """A program that ran for long starts again at once, however often it died before."""
    backoff = Backoff()

    assert backoff.first == backoff.after(timedelta(seconds=8), timedelta(seconds=30))
