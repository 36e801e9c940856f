"""Pods, executors and clients around one database, all in virtual time.

Does not choose what happens; it does what it is told and judges how it ended.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import aclosing
from datetime import timedelta
from functools import partial
from typing import Any, TypeVar

from moorline.errors.v1 import errors_pb2
from moorline.session.v1 import agents_pb2, events_pb2
from moorline.transcript.v1 import transcript_pb2
from services.chassis.failures import Failure
from services.chassis.identity import act_as
from services.session.limits import Limits
from services.session.records import transcript_path
from services.session.transcripts.piece import read_piece
from tests.unit.session.fakes import FakeExecution, FakeExecutor
from tests.unit.session.log_writing import NAME
from tests.unit.session.machine.memory_store import MemoryDatabase, PodStore
from tests.unit.session.machine.pod import LEASE_SECONDS, Pod, PodClock, PodExecutors, leases
from tests.unit.session.machine.virtual_time import VirtualLoop
from tests.unit.session.machine.watcher import Watcher
from tests.unit.session.service import ADA, AGENT, CONTEXT, Service

T = TypeVar("T")

_CALL_SECONDS = 8.0
_LIMITS = Limits(
    gather=timedelta(milliseconds=50),
    linger=timedelta(seconds=2),
    lease=timedelta(seconds=LEASE_SECONDS),
)

_NEVER_FOLLOWING = frozenset(
    {
        errors_pb2.ERROR_REASON_INTERNAL,
        errors_pb2.ERROR_REASON_SEQUENCE_UNKNOWN,
        errors_pb2.ERROR_REASON_RESOURCE_NOT_FOUND,
    }
)
"""What nobody who follows the agent may ever be told: it is there, and forgets nothing."""


class World:
    """Two pods, two executors, one user's agent, and clients that never give up."""

    def __init__(self) -> None:
        self.loop = VirtualLoop()
        self.loop.context.run(act_as, ADA)
        self.database = MemoryDatabase(clock=self.loop.time)
        self.executors = [FakeExecutor(), FakeExecutor()]
        for executor in self.executors:
            executor.forgetful = True
        # What each execution has told of a transcript: conversation, number and entry.
        self.grown: dict[str, list[tuple[str, int, str]]] = {}
        self.pods: list[Pod] = []
        self.prompts: dict[str, str] = {}
        self.acknowledged: set[str] = set()
        self.problems: list[str] = []
        self._clients: list[asyncio.Task[None]] = []
        self._watches: list[tuple[Watcher, asyncio.Task[None]]] = []
        self._pods = 0
        for _ in range(2):
            self.start(self.new_address())
        self.loop.finish(self.call(lambda pod: pod.service.create_agent()), within=60)
        self.watch()

    # What may happen.

    def new_address(self) -> str:
        """Return an address that no pod had before."""
        self._pods += 1
        return f"pod-{self._pods}:7001"

    def start(self, address: str) -> None:
        """Start a pod."""
        self.loop.finish(self._start(address), within=60)

    async def _start(self, address: str) -> None:
        clock, store = PodClock(self.loop.time), PodStore(self.database)
        executors = PodExecutors(*self.executors)
        service = Service(
            store=store,
            executors=executors,
            limits=_LIMITS,
            ownership=lambda environment, metrics: leases(address, clock, environment, metrics),
            monotonic=clock,
        )
        self.pods.append(Pod(address, clock, store, executors, service))
        await service.__aenter__()

    def kill(self, pod: Pod) -> None:
        """End a pod without a word."""
        self.pods.remove(pod)
        pod.store.dead = True
        pod.executors.die()
        self._cut_watches()
        self.loop.finish(pod.service.__aexit__(None, None, None), within=60)

    def terminate(self, pod: Pod) -> None:
        """End a pod as a deploy does."""
        self.pods.remove(pod)
        self.loop.finish(pod.service.sessions.drain(), within=10)
        pod.service.watches.drain()
        self.loop.finish(pod.service.__aexit__(None, None, None), within=60)
        pod.store.dead = True
        pod.executors.die()

    def submit(self, turn_id: str, prompt: str) -> None:
        """Have a client create a turn, until it is acknowledged or refused."""
        self.prompts[turn_id] = prompt
        self._spawn(self._submit(turn_id, prompt))

    def cancel(self, turn_id: str) -> None:
        """Have a client cancel a turn."""
        self._spawn(self._quietly(lambda pod: pod.service.cancel_turn(turn_id)))

    def answer(self, turn_id: str, permission_id: str, *, allowed: bool) -> None:
        """Have a client answer a permission request."""
        self._spawn(
            self._quietly(
                lambda pod: pod.service.resolve(permission_id, allowed=allowed, turn_id=turn_id)
            )
        )

    def rename(self, name: str) -> None:
        """Have a client change a setting."""
        agent = agents_pb2.Agent(name=AGENT, display_name=name)
        request = agents_pb2.UpdateAgentRequest(agent=agent)
        request.update_mask.paths.append("display_name")
        self._spawn(self._quietly(lambda pod: pod.service.agents.UpdateAgent(request, CONTEXT)))

    def hand_over(self, pod: Pod) -> None:
        """Have a pod give the user to another one."""
        self.loop.act(lambda: pod.service.sessions.release("ada"))

    def grow(self, execution: FakeExecution) -> None:
        """Let an agent's own transcript grow."""
        number = len(execution.events) + 1
        entry = f"{execution.id} {number}"
        conversation = execution.asked.resume_from or execution.id
        execution.grow(entry, conversation=conversation)
        self.grown.setdefault(execution.id, []).append((conversation, number, entry))
        for executor in self.executors:
            if execution.id in executor.executions:
                executor.files.setdefault("", []).append(entry)

    def watch(self) -> None:
        """Have one more client follow the agent."""
        self._watches.append(self._following(Watcher()))

    def running(self) -> list[FakeExecution]:
        """Return the executions that have not ended."""
        return [
            execution
            for executor in self.executors
            for execution in executor.executions.values()
            if not ended(execution)
        ]

    # How it ends.

    def heal(self) -> None:
        """Undo every fault, and let every turn come to its end."""
        for executor in self.executors:
            executor.away = False
        for pod in self.pods:
            pod.clock.go()
            pod.store.cut = False
            pod.store.lose_answers = 0
            pod.store.delayed = 0
        usage = transcript_pb2.Usage(cost_usd_micros=7)
        for _ in range(90):
            for execution in self.running():
                self.loop.act(partial(execution.end, usage=usage))
            self.loop.advance(1)
            if all(client.done() for client in self._clients) and not self._unfinished():
                break
        self.loop.advance(3)

    def judge(self) -> list[str]:
        """Return what went wrong; nothing, if every promise was kept."""
        problems = list(self.problems)
        events = self.loop.finish(
            self.call(lambda pod: pod.service.list_events()), within=2 * _CALL_SECONDS
        )
        if [event.sequence for event in events] != list(range(1, len(events) + 1)):
            problems.append("the log has a hole")
        for turn_id, prompt in self.prompts.items():
            problems += self._judge_turn(turn_id, prompt, events)
        for turn_id in {event.turn_id for event in events if event.turn_id not in self.prompts}:
            problems += _judge_background(turn_id, events)
        problems += self._judge_transcript()
        problems += self._judge_usage(events)
        for watcher, _ in self._watches:
            problems += watcher.problems
            if watcher.events != events:
                problems.append(f"a client has {len(watcher.events)} of {len(events)} events")
        return problems + [f"{work} is left" for work in self._unfinished()]

    def close(self) -> None:
        """End everything."""
        for task in [*self._clients, *(task for _, task in self._watches)]:
            task.cancel()
        self.loop.advance(1)
        for pod in self.pods:
            pod.store.dead = True
            pod.executors.die()
            self.loop.finish(pod.service.__aexit__(None, None, None), within=60)
        self.loop.run_until_complete(self.loop.shutdown_asyncgens())
        self.loop.close()

    def _judge_turn(self, turn_id: str, prompt: str, events: list[events_pb2.Event]) -> list[str]:
        mine = [event.item for event in events if event.turn_id == turn_id]
        kinds = [item.WhichOneof("kind") for item in mine]
        problems = []
        if turn_id in self.acknowledged and not mine:
            problems.append(f"{turn_id} was acknowledged and is lost")
        if mine and (kinds[0] != "user_message" or mine[0].user_message.text != prompt):
            problems.append(f"{turn_id} has another prompt")
        if kinds.count("user_message") > 1:
            problems.append(f"{turn_id} was made twice")
        if mine and (kinds.count("turn_outcome") != 1 or kinds[-1] != "turn_outcome"):
            problems.append(f"{turn_id} has the outcomes {kinds}")
        called = False
        for kind in kinds:
            if kind == "turn_attempt" and called:
                problems.append(f"{turn_id} was repeated after a tool call")
            called = kind == "tool_call" or (called and kind != "turn_attempt")
        return problems

    def _judge_usage(self, events: list[events_pb2.Event]) -> list[str]:
        """Judge whether each outcome was counted once."""
        outcomes = [
            event.item.turn_outcome for event in events if event.item.HasField("turn_outcome")
        ]
        cost = sum(outcome.usage.cost_usd_micros for outcome in outcomes)
        agent = self.loop.finish(self.call(lambda pod: pod.service.get_agent()), within=60).usage
        month = self.loop.finish(self.call(lambda pod: pod.service.month()), within=60).total
        return [
            f"{len(outcomes)} turns cost {cost}, and {total.turns} turns {total.cost_usd_micros}"
            f" are counted in the {name}"
            for name, total in (("agent", agent), ("month", month))
            if (total.turns, total.cost_usd_micros) != (len(outcomes), cost)
        ]

    def _judge_transcript(self) -> list[str]:
        """Judge what is stored of the newest conversation."""
        pieces = [read_piece(one) for one in self.database.read(transcript_path(NAME))]
        stored = [
            entry
            for piece in pieces
            if piece.conversation == pieces[-1].conversation
            for part in piece.parts
            for entry in part.entries
        ]
        problems = []
        if [piece.number for piece in pieces] != sorted({piece.number for piece in pieces}):
            problems.append("pieces of the transcript are in disorder")
        for execution_id, grown in self.grown.items():
            mine = [entry for entry in stored if entry.startswith(f"{execution_id} ")]
            if mine != [entry for _, _, entry in grown][: len(mine)]:
                problems.append(f"the transcript has {mine} of {grown}")
            durable = max(one.acknowledged.get(execution_id, 0) for one in self.executors)
            for conversation, number, entry in grown:
                current = pieces and conversation == pieces[-1].conversation
                if current and number <= durable and entry not in mine:
                    problems.append(f"{entry} was acknowledged and is not stored")
        return problems

    def _unfinished(self) -> list[str]:
        return [path for path in self.database.documents if path.startswith("work/")]

    def _spawn(self, client: Coroutine[Any, Any, None]) -> None:
        self._clients.append(self.loop.begin(client))

    def _following(self, watcher: Watcher) -> tuple[Watcher, asyncio.Task[None]]:
        return watcher, self.loop.begin(self._follow(watcher))

    def _cut_watches(self) -> None:
        """Break every stream, those of living pods too: clients come back by themselves."""
        for _, task in self._watches:
            task.cancel()
        self.loop.advance(0.001)
        self._watches = [self._following(watcher) for watcher, _ in self._watches]

    async def _follow(self, watcher: Watcher) -> None:
        number = 0
        while True:
            number += 1
            if not self.pods:
                await asyncio.sleep(0.1)
                continue
            pod = self.pods[number % len(self.pods)]
            try:
                responses = pod.service.events.WatchEvents(watcher.begin(), CONTEXT)
                async with aclosing(responses):  # type: ignore[type-var]
                    async for response in responses:
                        for update in response.updates:
                            watcher.hear(update)
            except Failure as failure:
                if failure.reason in _NEVER_FOLLOWING:
                    self.problems.append(f"a client that follows was told {failure!r}")
            except asyncio.CancelledError:
                _pass_on()
            await asyncio.sleep(0.1)

    async def _submit(self, turn_id: str, prompt: str) -> None:
        try:
            turn = await self.call(lambda pod: pod.service.create_turn(turn_id, prompt))
        except Failure as failure:
            if failure.reason != errors_pb2.ERROR_REASON_QUEUE_FULL:
                self.problems.append(f"{turn_id} was refused: {failure!r}")
            return
        if turn.prompt.text != prompt:
            self.problems.append(f"{turn_id} was answered with another prompt")
        self.acknowledged.add(turn_id)

    async def _quietly(self, operation: Callable[[Pod], Awaitable[object]]) -> None:
        try:
            await self.call(operation)
        except Failure as failure:
            # Too late, or nothing to answer: both are right.
            if failure.reason == errors_pb2.ERROR_REASON_INTERNAL:
                self.problems.append(failure.message)

    async def call(self, operation: Callable[[Pod], Awaitable[T]]) -> T:
        """Call one pod after the other until one of them answers."""
        number = 0
        while True:
            number += 1
            if self.pods:
                try:
                    async with asyncio.timeout(_CALL_SECONDS):
                        return await operation(self.pods[number % len(self.pods)])
                except TimeoutError:
                    pass
                except Failure as failure:
                    if failure.retry_delay is None:
                        raise
                except asyncio.CancelledError:
                    _pass_on()
            await asyncio.sleep(0.1)


def _judge_background(turn_id: str, events: list[events_pb2.Event]) -> list[str]:
    kinds = [event.item.WhichOneof("kind") for event in events if event.turn_id == turn_id]
    good = (
        turn_id.startswith("background-")
        and kinds[0] == "background_work"
        and kinds.count("turn_outcome") == 1
        and kinds[-1] == "turn_outcome"
    )
    return [] if good else [f"{turn_id} is {kinds}"]


def ended(execution: FakeExecution) -> bool:
    """Tell whether an execution has its outcome."""
    return bool(execution.events) and execution.events[-1].item.HasField("turn_outcome")


def _pass_on() -> None:
    """Raise a cancel that was meant for the running task.

    Else the pod was ended that served its call, as a connection is reset.
    """
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError
