"""Tests of `services.session.agent_deletion` where several processes share the database."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from moorline.session.v1 import agents_pb2
from services.session.agent_deletion import delete_documents
from services.session.names import AgentName
from services.session.store import Committed, Create, Delete, Write
from tests.unit.session.fakes import FakeExecutor
from tests.unit.session.service import AGENT, CONTEXT, until
from tests.unit.session.shared import Connection, Database, Pod, Pods, reasons

NAME = AgentName("ada", "a1")

LEFT = {"users/ada", "users/ada/usage/deleted"}
"""What stays when a user's only agent is deleted."""


class Held(Connection):
    """A store whose commits can be held back.

    Attributes:
        free: While not set, commits wait before they reach the database.
    """

    def __init__(self, database: Database) -> None:
        super().__init__(database)
        self.free = asyncio.Event()
        self.free.set()
        self.holding = 0

    async def commit(self, writes: Sequence[Write]) -> Committed:
        """See `Store`."""
        self.holding += 1
        await self.free.wait()
        self.holding -= 1
        return await super().commit(writes)


async def delete(pod: Pod) -> None:
    """Delete the agent."""
    await pod.agents.DeleteAgent(agents_pb2.DeleteAgentRequest(name=AGENT), CONTEXT)


class TestDeleteAgent:
    async def test_nothing_is_left(self, pods: Pods, first: Pod, executor: FakeExecutor) -> None:
        """But the lease on the user, and what the user's turns have consumed."""
        await first.create_turn()
        await executor.execution()

        await delete(first)

        await until(lambda: LEFT == set(pods.database.documents))
        assert ["RESOURCE_NOT_FOUND"] == await reasons(first.get_agent())

    async def test_a_deletion_that_comes_after_the_next_owner_fails(
        self, pods: Pods, first: Pod, executor: FakeExecutor
    ) -> None:
        """It was on its way when its process fell asleep."""
        store = Held(pods.database)
        await first.sessions.drain()
        pod = await pods.start("two:2", store=store)
        await pod.create_turn()
        execution = await executor.execution()
        store.free.clear()
        deleting = asyncio.ensure_future(reasons(delete(pod)))
        await until(lambda: store.holding == 1)
        pods.pass_time(16, pod)
        third = await pods.start("three:3")
        await third.sweeper.sweep()
        await until(lambda: bool(execution.listeners))

        store.free.set()

        assert ["NOT_OWNER"] == await deleting
        execution.end()
        await third.ended()
        assert ["user_message", "turn_outcome"] == await third.kinds()

    async def test_an_agent_is_deleted_that_was_never_loaded(
        self, pods: Pods, first: Pod, second: Pod
    ) -> None:
        """Its log is fenced all the same."""
        await first.create_turn()
        await first.cancel_turn()
        await first.ended()
        await first.tasks.__aexit__(None, None, None)
        pods.pass_time(16)

        await delete(second)

        await until(lambda: LEFT == set(pods.database.documents))


class TestDeleteDocuments:
    async def test_several_may_delete_a_large_agent_at_once(self, pods: Pods, first: Pod) -> None:
        """Each commit holds only while nobody else has made one."""
        database = pods.database
        fields, version, time = database.documents[AGENT]
        database.documents[AGENT] = ({**fields, "deleted": True}, version, time)
        for number in range(450):
            database.commit([Create(f"{AGENT}/turns/t{number}", {})])

        await asyncio.gather(
            *(delete_documents(Connection(database), NAME) for _ in range(3)),
        )

        assert not any(path.startswith(AGENT) for path in database.documents)

    async def test_a_late_one_leaves_the_next_agent_of_the_name_alone(
        self, pods: Pods, first: Pod
    ) -> None:
        """It finds that the tombstone is not the one that it has read."""
        database = pods.database
        store = Held(database)
        living = database.documents[AGENT]
        fields, version, time = living
        database.documents[AGENT] = ({**fields, "deleted": True}, version, time)
        database.commit([Create(f"{AGENT}/turns/t1", {"of": "the old one"})])
        store.free.clear()
        deleting = asyncio.ensure_future(delete_documents(store, NAME))
        await until(lambda: store.holding == 1)
        database.commit([Delete(f"{AGENT}/turns/t1"), Delete(AGENT)])
        database.commit([Create(AGENT, fields), Create(f"{AGENT}/turns/t1", {"of": "the new"})])

        store.free.set()
        await deleting

        assert {"of": "the new"} == database.documents[f"{AGENT}/turns/t1"][0]
