"""Tests of `services.gateway.files`, as `peers` calls it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing
from datetime import timedelta
from typing import Any

import pytest

from moorline.executor.v1 import workspaces_pb2
from services.chassis.client import Peer
from services.chassis.failures import Failure
from services.chassis.identity import Identity, Signer
from services.chassis.metrics import Metrics
from services.chassis.tasks import Tasks
from services.gateway.calls import CALLS
from services.gateway.diagnosis import Diagnosis
from services.gateway.files import METHODS, Files, Whereabouts
from services.gateway.peers import ServicePeers
from services.gateway.pods import ExecutorPod
from services.gateway.routing import Router
from tests.unit.chassis.service import KEY
from tests.unit.gateway.executor_api import WORKSPACE, FakeExecutor, fake_executor
from tests.unit.gateway.fake_pods import FakePods, failure
from tests.unit.gateway.fakes import FakeClock

ADA = Identity(user="users/ada")
ADMIN = Identity(user="users/admin", admin=True)
AGENT = "users/ada/agents/a"
LIST = workspaces_pb2.ListFilesRequest


class Setting:
    """Peers over a session service that a test speaks for, and an executor."""

    def __init__(self, executor: FakeExecutor) -> None:
        self.pods = FakePods("a:1")
        self.executor = executor
        self.executors = Executors()
        self.place = (WORKSPACE, executor.target)
        self.pods["a:1"].locate = lambda: self.place
        timeout = timedelta(seconds=2)
        router = Router(pods=self.pods)
        self.files = Files(router=router, executors=self.executors, timeout=timeout)
        others = FakePods("never:1")
        self.peers = ServicePeers(
            router=router,
            sessions=self.pods,
            executors=others,
            files=self.files,
            diagnosis=Diagnosis(sessions=self.pods, executors=others),
            timeout=timeout,
            clock=FakeClock(),
        )

    async def call(self, name: str, request: Any, identity: Identity = ADA) -> Any:
        """Make a call; the response, or the failure."""
        try:
            return await self.peers.call(CALLS[name], request, identity=identity)
        except Failure as refusal:
            return refusal


class Executors:
    """See `files.Executors`."""

    def __init__(self) -> None:
        self.members: dict[str, ExecutorPod] = {}

    def get(self, address: str) -> ExecutorPod:
        """Return the one at an address."""
        if address not in self.members:
            signer, metrics = Signer(key=KEY), Metrics(service="test")
            peer = Peer(service="executor", target=address, signer=signer, metrics=metrics)
            self.members[address] = ExecutorPod(peer=peer)
        return self.members[address]


@pytest.fixture
async def s() -> AsyncIterator[Setting]:
    """Peers and an executor."""
    async with fake_executor() as executor, Tasks():
        setting = Setting(executor)
        yield setting
        for member in setting.executors.members.values():
            await member.close()


def test_every_call_about_files_is_told_by_its_method() -> None:
    """And none of those that are for services only can be made by a client."""
    names = {call.name for call in CALLS.values() if call.method.startswith(METHODS)}

    assert {"list_files", "read_file", "write_file", "delete_file", "diff_files"} == names


async def test_a_call_goes_to_the_executor_that_has_the_files(s: Setting) -> None:
    """By the name it knows them by, and for whom it is made."""
    s.executor.files = {"a": b"1", "b": b"22"}
    request = LIST(parent=AGENT, path="", page_size=7)
    answer = await s.call("list_files", request)
    located = s.pods["a:1"].calls
    asked = s.executor.asked

    assert ["a", "b"] == [file.path for file in answer.files]
    assert [("LocateWorkspace", AGENT, ADA)] == [
        (name, one.name, who) for name, one, who in located
    ]
    assert [("ListFiles", LIST(parent=WORKSPACE, page_size=7), ADA)] == asked
    assert AGENT == request.parent


async def test_an_administrators_call_goes_where_the_user_is(s: Setting) -> None:
    """And is the administrator's; whether it is allowed, the session service says."""
    await s.call("list_files", LIST(parent=AGENT), ADMIN)

    assert [ADMIN] == [identity for _, _, identity in s.executor.asked]


@pytest.mark.parametrize(
    "parent",
    ["", WORKSPACE, "users/ada", "users/ada/agents/", "users/ada/agents/a/b", "x/ada/agents/a"],
)
async def test_only_agents_have_files(s: Setting, parent: str) -> None:
    """Nobody reaches a workspace by its own name."""
    refusal = await s.call("list_files", LIST(parent=parent))

    assert ("FIELD_INVALID", "parent") == (refusal.reason_name, refusal.metadata["field"])
    assert [] == s.executor.asked


async def test_what_the_session_service_refuses_reaches_no_executor(s: Setting) -> None:
    """With its own words."""
    s.pods["a:1"].answers = [failure("RESOURCE_NOT_FOUND")]
    refusal = await s.call("list_files", LIST(parent=AGENT))

    assert "RESOURCE_NOT_FOUND" == refusal.reason_name
    assert [] == s.executor.asked


async def test_what_the_executor_refuses_is_the_answer(s: Setting) -> None:
    """As it is."""
    s.executor.refusals = {"ListFiles": failure("FILE_UNSUITABLE", path="x")}
    refusal = await s.call("list_files", LIST(parent=AGENT))

    assert ("FILE_UNSUITABLE", {"path": "x"}) == (refusal.reason_name, refusal.metadata)


async def test_an_executor_that_is_away_is_told(s: Setting) -> None:
    """To be away, and not the session service."""
    s.place = (WORKSPACE, "127.0.0.1:1")
    refusal = await s.call("list_files", LIST(parent=AGENT))

    assert "SERVICE_UNAVAILABLE" == refusal.reason_name
    assert "executor" == refusal.metadata["service"]
    assert refusal.retry_delay


async def test_an_archive_that_is_left_ends_at_the_executor(s: Setting) -> None:
    """And its connection is needed for as long as it lasts."""
    s.executor.archive = [b"x" * 100_000 for _ in range(100)]
    place = Whereabouts(*s.place)
    pod = s.executors.get(s.executor.target)
    async with aclosing(s.files.archive(place, "folder", identity=ADA)) as parts:
        assert b"x" * 100_000 == await anext(parts)
        assert pod.busy
    assert not pod.busy
    s.executor.archive = [b"1", b"2"]
    whole = [part async for part in s.files.archive(place, "", identity=ADA)]

    assert [b"1", b"2"] == whole
    assert ["folder", ""] == [request.path for _, request, _ in s.executor.asked]
