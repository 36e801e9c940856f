"""Tests of the executor as a whole: the real server, with every call it serves."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from moorline.executor.v1 import backends_pb2, executions_pb2, workspaces_pb2
from moorline.transcript.v1 import transcript_pb2
from services.chassis.failures import Failure
from tests.unit.executor.server import EXECUTIONS, GUARD_SECONDS, WORKSPACE, Server, reason


async def test_turn_from_create_to_outcome(server: Server) -> None:
    """Created, followed to its end, read, acknowledged and forgotten."""
    created = await server.create("hello", instructions="be brief")
    items = await server.items()
    read = await server.get()
    await server.acknowledge("e1", 2)
    with pytest.raises(Failure) as caught:
        await server.get()
    again = await server.create("hello")

    assert ("executions/e1", "simulation", WORKSPACE) == (
        created.name,
        created.backend,
        created.workspace,
    )
    assert "User message: hello" in items[0].agent_message.text
    assert transcript_pb2.TurnOutcome.STATE_FINISHED == items[-1].turn_outcome.state
    assert executions_pb2.Execution.STATE_ENDED == read.state == again.state
    assert ("hello", "be brief") == (read.prompt.text, read.instructions)
    assert read.conversation
    assert timedelta(hours=1) == read.timeout.ToTimedelta()
    assert "RESOURCE_NOT_FOUND" == reason(caught)


async def test_conversation_goes_on(server: Server) -> None:
    """The handle of one execution is taken by the next."""
    await server.create("one")
    await server.items()
    conversation = (await server.get()).conversation
    await server.create("two", "e2", resume_from=conversation)
    await server.items("e2")

    assert conversation == (await server.get("e2")).conversation


async def test_watch_resumes_after_a_number(server: Server) -> None:
    """Only what follows comes."""
    await server.create("/sim say one\n/sim say two")
    whole = await server.items()
    rest = await server.items(after=1)

    assert whole[1:] == rest


async def test_permission_is_asked_and_resolved(server: Server) -> None:
    """Refused, the tool fails with the reason and the turn goes on; a repetition is harmless."""
    await server.create("/sim ask Bash rm\n/sim say on")
    items: list[transcript_pb2.Item] = []
    async for update in server.watch():
        items.append(update.event.item)
        if update.event.item.HasField("permission_request"):
            asked = update.event.item.permission_request.permission_id
            with pytest.raises(Failure) as unknown:
                await server.resolve("unknown", allowed=True)
            await server.resolve(asked, allowed=False, reason="not today")
            await server.resolve(asked, allowed=True)
    results = [item.tool_result for item in items if item.HasField("tool_result")]

    assert [("not today", True)] == [(one.output, one.failed) for one in results]
    assert transcript_pb2.TurnOutcome.STATE_FINISHED == items[-1].turn_outcome.state
    assert "RESOURCE_NOT_FOUND" == reason(unknown)


@pytest.mark.parametrize(
    "script", ["/sim stream 6000 10", "/sim ask Bash x", "/sim hang", "/sim sleep 60000"]
)
async def test_cancelled_turn_ends_before_its_time(server: Server, script: str) -> None:
    """Whatever it is doing; the next prompt works."""
    await server.create(f"/sim say begun\n{script}")
    await anext(server.watch())
    async with asyncio.timeout(GUARD_SECONDS):
        await server.cancel()
        items = await server.items()
    await server.create("/sim say alive", "e2")
    alive = await server.items("e2")

    assert transcript_pb2.TurnOutcome.STATE_CANCELLED == items[-1].turn_outcome.state
    assert "alive" == alive[0].agent_message.text


async def test_crash_is_told_and_survived(server: Server) -> None:
    """The text so far is kept, and the conversation goes on."""
    await server.create("/sim say before\n/sim crash")
    items = await server.items()
    conversation = (await server.get()).conversation
    await server.create("/sim say after", "e2", resume_from=conversation)
    after = await server.items("e2")

    assert "before" == items[0].agent_message.text
    assert {"exitCode": "1", "exitReason": "exited"} == dict(items[-1].turn_outcome.error.metadata)
    assert "after" == after[0].agent_message.text


async def test_new_turn_takes_over_the_workspace(server: Server) -> None:
    """The one before is ended first."""
    await server.create("/sim stream 1000 10")
    await server.create("/sim say mine", "e2")
    second = await server.items("e2")
    first = await server.items("e1")

    assert "mine" == second[0].agent_message.text
    assert transcript_pb2.TurnOutcome.STATE_CANCELLED == first[-1].turn_outcome.state


@pytest.mark.parametrize("backend", ["docker", "backends/cloud_run", "mainframe"])
async def test_backend_that_cannot_run_is_refused(server: Server, backend: str) -> None:
    """The error names it."""
    with pytest.raises(Failure) as caught:
        await server.create("hello", backend=backend)

    assert "BACKEND_UNAVAILABLE" == reason(caught)
    assert backend.removeprefix("backends/") == caught.value.metadata["backend"]


@pytest.mark.parametrize(
    ("prompt", "changed", "field"),
    [
        ("", {}, "execution.prompt.text"),
        ("x" * 100_001, {}, "execution.prompt.text"),
        ("x", {"instructions": "x" * 100_001}, "execution.instructions"),
        ("x", {"workspace": "workspaces/../etc"}, "execution.workspace"),
        ("x", {"permission_mode": 99}, "execution.permission_mode"),
        ("x", {"resume_from": "--settings=x y"}, "execution.resume_from"),
        ("x", {"timeout": {"seconds": 0}}, "timeout"),
        ("x", {"timeout": {"seconds": -5}}, "timeout"),
        ("x", {"execution_id": "Not Good"}, "execution_id"),
    ],
)
async def test_bad_execution_is_refused(
    server: Server, prompt: str, changed: dict[str, Any], field: str
) -> None:
    """The error names the field."""
    with pytest.raises(Failure) as caught:
        await server.create(prompt, **changed)

    assert "FIELD_INVALID" == reason(caught)
    assert field == caught.value.metadata["field"]


async def test_bad_requests_about_an_execution_are_refused(server: Server) -> None:
    """Each with a typed error."""
    await server.create("/sim stream 1000 10")
    many = executions_pb2.AcknowledgeExecutionsRequest()
    for _ in range(1001):
        many.acknowledgements.add(name="executions/e1")
    with pytest.raises(Failure) as too_many:
        await server.call(
            EXECUTIONS + "AcknowledgeExecutions",
            many,
            executions_pb2.AcknowledgeExecutionsResponse,
        )
    with pytest.raises(Failure) as negative:
        await server.items(after=-1)
    with pytest.raises(Failure) as future:
        await server.items(after=7)
    with pytest.raises(Failure) as nothing:
        await server.resolve("", allowed=True)
    with pytest.raises(Failure) as talkative:
        await server.resolve("p", allowed=True, reason="x" * 2001)
    with pytest.raises(Failure) as backwards:
        await server.cancel(grace=timedelta(seconds=-1))
    await server.cancel(grace=timedelta(0))

    assert ["FIELD_INVALID"] * 5 == [
        reason(one) for one in (too_many, negative, nothing, talkative, backwards)
    ]
    assert "SEQUENCE_UNKNOWN" == reason(future)


async def test_backends_are_listed(server: Server) -> None:
    """Each with its reason when it is not available."""
    response = await server.call(
        "/moorline.executor.v1.BackendService/ListBackends",
        backends_pb2.ListBackendsRequest(),
        backends_pb2.ListBackendsResponse,
    )
    listed = {
        backend.name: (backend.available, bool(backend.detail), backend.default)
        for backend in response.backends
    }

    assert {
        "backends/simulation": (True, False, True),
        "backends/process": (False, True, False),
        "backends/docker": (False, True, False),
        "backends/cloud_run": (False, True, False),
    } == listed


async def test_deleted_workspace_is_gone(server: Server) -> None:
    """With what ran in it."""
    await server.create("/sim write file.txt x\n/sim hang")
    async for update in server.watch():
        if update.event.item.HasField("tool_result"):
            break
    there = (server.root / "abcdefgh" / "files" / "file.txt").exists()
    await server.call(
        "/moorline.executor.v1.WorkspaceService/DeleteWorkspace",
        workspaces_pb2.DeleteWorkspaceRequest(name=WORKSPACE),
        workspaces_pb2.DeleteWorkspaceResponse,
    )
    items = await server.items()

    assert there
    assert not (server.root / "abcdefgh").exists()
    assert transcript_pb2.TurnOutcome.STATE_CANCELLED == items[-1].turn_outcome.state


async def test_caller_without_identity_is_refused(server: Server) -> None:
    """Nobody but our services may call."""
    async with grpc.aio.insecure_channel(server.target) as channel:
        call: Any = channel.unary_unary("/moorline.executor.v1.BackendService/ListBackends")
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call(b"")

    assert grpc.StatusCode.UNAUTHENTICATED == caught.value.code()


@pytest.mark.parametrize("drain_seconds", [30])
async def test_shutdown_withdraws_readiness_at_once(server: Server) -> None:
    """No new work is sent here, while what runs goes on and the process is left alive."""
    await server.create("/sim ask Bash x")
    asked = await server.asked()
    server.stop()
    async with grpc.aio.insecure_channel(server.target) as channel:
        health = health_pb2_grpc.HealthStub(channel)

        async def condition(service: str) -> int:
            response = await health.Check(health_pb2.HealthCheckRequest(service=service))
            return int(response.status)

        async with asyncio.timeout(GUARD_SECONDS):
            while await condition("readiness") != health_pb2.HealthCheckResponse.NOT_SERVING:
                pass
        assert health_pb2.HealthCheckResponse.SERVING == await condition("liveness")
    await server.resolve(asked, allowed=True)
    items = await server.items()
    await server.acknowledge("e1", len(items))
    await server.ended()

    assert transcript_pb2.TurnOutcome.STATE_FINISHED == items[-1].turn_outcome.state
