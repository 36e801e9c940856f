"""Tests of `services.executor.backends.process`."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest

from moorline.diagnosis.v1 import diagnosis_pb2
from services.chassis.failures import Failure
from services.chassis.tasks import Tasks
from services.executor.backend import Link
from services.executor.backends import process as backends
from services.executor.backends.process import Process
from services.executor.channel import ExitReason, Launch
from services.executor.channels.process.tree import Trees
from services.executor.place import Place
from services.executor.workspaces import Workspaces
from tests.unit.executor.fakes import until
from tests.unit.executor.process.running import Heard, alive

PROGRAM = """#!/bin/sh
if [ "$1" = --version ]; then echo '2.1.330 (Claude Code)'; exit; fi
env; pwd; echo "$@"
$CLAUDE_CODE_SHELL_PREFIX 'ulimit -u; echo "$0 $PWD"'
read line
"""


@pytest.fixture
async def tasks() -> AsyncIterator[Tasks]:
    """The owner of a test's tasks."""
    async with Tasks() as tasks:
        yield tasks


@pytest.fixture
def program(tmp_path: Path) -> Path:
    """An agent's program."""
    folder = tmp_path / "bin"
    folder.mkdir()
    return write(folder / "claude", PROGRAM)


@pytest.fixture
async def place(tmp_path: Path) -> Place:
    """What an agent has."""
    return await Workspaces(root=tmp_path / "workspaces").make("abcdefgh")


def write(file: Path, text: str) -> Path:
    """Write a program."""
    file.write_text(text)
    file.chmod(0o700)
    return file


class Orphanage(Trees):
    """Inherits nothing, which could not be undone, and finds strays that the test says."""

    def __init__(self) -> None:
        super().__init__(proc=Path("/proc"))
        self.found: list[set[int]] = []
        self.live: list[set[str]] = []
        self.buried: set[int] = set()

    def inherit_orphans(self) -> bool:
        """Inherit in words."""
        return True

    def strays(self, instance: str, roots: object, live: object) -> set[int]:
        """Find the next strays."""
        assert isinstance(live, set)
        self.live.append(live)
        return self.found.pop(0) if self.found else set()

    def bury(self, strays: object) -> None:
        """Note who was buried."""
        assert isinstance(strays, set)
        self.buried |= strays


def make(root: Path, tasks: Tasks, program: str = "", **changed: object) -> Process:
    """Return the backend."""
    settings: dict[str, object] = {
        "allowed": True,
        "program": program,
        "version": "2.1.330",
        "root": root / "workspaces",
        "path": f"{root / 'bin'}:{os.defpath}",
        "shell_processes": 50,
        "trees": Orphanage(),
        "tasks": tasks,
    }
    return Process(**{**settings, **changed})  # type: ignore[arg-type]


def launch(place: Place, **variables: str) -> Launch:
    """Return what to start."""
    argv = ("claude", "-p", "--verbose")
    return Launch(place=place, tenant="", argv=argv, environment=variables)


async def test_is_off_unless_it_is_allowed(tmp_path: Path, tasks: Tasks, place: Place) -> None:
    """The reason says what to set and what that means; the program is not even looked for."""
    backend = make(tmp_path, tasks, allowed=False, program="/none")
    await backend.probe()
    with pytest.raises(Failure) as caught:
        backend.channel(launch(place))

    assert "MOORLINE_ALLOW_PROCESS=true" in backend.unavailable
    assert "BACKEND_UNAVAILABLE" == caught.value.reason_name
    assert diagnosis_pb2.Check.STATE_UNUSED == backend.check().state


@pytest.mark.parametrize("how", ["path", "chosen", "bundled"])
async def test_program_is_found(
    tmp_path: Path,
    tasks: Tasks,
    program: Path,
    how: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Where the operator says, else where `make agent-cli` puts it, else in the path."""
    bundled = tmp_path / "bundled"
    monkeypatch.setattr(backends, "_BUNDLED", bundled)
    expected = program
    if how == "bundled":
        (bundled / "claude-code-linux-x64").mkdir(parents=True)
        expected = write(bundled / "claude-code-linux-x64" / "claude", PROGRAM)
    backend = make(tmp_path, tasks, program=str(program) if how == "chosen" else "")
    await backend.probe()
    check = backend.check()

    assert "" == backend.unavailable
    assert [] == caplog.messages
    assert diagnosis_pb2.Check.STATE_GOOD == check.state
    assert f"{expected}, version 2.1.330" in check.detail


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (None, "is not installed at"),
        ("#!/bin/sh\nexit 1", "does not tell its version"),
        ("#!/nowhere", "does not tell its version"),
        ("#!/bin/sh\necho 2.1.329", "version 2.1.329; at least 2.1.330 is needed"),
        ("#!/bin/sh\necho 1.99.999", "at least 2.1.330"),
    ],
)
async def test_unusable_program_is_told(
    tmp_path: Path,
    tasks: Tasks,
    caplog: pytest.LogCaptureFixture,
    text: str | None,
    words: str,
) -> None:
    """With how to mend it; the executor starts all the same."""
    file = tmp_path / "program"
    if text is not None:
        write(file, text)
    backend = make(tmp_path, tasks, program=str(file))
    await backend.probe()
    check = backend.check()

    assert words in backend.unavailable
    assert ["process backend not available"] == caplog.messages
    assert diagnosis_pb2.Check.STATE_FAILED == check.state
    assert "make agent-cli" in check.remedy


async def test_program_that_hangs_is_told(
    tmp_path: Path, tasks: Tasks, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The start does not wait for it."""
    monkeypatch.setattr(backends, "_VERSION_PATIENCE", timedelta(seconds=0.3))
    file = write(tmp_path / "program", "#!/bin/sh\nsleep 60")
    backend = make(tmp_path, tasks, program=str(file))
    await backend.probe()

    assert "does not tell its version" in backend.unavailable
    assert diagnosis_pb2.Check.STATE_FAILED == backend.check().state


async def test_no_program_anywhere_is_told(
    tmp_path: Path, tasks: Tasks, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a place, as there is none."""
    monkeypatch.setattr(backends, "_BUNDLED", tmp_path / "none")
    backend = make(tmp_path, tasks, path=str(tmp_path))
    await backend.probe()

    assert "The agent's program is not installed." == backend.unavailable


async def test_program_that_comes_later_is_found(
    tmp_path: Path, tasks: Tasks, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody has to start the executor again."""
    monkeypatch.setattr(backends, "_LOOK_AGAIN_SECONDS", 0.01)
    file = tmp_path / "program"
    backend = make(tmp_path, tasks, program=str(file))
    await backend.probe()
    before = backend.unavailable
    write(file, PROGRAM)
    await until(lambda: not backend.unavailable)

    assert "is not installed" in before


async def test_newer_program_will_do(tmp_path: Path, tasks: Tasks) -> None:
    """Numbers are compared as numbers."""
    file = write(tmp_path / "program", "#!/bin/sh\necho 2.10.4")
    backend = make(tmp_path, tasks, program=str(file))
    await backend.probe()

    assert "" == backend.unavailable


async def test_agent_has_a_home_of_its_own(
    tmp_path: Path, tasks: Tasks, program: Path, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it is told, what it needs, and nothing of ours; its commands have a limit."""
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-ours")
    backend = make(tmp_path, tasks, program=str(program), trees=Trees(proc=Path("/proc")))
    backend._program, backend.unavailable = program, ""
    heard = Heard()
    channel = backend.channel(launch(place, ANTHROPIC_AUTH_TOKEN="t", HOME="/chosen"))
    await channel.open(heard)
    await channel.close_input()
    await heard.end()
    printed = [line.decode() for line in heard.lines]
    told = dict(line.split("=", 1) for line in printed if "=" in line)
    limit = next(line for line in printed if line.isdecimal())

    assert ("t", "/chosen") == (told["ANTHROPIC_AUTH_TOKEN"], told["HOME"])
    assert str(place.state / "tmp") == told["TMPDIR"]
    assert (place.state / "home").is_dir()
    assert "ANTHROPIC_API_KEY" not in told
    assert str(place.files) in printed
    assert "-p --verbose" in printed
    assert 50 < int(limit) < 50 + (1 << 15)


async def test_view_is_what_is_there(tmp_path: Path, tasks: Tasks, place: Place) -> None:
    """It is on this machine; it reaches the model by TCP, and leaves nobody to be adopted."""
    backend = make(tmp_path, tasks)
    view = backend.view(place)
    with pytest.raises(Failure) as caught:
        backend.adopt(place)

    assert (str(place.files), str(place.state), str(place.run)) == (
        view.files,
        view.state,
        view.run,
    )
    assert Link.TCP is backend.link
    assert [] == list(await backend.survivors())
    assert "EXECUTION_LOST" == caught.value.reason_name


async def test_next_executor_ends_what_the_last_one_left(
    tmp_path: Path, tasks: Tasks, place: Place, pids: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A tool of an agent whose executor was killed; it is told by workspace."""
    program = write(
        tmp_path / "program",
        f"""#!/bin/sh
if [ "$1" = --version ]; then echo 2.1.330; exit; fi
setsid sh -c 'touch {pids}/$$; echo up; exec sleep 600' &
sleep 600
""",
    )
    code = f"""
import asyncio, pathlib, sys
sys.path.insert(0, {str(Path.cwd())!r})
from services.chassis.tasks import Tasks
from services.executor.workspaces import Workspaces
from tests.unit.executor.process.running import Heard
from tests.unit.executor.process.test_backend import launch, make
async def main():
    root = pathlib.Path({str(tmp_path)!r})
    async with Tasks() as tasks:
        backend = make(root, tasks, program={str(program)!r})
        await backend.probe()
        place = Workspaces(root=root / "workspaces").place("abcdefgh")
        heard = Heard()
        await backend.channel(launch(place)).open(heard)
        await heard.until(1)
        print("up", flush=True)
        await asyncio.sleep(600)
asyncio.run(main())
"""
    executor = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", code), stdout=asyncio.subprocess.PIPE
    )
    assert executor.stdout is not None
    await executor.stdout.readline()
    executor.kill()
    await executor.wait()
    before = alive(pids)
    await make(tmp_path / "elsewhere", tasks).reap(())
    await make(tmp_path, tasks).reap({"abcdefgh"})
    spared = alive(pids)
    await make(tmp_path, tasks).reap(())

    assert 1 == len(before)
    assert before == spared
    assert [] == alive(pids)
    assert ["processes left behind ended"] == caplog.messages
    assert place.workspace == caplog.records[0].__dict__["workspace"]


async def test_strays_are_buried_when_they_stay(
    tmp_path: Path, tasks: Tasks, program: Path, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Seen once, a process may be one that is only just starting."""
    monkeypatch.setattr(backends, "_SWEEP_SECONDS", 0.01)
    orphanage = Orphanage()
    orphanage.found = [{1, 2}, {2, 3}, {3, 4}]
    backend = make(tmp_path, tasks, program=str(program), trees=orphanage)
    await backend.probe()
    channel = backend.channel(launch(place))
    await channel.open(Heard())
    await until(lambda: orphanage.live[-1:] == [{place.workspace}])
    # What was found last is judged before the next look but one.
    await until(lambda: len(orphanage.live) > 4)
    await channel.kill()
    await until(lambda: orphanage.live[-1] == set())

    assert {2, 3} == orphanage.buried


async def test_nothing_outlives_the_backend(
    tmp_path: Path, program: Path, place: Place, pids: Path
) -> None:
    """When its tasks end, so do agents that nobody has ended."""
    write(program, f"#!/bin/sh\n[ $1 = --version ] && exec echo 2.1.330\ntouch {pids}/$$\nread x")
    heard = Heard()
    async with Tasks() as tasks:
        trees = Orphanage()
        backend = make(tmp_path, tasks, program=str(program), trees=trees)
        await backend.probe()
        channel = backend.channel(launch(place))
        await channel.open(heard)
        await until(lambda: alive(pids))

    assert [] == alive(pids)
    assert (await channel.wait()).reason is ExitReason.KILLED
