"""The session logic under any order of events: what is promised holds in the end."""

from __future__ import annotations

import functools

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule

from moorline.executor.v1 import executions_pb2
from moorline.transcript.v1 import transcript_pb2
from tests.unit.session.fakes import FakeExecution
from tests.unit.session.machine.pod import Pod
from tests.unit.session.machine.world import World, ended

TURNS = st.integers(0, 5).map("turn-{}".format)
ACTIONS = ("say", "complete", "discard", "call_tool", "ask", "grow", "spend", "leave", "end")


class SessionMachine(RuleBasedStateMachine):
    """Clients, agents and faults, in any order; then everything heals."""

    def __init__(self) -> None:
        super().__init__()
        self.world = World()

    @rule(turn=TURNS)
    def create(self, turn: str) -> None:
        """A client sends a prompt, perhaps once more."""
        self.world.submit(turn, f"prompt of {turn}")

    @rule(turn=TURNS, entries=st.integers(1, 3), end=st.sampled_from(("", "leave", "end")))
    def converse(self, turn: str, entries: int, end: str) -> None:
        """A turn runs, and its agent's transcript grows."""
        self.world.submit(turn, f"prompt of {turn}")
        self.world.loop.advance(0.5)
        for execution in self.world.running():
            for action in [*["grow"] * entries, *[end] * bool(end)]:
                self.world.loop.act(functools.partial(_act, self.world, execution, action))
        self.world.loop.advance(0.5)

    @rule(turn=TURNS)
    def cancel(self, turn: str) -> None:
        """A client cancels a turn, perhaps one that does not exist."""
        self.world.cancel(turn)

    @rule(turn=TURNS, allowed=st.booleans())
    def answer(self, turn: str, allowed: bool) -> None:
        """A client answers a request, perhaps one that nobody made."""
        self.world.answer(turn, "p1", allowed=allowed)

    @rule()
    def watch(self) -> None:
        """Another client begins to follow."""
        self.world.watch()

    @precondition(lambda self: self.world.running())
    @rule(data=st.data(), action=st.sampled_from(ACTIONS))
    def act(self, data: st.DataObject, action: str) -> None:
        """An agent does something."""
        execution = data.draw(st.sampled_from(self.world.running()))
        self.world.loop.act(lambda: _act(self.world, execution, action))

    @precondition(lambda self: self.world.pods)
    @rule(data=st.data(), same=st.booleans())
    def kill(self, data: st.DataObject, same: bool) -> None:
        """A pod dies, and another starts, perhaps at its address."""
        pod = self._pod(data)
        self.world.kill(pod)
        self.world.start(pod.address if same else self.world.new_address())

    @precondition(lambda self: self.world.pods)
    @rule(data=st.data())
    def terminate(self, data: st.DataObject) -> None:
        """A pod is replaced in order."""
        self.world.terminate(self._pod(data))
        self.world.start(self.world.new_address())

    @precondition(lambda self: self.world.pods)
    @rule(data=st.data())
    def cut(self, data: st.DataObject) -> None:
        """A pod is cut off from the database, or reaches it again."""
        pod = self._pod(data)
        pod.store.cut = not pod.store.cut

    @precondition(lambda self: self.world.pods)
    @rule(data=st.data(), seconds=st.sampled_from((1.0, 10.0, 20.0)))
    def suspend(self, data: st.DataObject, seconds: float) -> None:
        """A pod's machine is suspended: cut off, and not knowing that time passes."""
        pod = self._pod(data)
        pod.clock.stop()
        pod.store.cut = True
        self.world.loop.advance(seconds)
        pod.store.cut = False
        self.world.loop.advance(1.0)
        pod.clock.go()

    @precondition(lambda self: self.world.pods)
    @rule(data=st.data(), answers=st.integers(1, 3))
    def lose_answers(self, data: st.DataObject, answers: int) -> None:
        """What a pod writes is written, and it does not hear of it."""
        self._pod(data).store.lose_answers = answers

    @precondition(lambda self: self.world.pods)
    @rule(data=st.data(), commits=st.integers(1, 3), seconds=st.sampled_from((0.5, 3.0, 25.0)))
    def delay(self, data: st.DataObject, commits: int, seconds: float) -> None:
        """What a pod has given up writing is written, perhaps when it is the owner no more."""
        store = self._pod(data).store
        store.delayed, store.delay = commits, seconds

    @precondition(lambda self: self.world.pods)
    @rule(data=st.data())
    def hand_over(self, data: st.DataObject) -> None:
        """A pod is asked to leave the user to others."""
        self.world.hand_over(self._pod(data))

    @rule(number=st.integers(1, 9))
    def rename(self, number: int) -> None:
        """A client changes a setting."""
        self.world.rename(f"name {number}")

    @rule(data=st.data())
    def restart_executor(self, data: st.DataObject) -> None:
        """An executor forgets everything."""
        executor = data.draw(st.sampled_from(self.world.executors))
        self.world.loop.act(executor.forget)
        executor.files.clear()

    @rule(data=st.data())
    def lose_executor(self, data: st.DataObject) -> None:
        """An executor cannot be reached, or can again."""
        executor = data.draw(st.sampled_from(self.world.executors))
        executor.away = not executor.away

    @rule(seconds=st.sampled_from((0.001, 0.01, 0.1, 1.0, 5.0, 20.0)))
    def wait(self, seconds: float) -> None:
        """Time passes."""
        self.world.loop.advance(seconds)

    def teardown(self) -> None:
        """Heal everything: every promise must have been kept."""
        try:
            self.world.heal()
            problems = self.world.judge()
        finally:
            self.world.close()
        assert [] == problems

    def _pod(self, data: st.DataObject) -> Pod:
        return data.draw(st.sampled_from(self.world.pods))


def _act(world: World, execution: FakeExecution, action: str) -> None:
    blocks = list(execution.blocks)
    usage = transcript_pb2.Usage(cost_usd_micros=3)
    match action:
        case "say":
            execution.say(blocks[0] if blocks else f"b{len(execution.events)}", "word ")
        case "complete" if blocks:
            execution.complete(blocks[0])
        case "discard" if blocks:
            execution.discard(blocks[0])
        case "call_tool":
            execution.call_tool(f"tool-{len(execution.events)}")
        case "ask":
            execution.ask("p1")
        case "spend":
            progress = executions_pb2.ExecutionProgress(usage=usage)
            execution.send(executions_pb2.ExecutionUpdate(progress=progress))
        case "grow":
            world.grow(execution)
        case "leave":
            execution.end(background_tasks=1, usage=usage)
        case "end":
            execution.end(usage=usage)


@pytest.mark.timeout(300)
class TestMachine(SessionMachine.TestCase):  # type: ignore[misc,valid-type]
    """Hypothesis looks for an order of events that breaks a promise."""

    settings = settings(
        max_examples=150,
        stateful_step_count=40,
        deadline=None,
        derandomize=True,
        suppress_health_check=list(HealthCheck),
    )


def test_an_execution_without_events_has_not_ended() -> None:
    """What the machine calls running is what has no outcome."""
    world = World()
    try:
        world.submit("turn-0", "hello")
        world.loop.advance(1)
        [execution] = world.running()
        assert not ended(execution)
        world.heal()
        assert ended(execution)
        assert [] == world.judge()
    finally:
        world.close()
