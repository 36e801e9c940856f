"""Points in the life of a turn at which a process dies: the steps of the delivery table.

They are put into a copy of the services. A point is armed by a file that names who
dies; the first process that comes by takes the file away and kills.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tests.nemesis.cluster import ROOT
from tests.nemesis.copies import Replacement, copy_services
from tests.nemesis.pods import Pod

FOLDER = "NEMESIS_FAILPOINTS"
"""Variable that says where the files are."""

_MODULE = '''\
"""Kills at a point that is armed; in copies for the kill matrix only."""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

_FOLDER = Path(os.environ["NEMESIS_FAILPOINTS"])
_STEPS = {
    "userMessage": "4",
    "permissionRequest": "11",
    "permissionDecision": "11",
    "turnAttempt": "12",
    "turnOutcome": "13",
}


def fail_at(point: str) -> None:
    """Kill whom the point's file names, once."""
    fired = _FOLDER / f"{point}.fired"
    try:
        (_FOLDER / point).rename(fired)
    except FileNotFoundError:
        return
    victim = fired.read_text()
    pids = (_FOLDER / f"{victim}.pids").read_text().split() if victim != "self" else [os.getpid()]
    for pid in pids:
        os.kill(int(pid), signal.SIGKILL)


def fail_at_commit(events: Sequence[Mapping[str, Any]], when: str) -> None:
    """Fail before or after the commit of the step that these events belong to."""
    for event in events:
        step = _STEPS.get(next(iter(event["item"])), "10")
        fail_at(f"{step}-{when}")
'''


def _point(file: str, line: str, code: str, *, after: bool = False) -> Replacement:
    """Put code before or after a line, which is given with its indentation."""
    indent = line[: len(line) - len(line.lstrip())]
    words = f"{indent}from services.chassis import failpoint\n{indent}{code}\n"
    return Replacement(file, f"{line}\n", f"{line}\n{words}" if after else f"{words}{line}\n")


REPLACEMENTS = (
    _point(
        "services/gateway/connection.py",
        "                call = CALLS[frame.name]",
        'failpoint.fail_at("1") if frame.name == "create_turn" else None',
    ),
    _point(
        "services/session/turns_api.py",
        '        check_turn_id("turn_id", request.turn_id)',
        'failpoint.fail_at("2")',
    ),
    _point(
        "services/session/turn_queue.py",
        "        limit = self._environment.limits.queued_turns",
        'failpoint.fail_at("3")',
    ),
    _point(
        "services/session/commits.py",
        "                committed = await self._store.commit(writes)",
        'failpoint.fail_at_commit(segment.events, "before")',
    ),
    _point(
        "services/session/commits.py",
        "            self._clock.observe(committed.time)",
        'failpoint.fail_at_commit(segment.events, "after")',
    ),
    _point(
        "services/session/turns_api.py",
        "        return turns_pb2.CreateTurnResponse(turn=turn.message())",
        'failpoint.fail_at("5")',
    ),
    _point(
        "services/session/executors/placement.py",
        "            await self._executors.create("
        "address, self._turn.execution, self._execution(left))",
        'failpoint.fail_at("6")',
    ),
    _point(
        "services/executor/executions.py",
        '        self._provisions.tasks.spawn(execution.run(), name="execution")',
        'failpoint.fail_at("7")',
        after=True,
    ),
    _point(
        "services/executor/book.py",
        '        kind = item.WhichOneof("kind")',
        'failpoint.fail_at("8")',
    ),
    _point(
        "services/session/attempt.py",
        "                    delta = update.delta",
        'failpoint.fail_at("9")',
    ),
    _point(
        "services/session/turn_queue.py",
        "        turn = self._waiting.pop(0)",
        'failpoint.fail_at("14")',
    ),
)
"""Where the points are."""

SAY, TOOL, ASK = "say", "tool", "ask"

PROMPTS = {
    SAY: "/sim say one\n/sim stream 12 50\n/sim say two",
    TOOL: "/sim say one\n/sim write {turn}.0 x\n/sim stream 12 50\n/sim say two",
    ASK: "/sim ask Bash x\n/sim stream 6 50\n/sim say two",
}


@dataclass(frozen=True, slots=True)
class Cell:
    """One cell of the matrix.

    Attributes:
        point: Where somebody dies, for example `4-before`.
        victim: The service that dies there.
        prompt: What the turn does, a key of `PROMPTS`.
        queued: True when the turn waits for another one first.
        executor_first: True when the executor has to die first, at step 9, for the
            point to be reached.
        states: How the turn may end.
        attempts: How many attempts there may be at most.
    """

    point: str
    victim: str
    prompt: str = SAY
    queued: bool = False
    executor_first: bool = False
    states: frozenset[str] = frozenset({"FINISHED"})
    attempts: int = 1

    @property
    def name(self) -> str:
        """For people, and as part of the agent's name."""
        return f"{self.point}-{self.victim}"


_HOME = {"1": "gateway", "7": "executor", "8": "executor"}
"""Which service comes by at a point; the session service at all others."""

_POINTS = (
    "1",
    "2",
    "3",
    "4-before",
    "4-after",
    "5",
    "6",
    "7",
    "8",
    "9",
    "10-before",
    "10-after",
    "11-before",
    "11-after",
    "12-before",
    "12-after",
    "13-before",
    "13-after",
    "14",
)
_BEFORE_THE_EXECUTION = ("1", "2", "3", "4", "5", "6", "12", "14")


def matrix() -> list[Cell]:
    """Every service at every point."""
    return [
        _cell(point, victim) for point in _POINTS for victim in ("gateway", "session", "executor")
    ]


def _cell(point: str, victim: str) -> Cell:
    """What a client sees when one dies there, by the delivery table."""
    step = point.partition("-")[0]
    prompt = {"10": TOOL, "11": ASK}.get(step, SAY)
    states, attempts = {"FINISHED"}, 1
    if victim == "executor" and step != "13":
        attempts = 2
        if prompt != SAY:
            # Its tool call is durable, and may have been made; or was allowed when it was gone.
            states = {"FINISHED", "LOST"}
    elif victim == "session" and step in _BEFORE_THE_EXECUTION:
        # Recorded, and perhaps not begun: whoever takes over looks, and begins it.
        attempts = 2
    if step == "12":
        # The executor has died before.
        attempts += 1
    return Cell(
        point=point,
        victim=victim,
        prompt=prompt,
        queued=step == "14",
        executor_first=step == "12",
        states=frozenset(states),
        attempts=attempts,
    )


def copy_with_failpoints(to: Path, *, source: Path = ROOT) -> Path:
    """Copy the services, with every point in its place."""
    added = {"services/chassis/failpoint.py": _MODULE}
    return copy_services(to, REPLACEMENTS, added=added, source=source)


class Failpoints:
    """Arms points, and tells which was reached.

    Args:
        folder: Where the files are; made when it is missing.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder

    def arm(self, point: str, victim: str) -> None:
        """Let a service die when the point is reached next.

        The process that reaches it, if it is that service's; else all of them.
        """
        home = _HOME.get(point, "session")
        (self.folder / f"{point}.new").write_text("self" if victim == home else victim)
        (self.folder / f"{point}.new").rename(self.folder / point)

    def fired(self, point: str) -> bool:
        """Tell whether it was reached, and take it away."""
        fired = self.folder / f"{point}.fired"
        found = fired.exists()
        fired.unlink(missing_ok=True)
        return found

    def disarm(self, point: str) -> None:
        """Take a point away that was not reached."""
        (self.folder / point).unlink(missing_ok=True)

    def know(self, pods: list[Pod]) -> None:
        """Tell which processes there are now."""
        for service in ("gateway", "session", "executor"):
            pids = [str(pod.pid) for pod in pods if pod.service == service and pod.pid]
            (self.folder / f"{service}.pids").write_text(" ".join(pids))
