"""Tests of `services.session.agents`: prompts recorded once, and what fencing does."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from moorline.errors.v1 import errors_pb2
from moorline.session.v1 import agents_pb2, events_pb2, turns_pb2
from services.chassis.failures import Failure
from services.session import log as log_module
from services.session.forms import MessageEvents
from services.session.history import Position, Segment
from services.session.limits import Limits
from services.session.store import Create, Delete
from tests.unit.session.fakes import FakeExecutor, FaultyStore
from tests.unit.session.service import AGENT, Service, until

Turn = turns_pb2.Turn
MakeService = Callable[[], Service]


async def steal(store: FaultyStore, service: Service) -> None:
    """Write to the agent's log as another process would."""
    agent = await service.live()
    await until(lambda: agent.log.idle)
    segment = Segment(position=Position(agent.log.next), nonce="other", events=[], cursors={})
    await store.inner.commit([Create(agent.history.path(segment.position), segment.fields())])


class TestCreateTurn:
    async def test_the_answer_comes_after_the_commit(
        self, service: Service, store: FaultyStore
    ) -> None:
        """Turn, event and work entry are in one batch, and only then acknowledged."""
        store.held.clear()
        before = len(store.commits)
        call = asyncio.ensure_future(service.create_turn())
        await until(lambda: len(store.commits) > before)
        assert not call.done()
        store.held.set()

        turn = await call

        agent = await service.live()
        paths = {write.path for write in store.commits[before]}
        assert {
            agent.history.path(Position()),
            f"{AGENT}/turns/t1",
            f"{AGENT}/order/{agent.record.log}-0000000001",
            "work/ada~a1~t1",
        } == paths
        assert f"{AGENT}/turns/t1" == turn.name
        assert await store.get(turn.name) is not None

    async def test_the_same_id_makes_one_turn(
        self, service: Service, executor: FakeExecutor
    ) -> None:
        """Fifty at once, again while it runs, and again after its end."""
        turns = await asyncio.gather(*(service.create_turn() for _ in range(50)))
        assert 1 == len({turn.SerializeToString(deterministic=True) for turn in turns})
        (await executor.execution()).end()
        await service.ended()

        again = await service.create_turn()

        assert Turn.STATE_FINISHED == again.state
        assert ["user_message", "turn_outcome"] == await service.kinds()
        assert 1 == len(executor.created)

    async def test_the_same_id_after_a_restart_is_the_same_turn(
        self, make_service: MakeService, executor: FakeExecutor
    ) -> None:
        """The id is good for the life of the agent."""
        executor.script = lambda execution: execution.end()
        async with make_service() as service:
            await service.create_agent()
            await service.create_turn()
            ended = await service.ended()

        async with make_service() as service:
            assert ended == await service.create_turn()
            with pytest.raises(Failure):
                await service.create_turn(prompt="other")

    async def test_another_prompt_is_refused(self, service: Service) -> None:
        """With the name of the turn that has the id."""
        first, second = await asyncio.gather(
            service.create_turn(prompt="one"),
            service.create_turn(prompt="two"),
            return_exceptions=True,
        )

        assert isinstance(first, Turn)
        assert isinstance(second, Failure)
        assert errors_pb2.ERROR_REASON_RESOURCE_EXISTS == second.reason
        assert {"resource": f"{AGENT}/turns/t1"} == second.metadata

    async def test_a_store_that_hangs_is_answered_in_time(
        self, service: Service, store: FaultyStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The same call again joins the turn, once the store is back."""
        store.held.clear()
        with monkeypatch.context() as patched:
            patched.setattr(log_module, "_DURABLE_SECONDS", 0.02)
            with pytest.raises(Failure) as raised:
                await service.create_turn()
        assert errors_pb2.ERROR_REASON_STORE_UNAVAILABLE == raised.value.reason

        store.held.set()
        turn = await service.create_turn()

        assert 1 == turn.sequence
        assert ["user_message"] == await service.kinds()

    async def test_a_caller_that_goes_away_takes_nothing_back(
        self, service: Service, store: FaultyStore, executor: FakeExecutor
    ) -> None:
        """The turn runs although nobody waits for the answer."""
        store.held.clear()
        before = len(store.commits)
        call = asyncio.ensure_future(service.create_turn())
        await until(lambda: len(store.commits) > before)
        call.cancel()
        store.held.set()

        (await executor.execution()).end()

        assert Turn.STATE_FINISHED == (await service.ended()).state


class TestGetTurn:
    async def test_an_end_is_shown_once_it_is_durable(
        self, service: Service, store: FaultyStore, executor: FakeExecutor
    ) -> None:
        """A crash can not take back what somebody was told."""
        await service.create_turn()
        execution = await executor.execution()
        agent = await service.live()
        await until(lambda: agent.log.idle)
        store.held.clear()
        execution.end()
        calls = [
            asyncio.ensure_future(call)
            for call in (service.get_turn(), service.create_turn(), service.cancel_turn())
        ]
        await asyncio.sleep(0.02)
        assert not any(call.done() for call in calls)

        store.held.set()

        assert {Turn.STATE_FINISHED} == {turn.state for turn in await asyncio.gather(*calls)}

    async def test_a_missing_turn_is_not_found(self, service: Service) -> None:
        """To read as to cancel."""
        for call in (service.get_turn(), service.cancel_turn()):
            with pytest.raises(Failure) as raised:
                await call
            assert errors_pb2.ERROR_REASON_RESOURCE_NOT_FOUND == raised.value.reason


class TestQueue:
    @pytest.fixture
    def limits(self) -> Limits:
        """Limits with a short queue."""
        return Limits(queued_turns=2)

    async def test_a_full_queue_refuses(self, service: Service, executor: FakeExecutor) -> None:
        """One runs, two wait; the fourth is told the limit, and a known one is not."""
        for number in range(3):
            await service.create_turn(f"t{number}")

        with pytest.raises(Failure) as raised:
            await service.create_turn("t3")

        assert errors_pb2.ERROR_REASON_QUEUE_FULL == raised.value.reason
        assert {"limit": "2"} == raised.value.metadata
        await service.create_turn("t2")

        await service.cancel_turn("t1")
        await service.create_turn("t3")

    async def test_the_agent_shows_what_runs_and_waits(
        self, service: Service, executor: FakeExecutor
    ) -> None:
        """State, running turn, queued turns in order, head and activity."""
        idle = await service.get_agent()
        assert (agents_pb2.Agent.STATE_IDLE, 0) == (idle.state, idle.head_sequence)
        for number in range(3):
            await service.create_turn(f"t{number}")

        agent = await service.get_agent()

        assert agents_pb2.Agent.STATE_WORKING == agent.state
        assert f"{AGENT}/turns/t0" == agent.running_turn
        assert [f"{AGENT}/turns/t1", f"{AGENT}/turns/t2"] == list(agent.queued_turns)
        assert 3 == agent.head_sequence
        assert idle.activity_time.ToDatetime() < agent.activity_time.ToDatetime()

    async def test_a_turn_created_while_the_last_one_ends_runs(
        self, service: Service, executor: FakeExecutor, store: FaultyStore
    ) -> None:
        """It waits for the outcome that is being written, then starts."""
        await service.create_turn("t0")
        execution = await executor.execution()
        store.held.clear()
        execution.end()
        call = asyncio.ensure_future(service.create_turn("t1"))
        await asyncio.sleep(0.01)
        store.held.set()
        await call

        (await executor.execution(2)).end()
        assert Turn.STATE_FINISHED == (await service.ended("t1")).state

    async def test_a_turn_created_while_a_queued_one_is_cancelled_runs(
        self, service: Service, executor: FakeExecutor, store: FaultyStore
    ) -> None:
        """A cancellation being written holds nothing up."""
        executor.script = lambda execution: execution.end() if len(executor.created) > 1 else None
        await service.create_turn("t0")
        await service.create_turn("t1")
        await executor.execution()
        store.held.clear()
        executor.last.end()
        cancelling = asyncio.ensure_future(service.cancel_turn("t1"))
        await asyncio.sleep(0.01)
        creating = asyncio.ensure_future(service.create_turn("t2"))
        await asyncio.sleep(0.01)
        store.held.set()
        await asyncio.gather(cancelling, creating)

        assert Turn.STATE_FINISHED == (await service.ended("t2")).state
        assert Turn.STATE_CANCELLED == (await service.ended("t1")).state


class TestFencing:
    async def test_an_agent_deleted_elsewhere_is_not_found(
        self, make_service: Callable[[], Service], service: Service, store: FaultyStore
    ) -> None:
        """Its session learns of it when it loads the agent."""
        async with make_service() as other:
            session = await other.sessions.session("ada")
            await store.inner.commit([Delete(AGENT)])
            assert not session.evict_idle()

            with pytest.raises(Failure) as raised:
                await session.agent("a1")

        assert "RESOURCE_NOT_FOUND" == raised.value.reason_name

    async def test_a_fenced_call_is_made_again(
        self, service: Service, store: FaultyStore, executor: FakeExecutor
    ) -> None:
        """The caller does not notice that another writer was there."""
        await steal(store, service)

        turn = await service.create_turn()

        assert 1 == turn.sequence
        (await executor.execution()).end()
        assert Turn.STATE_FINISHED == (await service.ended()).state

    async def test_a_running_turn_goes_on_after_a_fence(
        self, service: Service, store: FaultyStore, executor: FakeExecutor
    ) -> None:
        """The agent is loaded anew and follows the execution from the log's position."""
        await service.create_turn()
        execution = await executor.execution()
        old = await service.live()
        source = old.follow(
            form=MessageEvents(), after_sequence=0, include_deltas=True, mark=lambda: None
        )
        await steal(store, service)
        execution.call_tool()
        await until(lambda: source.failure is not None)
        execution.end()

        assert Turn.STATE_FINISHED == (await service.ended()).state
        assert ["user_message", "tool_call", "turn_outcome"] == await service.kinds()
        assert source.failure is not None
        assert errors_pb2.ERROR_REASON_SERVICE_UNAVAILABLE == source.failure.reason
        assert old is not await service.live()

    async def test_loading_again_waits_for_the_store(
        self, service: Service, store: FaultyStore, executor: FakeExecutor
    ) -> None:
        """A store that is away in that moment leaves no turn behind."""
        await service.create_turn()
        execution = await executor.execution()
        await steal(store, service)
        store.missing[AGENT] = [True, True]
        execution.call_tool()
        await until(lambda: not store.missing[AGENT])
        execution.end()

        assert Turn.STATE_FINISHED == (await service.ended()).state


class TestListTurns:
    async def list_turns(self, service: Service, **request: object) -> tuple[list[str], str]:
        """Return a page's ids and token."""
        page = await service.turns.ListTurns(
            turns_pb2.ListTurnsRequest(parent=AGENT, **request),  # type: ignore[arg-type]
            None,  # type: ignore[arg-type]
        )
        return [turn.name.rpartition("/")[2] for turn in page.turns], page.next_page_token

    async def test_the_newest_comes_first_in_pages(
        self, service: Service, executor: FakeExecutor
    ) -> None:
        """Whatever the ids are; each page goes on after the one before."""
        executor.script = lambda execution: execution.end()
        for turn_id in ("m", "z", "a", "k", "b"):
            await service.create_turn(turn_id)
            await service.ended(turn_id)

        first, token = await self.list_turns(service, page_size=2)
        second, token = await self.list_turns(service, page_size=2, page_token=token)
        third, end = await self.list_turns(service, page_size=2, page_token=token)

        assert [["b", "k"], ["a", "z"], ["m"], ""] == [first, second, third, end]

    async def test_the_unfinished_come_in_the_order_they_run(self, service: Service) -> None:
        """Ended ones are left out."""
        for turn_id in ("m", "z", "a", "k"):
            await service.create_turn(turn_id)
        await service.cancel_turn("z")

        first, token = await self.list_turns(service, unfinished_only=True, page_size=2)
        rest, end = await self.list_turns(service, unfinished_only=True, page_token=token)

        assert [["m", "a"], ["k"], ""] == [first, rest, end]


class TestListEvents:
    async def test_pages_follow_each_other(self, service: Service) -> None:
        """The last sequence is the token, and the head is told."""
        for number in range(5):
            await service.create_turn(f"t{number}")

        pages = []
        after = 0
        while True:
            request = events_pb2.ListEventsRequest(parent=AGENT, page_size=2, after_sequence=after)
            page = await service.events.ListEvents(request, None)  # type: ignore[arg-type]
            assert 5 == page.head_sequence
            if not page.events:
                break
            pages.append([event.sequence for event in page.events])
            after = pages[-1][-1]

        assert [[1, 2], [3, 4], [5]] == pages

    async def test_a_page_of_great_events_is_short(self, service: Service) -> None:
        """A page is bounded by its bytes too, and holds at least one event."""
        for number in range(12):
            await service.create_turn(f"t{number}", prompt=f"{number}" + "x" * 90_000)

        request = events_pb2.ListEventsRequest(parent=AGENT)
        page = await service.events.ListEvents(request, None)  # type: ignore[arg-type]

        assert 12 == page.head_sequence
        assert 1 <= len(page.events) < 12
        assert page.ByteSize() < 700_000
