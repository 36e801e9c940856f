"""The process backend: agents as processes of this machine's user, for who trusts the machine.

Nothing keeps such an agent from what this user may do, which is why it has to be asked for.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import os
import re
import shutil
import signal
from collections.abc import Collection
from datetime import timedelta
from pathlib import Path

from moorline.diagnosis.v1 import diagnosis_pb2
from moorline.errors.v1 import errors_pb2
from services.chassis.failures import Failure
from services.chassis.tasks import Tasks
from services.executor.backend import Capabilities, Link, View
from services.executor.channel import Channel, Launch
from services.executor.channels import process as channels_process
from services.executor.channels.process.channel import ProcessChannel, Start
from services.executor.channels.process.tree import Mark, Trees
from services.executor.place import Place

log = logging.getLogger(__name__)

SHELL = Path(channels_process.__file__).with_name("shell.sh")
"""Runs an agent's shell commands."""
_BUNDLED = Path(__file__).parents[1] / "agent" / "node_modules" / "@anthropic-ai"
_VERSION_PATIENCE = timedelta(seconds=15)
"""For the program to tell its version; it is large, and may have to be read from a cold disk."""
_SWEEP_SECONDS = 10.0
_LOOK_AGAIN_SECONDS = 30.0
_VERSION = re.compile(rb"\d+\.\d+\.\d+")


class Process:
    """Runs agents as child processes.

    Args:
        allowed: Whether the operator trusts the agents with this user's rights.
        program: The agent's program; empty to look for it.
        version: Oldest version of it that will do.
        root: Directory of the workspaces; tells this executor's agents from those of others.
        path: Where agents find programs, as in PATH.
        shell_processes: Processes that an agent's shell commands may have.
        trees: Finds processes.
        tasks: Owner of the processes' tasks.
    """

    name = "process"
    capabilities = Capabilities(deltas=True, permissions=True, resume=True, durable_workspace=True)
    link = Link.TCP

    def __init__(
        self,
        *,
        allowed: bool,
        program: str,
        version: str,
        root: Path,
        path: str,
        shell_processes: int,
        trees: Trees,
        tasks: Tasks,
    ) -> None:
        self.unavailable = (
            "Switched off: MOORLINE_ALLOW_PROCESS=true lets agents run with all rights of the"
            " executor's own user."
        )
        self._allowed = allowed
        self._chosen = program
        self._version = version
        self._instance = hashlib.sha256(str(root.absolute()).encode()).hexdigest()[:16]
        self._path = path
        self._shell_processes = shell_processes
        self._trees = trees
        self._tasks = tasks
        self._program: Path | None = None
        self._found = ""
        self._roots: set[int] = set()
        self._live: dict[str, ProcessChannel] = {}

    async def probe(self) -> None:
        """Find the agent's program, unless the backend is switched off; called once at start.

        A missing program is a warning in the log and never a failure. It is looked for again now
        and then.
        """
        if not self._allowed:
            return
        self._tasks.spawn(self._guard(), name="process-guard")
        if self._trees.inherit_orphans():
            self._tasks.spawn(self._sweep(), name="process-sweep")
        self.unavailable = await self._problem()
        if self.unavailable:
            log.warning("process backend not available", extra={"problem": self.unavailable})
            self._tasks.spawn(self._look_again(), name="process-look-again")

    def check(self) -> diagnosis_pb2.Check:
        """Tell what `probe` has found, for a diagnosis."""
        check = diagnosis_pb2.Check(subject=diagnosis_pb2.Check.SUBJECT_PROGRAM)
        if not self._allowed:
            check.state = diagnosis_pb2.Check.STATE_UNUSED
            check.detail = self.unavailable
        elif self.unavailable:
            check.state = diagnosis_pb2.Check.STATE_FAILED
            check.detail = self.unavailable
            check.remedy = (
                "Run `make agent-cli`; or name another program in MOORLINE_AGENT_PROGRAM, and"
                " start the executor again."
            )
        else:
            check.state = diagnosis_pb2.Check.STATE_GOOD
            check.detail = f"The agent's program is {self._program}, version {self._found}."
        return check

    def view(self, place: Place) -> View:
        """Return the folders as they are: it is on this machine."""
        return View(
            files=str(place.files.absolute()),
            state=str(place.state.absolute()),
            run=str(place.run.absolute()),
        )

    def channel(self, launch: Launch) -> Channel:
        """Return a channel to a process not yet started.

        Raises:
            Failure: BACKEND_UNAVAILABLE.
        """
        place = launch.place
        if self._program is None or self.unavailable:
            raise Failure(
                errors_pb2.ERROR_REASON_BACKEND_UNAVAILABLE,
                f"Backend {self.name} cannot run {place.workspace}: {self.unavailable}",
                backend=self.name,
            )
        state = place.state.absolute()
        home, temporary = state / "home", state / "tmp"
        start = Start(
            mark=Mark(instance=self._instance, workspace=place.workspace),
            program=self._program,
            arguments=launch.argv[1:],
            environment={
                "PATH": self._path,
                # Its own, so that agents cannot meet in what they keep at home.
                "HOME": str(home),
                "TMPDIR": str(temporary),
                "CLAUDE_CODE_TMPDIR": str(temporary),
                "LANG": "C.UTF-8",
                "SHELL": "/bin/bash",
                "CLAUDE_CODE_SHELL_PREFIX": str(SHELL),
                "MOORLINE_SHELL_PROCESSES": str(self._shell_processes),
                **launch.environment,
            },
            directory=place.files.absolute(),
            folders=(home, temporary),
        )
        channel = ProcessChannel(
            start=start, trees=self._trees, tasks=self._tasks, roots=self._roots
        )
        self._live[place.workspace] = channel
        return channel

    async def survivors(self) -> Collection[str]:
        """Return none: a process dies with its executor, and `reap` ends what it has started."""
        return ()

    def adopt(self, place: Place) -> Channel:
        """Refuse: there are no survivors.

        Raises:
            Failure: EXECUTION_LOST.
        """
        raise Failure(
            errors_pb2.ERROR_REASON_EXECUTION_LOST,
            f"The agent process of workspace {place.workspace} ended with its executor.",
        )

    async def reap(self, keep: Collection[str]) -> None:
        """End what agents of executors that are gone have left behind, but for some workspaces."""
        left = await asyncio.to_thread(self._trees.end_left, self._instance, keep)
        for workspace, count in left.items():
            log.warning(
                "processes left behind ended", extra={"workspace": workspace, "count": count}
            )

    async def _guard(self) -> None:
        """Wait for the end of everything, and end what nobody has ended."""
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            await asyncio.gather(*(channel.kill() for channel in self._live.values()))

    async def _look_again(self) -> None:
        """Look for the program until it is there."""
        while self.unavailable:
            await asyncio.sleep(_LOOK_AGAIN_SECONDS)
            self.unavailable = await self._problem()
        log.info("process backend available")

    async def _sweep(self) -> None:
        """Wait for orphans that this process has inherited, and end those that hide."""
        suspects: set[int] = set()
        while True:
            await asyncio.sleep(_SWEEP_SECONDS)
            live = {name for name, channel in self._live.items() if not channel.gone}
            self._live = {name: self._live[name] for name in live}
            strays = await asyncio.to_thread(self._trees.strays, self._instance, self._roots, live)
            # Twice, because a process that is only just starting looks the same.
            self._trees.bury(strays & suspects)
            suspects = strays

    async def _problem(self) -> str:
        """Find the program; return what is wrong, empty for nothing."""
        program = _find(self._chosen, self._path)
        if program is None:
            where = f" at {self._chosen}" if self._chosen else ""
            return f"The agent's program is not installed{where}."
        self._found = await _ask_version(program)
        if not self._found:
            return f"The agent's program {program} does not tell its version."
        if _numbers(self._found) < _numbers(self._version):
            return (
                f"The agent's program {program} is version {self._found};"
                f" at least {self._version} is needed."
            )
        self._program = program
        return ""


def _find(chosen: str, path: str) -> Path | None:
    """Return the program's file: the chosen one, or else ours, or else that of the PATH."""
    if chosen:
        candidates = [chosen]
    else:
        candidates = [*map(str, sorted(_BUNDLED.glob("claude-code-*/claude"))), "claude"]
    for candidate in candidates:
        if found := shutil.which(candidate, path=path):
            return Path(found).absolute()
    return None


async def _ask_version(program: Path) -> str:
    """Return what `--version` prints; empty when it fails."""
    try:
        asked = await asyncio.create_subprocess_exec(
            program,
            "--version",
            env={"PATH": os.defpath, "DISABLE_AUTOUPDATER": "1"},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            start_new_session=True,
        )
    except OSError:
        return ""
    try:
        async with asyncio.timeout(_VERSION_PATIENCE.total_seconds()):
            printed, _ = await asked.communicate()
    except TimeoutError:
        return ""
    finally:
        if asked.returncode is None:
            # With what it started, which would keep the pipe open.
            os.killpg(asked.pid, signal.SIGKILL)
            await asked.communicate()
    found = _VERSION.search(printed)
    return found.group().decode() if found else ""


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(map(int, version.split(".")))
