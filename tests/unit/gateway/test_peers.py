"""Tests of `services.gateway.peers`."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import pytest

from moorline.executor.v1 import backends_pb2
from moorline.session.v1 import agents_pb2, keys_pb2, turns_pb2
from services.chassis.failures import Failure, not_found
from services.chassis.identity import Identity
from services.gateway.calls import CALLS, Service
from services.gateway.diagnosis import Diagnosis
from services.gateway.files import Files
from services.gateway.peers import AnyPod, ServicePeers
from services.gateway.routing import Router
from tests.unit.gateway.fake_pods import FakePods, failure, not_owner
from tests.unit.gateway.fakes import FakeClock

ADA = Identity(user="users/ada")
ADMIN = Identity(user="users/admin", admin=True)
AGENT = "users/ada/agents/a"


class Setting:
    """Peers over pods that a test speaks for."""

    def __init__(self, *, executors: Sequence[str] = ("x:1", "y:1")) -> None:
        self.pods = FakePods("a:1", "b:1")
        self.executors = FakePods(*executors)
        self.clock = FakeClock()
        self.router = Router(pods=self.pods)
        self.peers = ServicePeers(
            router=self.router,
            sessions=self.pods,
            executors=self.executors,
            files=Files(router=self.router, executors=self.executors, timeout=timedelta(seconds=1)),
            diagnosis=Diagnosis(sessions=self.pods, executors=self.executors),
            timeout=timedelta(seconds=1),
            clock=self.clock,
        )

    async def call(self, name: str, request: Any, identity: Identity = ADA) -> Any:
        """Make a call; the response, or the reason of the failure."""
        try:
            return await self.peers.call(CALLS[name], request, identity=identity)
        except Failure as refusal:
            return refusal.reason_name

    def asked(self) -> list[Any]:
        """The requests that reached a pod, in the order of the user's pods."""
        return [request for pod in self.pods.order("users/ada") for _, request, _ in pod.calls]


async def test_calls_go_where_the_resource_is() -> None:
    """An administrator's too, whatever he is called."""
    s = Setting()
    await s.call("get_agent", agents_pb2.GetAgentRequest(name=AGENT))
    await s.call("list_agents", agents_pb2.ListAgentsRequest(parent="users/ada"), ADMIN)
    await s.call(
        "update_agent", agents_pb2.UpdateAgentRequest(agent=agents_pb2.Agent(name=AGENT)), ADMIN
    )
    first, second = s.pods.order("users/ada")

    assert ["GetAgent", "ListAgents", "UpdateAgent"] == [name for name, _, _ in first.calls]
    assert [ADA, ADMIN, ADMIN] == [identity for _, _, identity in first.calls]
    assert [] == second.calls


async def test_keys_are_anybodys() -> None:
    """They follow the user by choice, and say nothing about who serves the user."""
    s = Setting()
    await s.call("list_keys", keys_pb2.ListKeysRequest(parent="users/ada"), ADMIN)

    assert 1 == len(s.pods.order("users/ada")[0].calls)
    assert 0 == len(s.router.owners)


async def test_an_agent_without_an_id_gets_one_before_the_first_attempt() -> None:
    """So that a repetition finds the first one; the client's request stays as it is."""
    s = Setting()
    s.pods.order("users/ada")[0].answers = [failure("SERVICE_UNAVAILABLE")]
    request = agents_pb2.CreateAgentRequest(parent="users/ada")
    await s.call("create_agent", request)
    asked = s.asked()

    assert 2 == len(asked)
    assert 1 == len({each.agent_id for each in asked} - {""})
    assert "" == request.agent_id


async def test_an_id_that_was_given_is_kept() -> None:
    """It is the client's."""
    s = Setting()
    await s.call("create_agent", agents_pb2.CreateAgentRequest(parent="users/ada", agent_id="mine"))

    assert ["mine"] == [each.agent_id for each in s.asked()]


@pytest.mark.parametrize(
    ("name", "request_", "calls"),
    [
        ("create_key", keys_pb2.CreateKeyRequest(parent="users/ada"), 1),
        (
            "update_agent",
            agents_pb2.UpdateAgentRequest(agent=agents_pb2.Agent(name=AGENT, etag="e")),
            1,
        ),
        ("update_agent", agents_pb2.UpdateAgentRequest(agent=agents_pb2.Agent(name=AGENT)), 2),
        ("create_turn", turns_pb2.CreateTurnRequest(parent=AGENT, turn_id="t"), 2),
        ("cancel_turn", turns_pb2.CancelTurnRequest(name=f"{AGENT}/turns/t"), 2),
    ],
)
async def test_only_what_is_safe_to_repeat_is_repeated(
    name: str, request_: Any, calls: int
) -> None:
    """A second key would be one too many, and an etag is changed by what it allowed."""
    s = Setting()
    s.pods.order("users/ada")[0].answers = [failure("SERVICE_UNAVAILABLE")]
    await s.call(name, request_)

    assert calls == len(s.asked())


async def test_a_deletion_whose_answer_was_lost_has_succeeded() -> None:
    """When a repetition finds nothing."""
    s = Setting()
    first, second = s.pods.order("users/ada")
    first.answers = [failure("SERVICE_UNAVAILABLE")]
    second.answers = [not_found()]
    answer = await s.call("delete_agent", agents_pb2.DeleteAgentRequest(name=AGENT))

    assert agents_pb2.DeleteAgentResponse() == answer


async def test_a_deletion_of_nothing_is_one() -> None:
    """Also when another pod had to be asked first."""
    s = Setting()
    first, second = s.pods.order("users/ada")
    first.answers = [not_owner(second.address)]
    second.answers = [not_found()]
    answer = await s.call("delete_agent", agents_pb2.DeleteAgentRequest(name=AGENT))

    assert "RESOURCE_NOT_FOUND" == answer


async def test_any_executor_answers_for_all() -> None:
    """The next one when one is away; each is asked once."""
    s = Setting()
    s.executors["x:1"].go()
    answer = await s.call("list_backends", backends_pb2.ListBackendsRequest())
    assert backends_pb2.ListBackendsResponse() == answer
    s.executors["y:1"].answers = [failure("DRAINING")]
    assert await s.call("list_backends", backends_pb2.ListBackendsRequest()) in (
        "SERVICE_UNAVAILABLE",
        "DRAINING",
    )
    s.executors["y:1"].answers = [failure("FORBIDDEN")]
    s.executors["x:1"].answers = [failure("FORBIDDEN")]

    assert "FORBIDDEN" == await s.call("list_backends", backends_pb2.ListBackendsRequest())


async def test_no_executor_is_an_answer() -> None:
    """Instead of a wait: people look at a list."""
    s = Setting(executors=())

    assert "SERVICE_UNAVAILABLE" == await s.call(
        "list_backends", backends_pb2.ListBackendsRequest()
    )


async def test_a_service_is_ready_while_one_of_its_processes_is() -> None:
    """Asked at most once a second."""
    s = Setting()
    s.pods["a:1"].go()
    assert await s.peers.healthy(Service.SESSION)
    s.pods["b:1"].go()
    assert await s.peers.healthy(Service.SESSION)
    s.clock.now += 1
    assert not await s.peers.healthy(Service.SESSION)
    assert await s.peers.healthy(Service.EXECUTOR)


async def test_nobody_is_not_ready() -> None:
    """For example before the first answer of DNS."""
    s = Setting(executors=())

    assert not await s.peers.healthy(Service.EXECUTOR)


async def test_calls_for_any_pod_spread() -> None:
    """And go on at another one."""
    s = Setting()
    caller = AnyPod(router=s.router)
    s.pods["b:1"].answers = [failure("DRAINING")]
    for _ in range(20):
        await caller.call(
            "/moorline.session.v1.KeyService/VerifyKey",
            keys_pb2.VerifyKeyRequest(secret="s"),
            keys_pb2.VerifyKeyResponse,
            identity=ADA,
            timeout=timedelta(seconds=1),
        )

    assert 20 == len(s.pods["a:1"].calls)
    assert 1 <= len(s.pods["b:1"].calls) < 20
