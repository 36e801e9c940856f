"""Planted bugs, each with a run that provokes it: the checker must find every one.

A bug is a few words replaced in a copy of the services, never in the product.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

from tests.nemesis import scripts
from tests.nemesis.cluster import ROOT, Shape
from tests.nemesis.copies import Replacement, copy_services
from tests.nemesis.run import Plan, Result, Run, run

_SETTLE_SECONDS = 12.0
_LISTING_SECONDS = 5.0
_SEED = 7
_TRIES = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Mutant:
    """A planted bug.

    Attributes:
        name: Short.
        bug: What is wrong.
        replacements: How.
        script: What provokes it.
        seconds: How long.
        lease_seconds: Of the cluster's leases.
        clocks: Pods whose clocks are wrong.
        agents: Agents of each user.
    """

    name: str
    bug: str
    replacements: tuple[Replacement, ...]
    script: Callable[[Run], Awaitable[None]]
    seconds: float = 10.0
    lease_seconds: float = 4.0
    clocks: tuple[tuple[str, str], ...] = ()
    agents: int = 4

    def plan(self, source: Path, seed: int) -> Plan:
        """The run that provokes it.

        Args:
            source: The copy with the bug.
            seed: Decides everything that is chosen.
        """
        return Plan(
            seconds=self.seconds,
            seed=seed,
            shape=Shape(lease_seconds=self.lease_seconds, source=source, clocks=dict(self.clocks)),
            users=4,
            agents=self.agents,
            script=self.script,
            settle=_SETTLE_SECONDS,
            listing=_LISTING_SECONDS,
        )


async def find(mutant: Mutant, folder: Path, *, source: Path = ROOT) -> Result:
    """Plant the bug in a copy and make its run; it was found if there is a violation.

    A bug needs its moment: a run in which that did not come is made again, with
    another seed, three times at most.
    """
    copy = copy_services(folder / "source", mutant.replacements, source=source)
    for seed in range(_SEED, _SEED + _TRIES):
        result = await run(mutant.plan(copy, seed), folder=folder / str(seed))
        if result.violations:
            break
    return result


MUTANTS = (
    Mutant(
        name="set-for-create",
        bug="A segment of the log overwrites the one that is there.",
        replacements=(
            Replacement(
                "services/session/stores/firestore_batch.py",
                "                self._set(write, pieces).current_document.exists = False\n",
                "                made = self._set(write, pieces)\n"
                '                if "/log/" not in path:\n'
                "                    made.current_document.exists = False\n",
            ),
        ),
        script=scripts.commit_late,
        seconds=28,
        lease_seconds=1,
        agents=8,
    ),
    Mutant(
        name="acknowledge-before-commit",
        bug="A turn is acknowledged before it is durable.",
        replacements=(
            Replacement(
                "services/session/agents.py",
                "            raise turn_exists(turn)\n        await self._recordings.wait(turn)\n",
                "            raise turn_exists(turn)\n",
            ),
        ),
        script=scripts.kill_while_the_store_hangs,
        agents=8,
    ),
    Mutant(
        name="no-nonce-check",
        bug="A commit whose condition fails is taken for one that was made before, unheard.",
        replacements=(
            Replacement(
                "services/session/stores/firestore_batch.py",
                "            if document.mark.nonce == self.nonce:\n",
                "            if document.mark.nonce:\n",
            ),
            Replacement(
                "services/session/stores/firestore_call.py",
                "        if not doubtful:\n            raise batch.conflict(documents)\n",
                "",
            ),
        ),
        script=scripts.commit_late,
        seconds=20,
        lease_seconds=1,
    ),
    Mutant(
        name="wall-clock-lease",
        bug="Whether a lease has expired is judged by the pod's own clock.",
        replacements=(
            Replacement(
                "services/session/ownership/leases.py",
                "        if document.read_time - document.update_time > ",
                "        import datetime\n\n"
                "        now = datetime.datetime.now(datetime.timezone.utc)\n"
                "        if now - document.update_time > ",
            ),
        ),
        script=scripts.kill_an_owner_for_good,
        seconds=6,
        clocks=(("session-1", "-1h"), ("session-2", "-1h")),
    ),
    Mutant(
        name="numbered-delta",
        bug="Text still being written gets numbers in the log.",
        replacements=(
            Replacement(
                "services/session/attempt.py",
                "                        timeline.extend("
                "delta.block_id, delta.text, thought=delta.thought)\n",
                "                        piece = transcript_pb2.AgentMessage(text=delta.text)\n"
                "                        item = transcript_pb2.Item(agent_message=piece)\n"
                "                        self._log.append(self._turn_id, [item])\n",
            ),
        ),
        script=scripts.peace,
        seconds=4,
    ),
    Mutant(
        name="publish-before-commit",
        bug="Events are shown before they are durable.",
        replacements=(
            Replacement(
                "services/session/log.py",
                "                batch = self._gather()\n",
                "                batch = self._gather()\n                self._publish(batch)\n",
            ),
            Replacement(
                "services/session/log.py",
                "                self._publish(batch)\n        finally:\n",
                "        finally:\n",
            ),
        ),
        script=scripts.kill_while_the_store_hangs,
    ),
    Mutant(
        name="resume-off-by-one",
        bug="Who comes back is shown the last event again.",
        replacements=(
            Replacement(
                "services/session/event_source.py",
                "        self._cursor = after_sequence\n",
                "        self._cursor = max(0, after_sequence - 1)\n",
            ),
        ),
        script=scripts.kill_sessions,
        seconds=8,
    ),
    Mutant(
        name="turn-not-taken-up",
        bug="The next owner does not go on with the turn that runs.",
        replacements=(
            Replacement(
                "services/session/turn_queue.py",
                "            self.run.resume(left.events, left.cursors)\n",
                "",
            ),
        ),
        script=scripts.kill_sessions,
    ),
    Mutant(
        name="tool-repeated",
        bug="A turn is attempted again although a tool may have run.",
        replacements=(
            Replacement(
                "services/session/turns.py",
                "        elif ran or failure.reason in UNHEARD:\n",
                "        elif failure.reason in UNHEARD:\n",
            ),
        ),
        script=scripts.kill_executors,
        seconds=12,
    ),
    Mutant(
        name="stream-shared",
        bug="Users whose agents have the same id share a stream.",
        replacements=(
            Replacement(
                "services/gateway/delivery.py",
                "        for source in self._sources.get(key, ()):\n"
                "            stream = source.stream\n"
                "            if isinstance(stream, EventStream) and ",
                "        for source in [one for all in self._sources.values() for one in all]:\n"
                "            stream = source.stream\n"
                '            last = source.key.parent.rpartition("/")[2]\n'
                '            if last != key.parent.rpartition("/")[2]:\n'
                "                continue\n"
                "            if isinstance(stream, EventStream) and ",
            ),
        ),
        script=scripts.peace,
        seconds=4,
    ),
    Mutant(
        name="owner-unchecked",
        bug="Whoever knows its name may read another's agent.",
        replacements=(
            Replacement(
                "services/session/events_api.py",
                "        require_owner(name, caller())\n\n        async def read(",
                "\n        async def read(",
            ),
        ),
        script=scripts.peace,
        seconds=8,
    ),
    Mutant(
        name="content-unchecked",
        bug="The id of a turn with another content is acknowledged.",
        replacements=(
            Replacement(
                "services/session/agents.py",
                "        if turn.prompt != prompt:\n            raise turn_exists(turn)\n",
                "",
            ),
        ),
        script=scripts.peace,
        seconds=8,
    ),
)
"""Every planted bug."""
