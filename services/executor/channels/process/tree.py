"""The processes of an agent, found and ended. Does not know what they do.

A tool that an agent starts leads a session of its own, and lives on as somebody else's child
when the agent dies. So everything is found by a variable that each process inherits, by descent,
and by session. Where there is no /proc, only the group of the agent's own process is known.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

VARIABLE = "MOORLINE_AGENT"
"""Tells whose a process is."""

_SET_CHILD_SUBREAPER = 36
"""PR_SET_CHILD_SUBREAPER of prctl(2)."""
_PATIENCE_SECONDS = 10.0
"""For processes to be gone once they are killed."""
_PAUSE_SECONDS = 0.005
_PAGE = os.sysconf("SC_PAGE_SIZE")
_ZOMBIE = b"Z"


@dataclass(frozen=True, slots=True)
class Mark:
    """Whose processes are meant.

    Attributes:
        instance: The executor, the same after a restart, unlike any other on this machine.
        workspace: The agent's workspace.
    """

    instance: str
    workspace: str

    def __str__(self) -> str:
        return f"{self.instance}/{self.workspace}"


@dataclass(frozen=True, slots=True)
class _Stat:
    """What the kernel tells about one process."""

    state: bytes
    parent: int
    session: int
    pages: int


_Belongs = Callable[[int, _Stat], bool]
"""Tells whether a process is one of those that are meant."""


class Trees:
    """Finds and ends processes. Its methods take milliseconds, and block.

    Args:
        proc: Where the kernel tells about processes; a folder that is missing is fine.
    """

    def __init__(self, *, proc: Path) -> None:
        self._proc = proc

    def inherit_orphans(self) -> bool:
        """Become the parent of what agents leave behind, so that nothing of it gets out of sight.

        Returns:
            Whether the system can do that; then somebody has to wait for `strays`.
        """
        if sys.platform != "linux":
            return False
        prctl: Callable[..., int] = ctypes.CDLL(None).prctl
        return prctl(_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0

    def memory(self, mark: Mark, root: int) -> int | None:
        """Return the bytes that an agent's processes take; None when there are none.

        Args:
            mark: Whose.
            root: The agent's own process.
        """
        wanted, heirs = str(mark), (os.getpid(), 1)

        def belongs(pid: int, stat: _Stat) -> bool:
            # It is asked often: only orphans are looked at closely.
            return root in (pid, stat.session) or (
                stat.parent in heirs and self._marked(pid) == wanted
            )

        members = self._members(belongs)
        return sum(stat.pages for stat in members.values()) * _PAGE if members else None

    def end(self, mark: Mark, root: int | None) -> int:
        """Kill an agent's processes, and those they start meanwhile.

        Args:
            mark: Whose.
            root: The agent's own process, when it is known.

        Returns:
            How many do not end.
        """
        if root is not None and not self._proc.is_dir():
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(root, signal.SIGKILL)
        return self._end(self._of(mark, root))

    def end_left(self, instance: str, keep: Collection[str]) -> Mapping[str, int]:
        """Kill what executors that are gone have left behind.

        Args:
            instance: The executor.
            keep: Workspaces whose processes live on.

        Returns:
            How many processes there were for each workspace.
        """
        found: dict[str, set[int]] = {}

        def left(pid: int, _stat: _Stat) -> bool:
            owner, _, workspace = self._marked(pid).partition("/")
            if owner != instance or workspace in keep:
                return False
            found.setdefault(workspace, set()).add(pid)
            return True

        self._end(left)
        return {workspace: len(pids) for workspace, pids in found.items()}

    def strays(self, instance: str, roots: Collection[int], live: Collection[str]) -> set[int]:
        """Return children of this process that nobody waits for.

        Where this process inherits the orphans of its agents, it has to wait for them, and
        those that hide whose they are must not stay.

        Args:
            instance: This executor.
            roots: Processes that somebody waits for.
            live: Workspaces whose processes may live.
        """
        own, session = os.getpid(), os.getsid(0)
        found: set[int] = set()
        for pid, stat in self._stats():
            # Whatever else this process starts stays in its session.
            if stat.parent == own and stat.session != session and pid not in roots:
                owner, _, workspace = self._marked(pid).partition("/")
                if stat.state == _ZOMBIE or owner != instance or workspace not in live:
                    found.add(pid)
        return found

    def bury(self, strays: Iterable[int]) -> None:
        """End strays, and wait for those that are dead."""
        for pid in strays:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)

    def _end(self, belongs: _Belongs) -> int:
        """Kill processes, and those they start meanwhile; return how many do not end."""
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while stopped := self._stop(belongs, deadline):
            _signal(stopped, signal.SIGKILL)
            if time.monotonic() > deadline:
                return len(stopped)
            time.sleep(_PAUSE_SECONDS)
        return 0

    def _stop(self, belongs: _Belongs, deadline: float) -> set[int]:
        """Stop processes until no other one is found, and return them.

        Those that are stopped start no others, and do not die, so that their children are still
        known by their parents.
        """
        stopped: set[int] = set()

        def known(pid: int, stat: _Stat) -> bool:
            if pid in stopped:
                return True
            if belongs(pid, stat):
                # At once, before the others are looked at: it may multiply.
                _signal((pid,), signal.SIGSTOP)
                return True
            return False

        while new := set(self._members(known)) - stopped:
            _signal(new, signal.SIGSTOP)
            stopped |= new
            if time.monotonic() > deadline:
                break
        return stopped

    def _of(self, mark: Mark, root: int | None) -> _Belongs:
        """Return what tells an agent's processes from others, but for what hides."""
        wanted = str(mark)
        return lambda pid, stat: root in (pid, stat.session) or self._marked(pid) == wanted

    def _members(self, belongs: _Belongs) -> dict[int, _Stat]:
        """Return the processes that belong somewhere, and what they have started."""
        stats: dict[int, _Stat] = {}
        children: dict[int, list[int]] = {}
        members: set[int] = set()
        for pid, stat in self._running():
            stats[pid] = stat
            children.setdefault(stat.parent, []).append(pid)
            if belongs(pid, stat):
                members.add(pid)
        new = list(members)
        while new:
            found = [pid for pid in children.get(new.pop(), ()) if pid not in members]
            members.update(found)
            new += found
        return {pid: stats[pid] for pid in members}

    def _running(self) -> Iterator[tuple[int, _Stat]]:
        """Look at all processes that run, but for this one."""
        own = os.getpid()
        for pid, stat in self._stats():
            if stat.state != _ZOMBIE and pid != own:
                yield pid, stat

    def _stats(self) -> Iterator[tuple[int, _Stat]]:
        for pid in self._pids():
            try:
                text = (self._proc / str(pid) / "stat").read_bytes()
            except OSError:
                continue
            # The name in between may contain anything.
            words = text[text.rindex(b")") + 2 :].split()
            yield pid, _Stat(words[0], int(words[1]), int(words[3]), int(words[21]))

    def _marked(self, pid: int) -> str:
        """Return whose a process is, as its environment says; empty when it does not."""
        try:
            variables = (self._proc / str(pid) / "environ").read_bytes().split(b"\0")
        except OSError:
            return ""
        name = f"{VARIABLE}=".encode()
        found = (one for one in variables if one.startswith(name))
        return next(found, name).removeprefix(name).decode(errors="replace")

    def _pids(self) -> Iterator[int]:
        with contextlib.suppress(FileNotFoundError):
            for name in os.listdir(self._proc):  # noqa: PTH208 - hundreds of paths are not needed
                if name.isdecimal():
                    yield int(name)


def _signal(pids: Iterable[int], number: int) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, number)
