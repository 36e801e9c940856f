"""Tests of `services.executor.channels.process.tree`."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from services.executor.channels.process.tree import VARIABLE, Mark, Trees
from tests.unit.executor.process.running import runs

SLEEP = "import time; print('up', flush=True); time.sleep(600)"
INSTANCE = f"{os.getpid()}-tree-tests"
"""Of this run alone: what is marked is looked for on the whole machine."""
MARK = Mark(instance=INSTANCE, workspace="abc")


class Started:
    """Processes of a test; those that still run end with it."""

    def __init__(self) -> None:
        self.said: dict[int, str] = {}
        """First lines, by process."""
        self._all: list[subprocess.Popen[bytes]] = []

    def start(self, code: str, mark: Mark | None = None, *, session: bool = True) -> int:
        """Start a program, and return its process once it has said something."""
        process = subprocess.Popen(
            [sys.executable, "-c", code],
            env={"PATH": "/usr/bin:/bin"} if mark is None else {VARIABLE: str(mark)},
            stdout=subprocess.PIPE,
            start_new_session=session,
        )
        self._all.append(process)
        assert process.stdout is not None
        self.said[process.pid] = process.stdout.readline().decode()
        return process.pid

    def running(self) -> list[int]:
        """Return those that still run."""
        return [process.pid for process in self._all if process.poll() is None]

    def close(self) -> None:
        """End them all."""
        for process in self._all:
            process.kill()
            process.communicate()


@pytest.fixture
def started() -> Iterator[Started]:
    """Starts processes."""
    started = Started()
    yield started
    started.close()


def test_ends_what_is_marked_and_nothing_else(trees: Trees, started: Started) -> None:
    """Not another agent's, nor one of another executor, nor one whose name begins alike."""
    own = [started.start(SLEEP, MARK) for _ in range(2)]
    others = [
        started.start(SLEEP, Mark(instance, workspace))
        for instance, workspace in ((INSTANCE, "abcd"), ("other", "abc"), (INSTANCE, ""))
    ]
    others.append(started.start(SLEEP))
    before = started.running()

    assert 0 == trees.end(MARK, None)
    assert own + others == before
    assert others == started.running()


def test_ends_children_that_hide_their_mark(trees: Trees, started: Started) -> None:
    """By descent, whatever their environment and session are."""
    code = f"""
import subprocess, sys
child = subprocess.Popen([sys.executable, "-c", {SLEEP!r}], env={{}}, stdout=subprocess.PIPE,
    start_new_session=True)
child.stdout.readline()
print(child.pid, flush=True)
child.wait()
"""
    root = started.start(code, MARK)
    child = str(int(started.said[root]))
    before = runs(child)

    assert 0 == trees.end(MARK, root)
    assert [] == started.running()
    assert before
    assert not runs(child)


def test_ends_what_multiplies(trees: Trees, started: Started) -> None:
    """It cannot start others faster than it is found."""
    code = """
import os, time
print("up", flush=True)
for _ in range(8):
    os.fork()
    time.sleep(0.005)
time.sleep(60)
"""
    root = started.start(code, MARK)

    assert 0 == trees.end(MARK, root)
    assert [] == started.running()


def test_memory_counts_everything_of_an_agent(trees: Trees, started: Started) -> None:
    """None when there is nothing."""
    root = started.start(SLEEP, MARK)
    one = trees.memory(MARK, root)
    started.start(SLEEP, MARK)
    both = trees.memory(MARK, root)
    trees.end(MARK, root)

    assert one is not None
    assert both is not None
    assert 1 << 20 < one < both
    assert trees.memory(MARK, root) is None


def test_ends_what_an_executor_left_behind(trees: Trees, started: Started) -> None:
    """All of it, but for what is kept; counted by workspace."""
    left = [started.start(SLEEP, Mark(INSTANCE, name)) for name in ("a", "a", "b")]
    kept = started.start(SLEEP, Mark(INSTANCE, "kept"))
    other = started.start(SLEEP, Mark(INSTANCE.removesuffix("s"), "a"))

    assert {"a": 2, "b": 1} == trees.end_left(INSTANCE, {"kept"})
    assert [kept, other] == started.running()
    assert {} == trees.end_left(INSTANCE, {"kept"})
    assert left


def test_strays_are_children_nobody_waits_for(trees: Trees, started: Started) -> None:
    """Dead ones, and those that hide; not what we started and know, nor what an agent may have."""
    known = started.start(SLEEP, Mark(INSTANCE, "gone"))
    live = started.start(SLEEP, MARK)
    ours = started.start(SLEEP, session=False)
    hidden = started.start(SLEEP)
    dead = started.start("print(1)", MARK)
    while ") Z " not in Path(f"/proc/{dead}/stat").read_text():
        time.sleep(0.001)
    strays = trees.strays(INSTANCE, {known}, {MARK.workspace})

    assert {hidden, dead} == strays & {known, live, ours, hidden, dead}

    trees.bury({hidden, dead})
    deadline = time.monotonic() + 15
    while trees.strays(INSTANCE, {known}, {MARK.workspace}) & {hidden, dead}:
        trees.bury({hidden})
        assert time.monotonic() < deadline

    trees.bury({hidden, dead})


def test_orphans_come_to_whoever_inherits_them() -> None:
    """In a process of its own, because that cannot be undone."""
    code = f"""
import pathlib, subprocess, sys, time
sys.path.insert(0, {str(Path.cwd())!r})
from services.executor.channels.process.tree import Trees
trees = Trees(proc=pathlib.Path("/proc"))
assert trees.inherit_orphans()
middle = '''
import os, subprocess, sys
one = subprocess.Popen([sys.executable, "-c", {SLEEP!r}], env={{}}, stdout=-1,
    start_new_session=True)
one.stdout.readline()
print(one.pid, flush=True)
os._exit(0)
'''
told = subprocess.run([sys.executable, "-c", middle], stdout=-1)
orphan = int(told.stdout)
assert orphan in trees.strays("i", set(), set())
while trees.strays("i", set(), set()):
    trees.bury([orphan])
    time.sleep(0.001)
assert not pathlib.Path("/proc", str(orphan)).exists()
print("well")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)

    assert b"well\n" == done.stdout, done.stderr


def test_other_systems_know_the_group_only(
    tmp_path: Path, started: Started, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is found where there is nothing to look at, and nothing fails."""
    monkeypatch.setattr(sys, "platform", "darwin")
    elsewhere = Trees(proc=tmp_path / "none")
    root = started.start(SLEEP, MARK)
    elsewhere.end(MARK, root)

    assert not elsewhere.inherit_orphans()
    assert elsewhere.memory(MARK, root) is None
    assert {} == elsewhere.end_left(INSTANCE, ())
    assert set() == elsewhere.strays(INSTANCE, (), ())
    assert [] == [pid for pid in started.running() if os.waitpid(pid, 0)[1] != signal.SIGKILL]
