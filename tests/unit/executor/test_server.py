"""Tests of the executor as a whole: the real server, with every call it serves."""

from __future__ import annotations

import asyncio
import os
import signal
import uuid
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import grpc
import pytest
from google.protobuf.message import Message

from moorline.executor.v1 import backends_pb2, executions_pb2, feed_pb2
from moorline.transcript.v1 import transcript_pb2
from services.chassis.client import Peer
from services.chassis.failures import Failure
from services.chassis.identity import Identity, Signer
from services.chassis.metrics import Metrics
from services.executor import __main__ as program
from services.executor.settings import Settings

R = TypeVar("R", bound=Message)

KEY = "k" * 32
SESSION = Identity(user="services/session")
WORKSPACE = "workspaces/abcdefgh"
EXECUTIONS = "/moorline.executor.v1.ExecutionService/"
FEED = "/moorline.executor.v1.ExecutionFeedService/"


class Server:
    """A running executor and a client of it."""

    def __init__(self, *, peer: Peer, serving: asyncio.Task[None], root: Path) -> None:
        self.root = root
        self.serving = serving
        self.target = peer.target
        self._peer = peer

    async def call(self, method: str, request: Message, response: type[R]) -> R:
        """Call a method."""
        return await self._peer.call(
            method, request, response, identity=SESSION, timeout=timedelta(seconds=5)
        )

    def stream(self, method: str, request: Message, response: type[R]) -> AsyncIterator[R]:
        """Call a streaming method."""
        return self._peer.stream(method, request, response, identity=SESSION)

    async def create(self, prompt: str, execution_id: str = "e1", **changed: Any) -> Any:
        """Start an execution."""
        values: dict[str, Any] = {"workspace": WORKSPACE}
        execution = executions_pb2.Execution(**(values | changed))
        execution.prompt.text = prompt
        request = executions_pb2.CreateExecutionRequest(
            execution_id=execution_id, execution=execution
        )
        response = await self.call(
            EXECUTIONS + "CreateExecution", request, executions_pb2.CreateExecutionResponse
        )
        return response.execution

    async def get(self, execution_id: str = "e1") -> executions_pb2.Execution:
        """Return an execution."""
        request = executions_pb2.GetExecutionRequest(name=f"executions/{execution_id}")
        response = await self.call(
            EXECUTIONS + "GetExecution", request, executions_pb2.GetExecutionResponse
        )
        return response.execution

    async def watch(
        self, execution_id: str = "e1", after: int = 0
    ) -> AsyncIterator[executions_pb2.ExecutionUpdate]:
        """Follow an execution."""
        request = executions_pb2.WatchExecutionRequest(
            name=f"executions/{execution_id}", after_sequence=after
        )
        responses = self.stream(
            EXECUTIONS + "WatchExecution", request, executions_pb2.WatchExecutionResponse
        )
        async for response in responses:
            for update in response.updates:
                yield update

    async def items(self, execution_id: str = "e1", after: int = 0) -> list[transcript_pb2.Item]:
        """Return the items of an execution, up to its outcome."""
        updates = self.watch(execution_id, after)
        return [update.event.item async for update in updates if update.HasField("event")]

    async def acknowledge(self, execution_id: str, sequence: int) -> None:
        """Tell that items are stored."""
        request = executions_pb2.AcknowledgeExecutionsRequest()
        request.acknowledgements.add(name=f"executions/{execution_id}", sequence=sequence)
        await self.call(
            EXECUTIONS + "AcknowledgeExecutions",
            request,
            executions_pb2.AcknowledgeExecutionsResponse,
        )

    async def resolve(self, permission_id: str, *, allowed: bool, reason: str = "") -> None:
        """Answer a permission request of execution e1."""
        request = executions_pb2.ResolvePermissionRequest(name="executions/e1")
        request.decision.permission_id = permission_id
        request.decision.allowed = allowed
        request.decision.reason = reason
        await self.call(
            EXECUTIONS + "ResolvePermission", request, executions_pb2.ResolvePermissionResponse
        )

    async def cancel(self, execution_id: str = "e1", grace: timedelta | None = None) -> None:
        """Cancel an execution."""
        request = executions_pb2.CancelExecutionRequest(name=f"executions/{execution_id}")
        if grace is not None:
            request.grace_period.FromTimedelta(grace)
        await self.call(
            EXECUTIONS + "CancelExecution", request, executions_pb2.CancelExecutionResponse
        )

    async def open_feed(self) -> tuple[str, AsyncIterator[feed_pb2.OpenFeedResponse]]:
        """Open a feed; return its id and what comes on it."""
        feed_id = str(uuid.uuid4())
        request = feed_pb2.OpenFeedRequest(feed_id=feed_id)
        stream = self.stream(FEED + "OpenFeed", request, feed_pb2.OpenFeedResponse)
        first = await anext(stream)
        assert 0 == len(first.subscriptions)
        return feed_id, stream

    async def subscribe(
        self, feed_id: str, number: int, execution_id: str = "e1", after: int = 0
    ) -> None:
        """Add an execution to a feed."""
        watch = executions_pb2.WatchExecutionRequest(
            name=f"executions/{execution_id}", after_sequence=after
        )
        request = feed_pb2.SubscribeRequest(feed_id=feed_id, subscription=number, watch=watch)
        await self.call(FEED + "Subscribe", request, feed_pb2.SubscribeResponse)

    async def unsubscribe(self, feed_id: str, number: int) -> None:
        """Take an execution off a feed."""
        request = feed_pb2.UnsubscribeRequest(feed_id=feed_id, subscription=number)
        await self.call(FEED + "Unsubscribe", request, feed_pb2.UnsubscribeResponse)


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Server]:
    """A running executor."""
    settings = Settings(
        identity_key=KEY,
        listen="127.0.0.1:0",
        workspaces=tmp_path / "workspaces",
        disable_docker=True,
        drain_seconds=timedelta(seconds=3),
    )
    port: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    serving = asyncio.ensure_future(program.main(settings, on_listening=port.set_result))
    target = f"127.0.0.1:{await port}"
    signer, metrics = Signer(key=KEY), Metrics(service="test")
    async with Peer(service="executor", target=target, signer=signer, metrics=metrics) as peer:
        yield Server(peer=peer, serving=serving, root=tmp_path / "workspaces")
        if not serving.done():
            os.kill(os.getpid(), signal.SIGTERM)
    async with asyncio.timeout(5):
        await serving


def reason(caught: pytest.ExceptionInfo[Failure]) -> str:
    """Return the reason of a failure."""
    return caught.value.reason_name


def text_of(updates: list[executions_pb2.ExecutionUpdate]) -> dict[str, str]:
    """Return what a client shows after some updates."""
    shown: dict[str, str] = {}
    for update in updates:
        delta = update.delta
        if update.HasField("delta"):
            before = "" if delta.snapshot else shown[delta.block_id]
            shown[delta.block_id] = before + delta.text
        elif update.HasField("message_discarded"):
            del shown[update.message_discarded.block_id]
        elif update.event.item.HasField("agent_message"):
            said = update.event.item.agent_message
            shown[said.block_id] = said.text
    return shown


async def drained(stream: AsyncIterator[feed_pb2.OpenFeedResponse]) -> None:
    """Read a feed to its end; no outcome may come on it."""
    async for response in stream:
        for subscribed in response.subscriptions:
            assert not [one for one in subscribed.updates if one.HasField("event")]


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
    "script", ["/sim stream 1000 10", "/sim ask Bash x", "/sim hang", "/sim sleep 60000"]
)
async def test_cancelled_turn_ends_within_a_second(server: Server, script: str) -> None:
    """Whatever it is doing; the next prompt works."""
    await server.create(script)
    await asyncio.sleep(0.05)
    async with asyncio.timeout(1):
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
        "backends/docker": (False, True, False),
        "backends/cloud_run": (False, True, False),
    } == listed


async def test_deleted_workspace_is_gone(server: Server) -> None:
    """With what ran in it."""
    await server.create("/sim write file.txt x\n/sim hang")
    async for update in server.watch():
        if update.event.item.HasField("tool_result"):
            break
    there = (server.root / "abcdefgh" / "file.txt").exists()
    await server.call(
        "/moorline.executor.v1.WorkspaceService/DeleteWorkspace",
        backends_pb2.DeleteWorkspaceRequest(name=WORKSPACE),
        backends_pb2.DeleteWorkspaceResponse,
    )
    items = await server.items()

    assert there
    assert not (server.root / "abcdefgh").exists()
    assert transcript_pb2.TurnOutcome.STATE_CANCELLED == items[-1].turn_outcome.state


async def test_feed_gives_a_late_subscriber_everything(server: Server) -> None:
    """Items and a snapshot of the open text, then what happens, up to the outcome."""
    await server.create("/sim say first\n/sim stream 30 10")
    await asyncio.sleep(0.1)
    feed_id, stream = await server.open_feed()
    await server.subscribe(feed_id, 7)
    updates: list[executions_pb2.ExecutionUpdate] = []
    async for response in stream:
        for subscribed in response.subscriptions:
            assert 7 == subscribed.subscription
            updates += subscribed.updates
        if updates and updates[-1].event.item.HasField("turn_outcome"):
            break

    deltas = [update.delta for update in updates if update.HasField("delta")]
    assert "first" == updates[0].event.item.agent_message.text
    assert deltas[0].snapshot
    assert deltas[0].text.startswith("w1 w2")
    assert not any(delta.snapshot for delta in deltas[1:])
    assert {"first", " ".join(f"w{n}" for n in range(1, 31))} == set(text_of(updates).values())


async def test_feed_carries_many_executions(server: Server) -> None:
    """Each under its number; one taken off falls silent, and a number is used once."""
    feed_id, stream = await server.open_feed()
    for number in range(1, 6):
        name = f"e{number}"
        await server.create("/sim stream 20 2", name, workspace=f"workspaces/workspace{number}")
        await server.subscribe(feed_id, number, name)
    with pytest.raises(Failure) as twice:
        await server.subscribe(feed_id, 5, "e5")
    await server.unsubscribe(feed_id, 5)
    await server.unsubscribe(feed_id, 5)
    ended: set[int] = set()
    async for response in stream:
        for subscribed in response.subscriptions:
            if subscribed.updates[-1].event.item.HasField("turn_outcome"):
                ended.add(subscribed.subscription)
        if {1, 2, 3, 4} <= ended:
            break

    assert {1, 2, 3, 4} == ended
    assert "FIELD_INVALID" == reason(twice)


async def test_new_subscription_after_a_break_misses_nothing(server: Server) -> None:
    """From the last number stored it gets exactly the rest; what was acknowledged is gone."""
    script = "\n".join(f"/sim say message {number}\n/sim sleep 2" for number in range(30))
    await server.create(script)
    seen: list[executions_pb2.ExecutionEvent] = []
    while not seen or not seen[-1].item.HasField("turn_outcome"):
        after = seen[-1].sequence if seen else 0
        feed_id, stream = await server.open_feed()
        await server.subscribe(feed_id, 1, after=after)
        count = len(seen) + 4
        async for response in stream:
            for subscribed in response.subscriptions:
                seen += [one.event for one in subscribed.updates if one.HasField("event")]
            if len(seen) >= count or (seen and seen[-1].item.HasField("turn_outcome")):
                break
        if seen[-1].sequence < 31:
            await server.acknowledge("e1", seen[-1].sequence)
    with pytest.raises(Failure) as forgotten:
        await server.items(after=0)

    assert list(range(1, 32)) == [event.sequence for event in seen]
    assert [f"message {n}" for n in range(30)] == [
        event.item.agent_message.text for event in seen[:-1]
    ]
    assert "SEQUENCE_UNKNOWN" == reason(forgotten)


async def test_subscription_to_nothing_is_refused(server: Server) -> None:
    """An unknown feed and an unknown execution are told apart."""
    feed_id, _ = await server.open_feed()
    with pytest.raises(Failure) as no_feed:
        await server.subscribe("closed", 1)
    with pytest.raises(Failure) as no_execution:
        await server.subscribe(feed_id, 1, "e404")

    assert "FEED_UNKNOWN" == reason(no_feed)
    assert "RESOURCE_NOT_FOUND" == reason(no_execution)


async def test_shutdown_sends_followers_away(server: Server) -> None:
    """They learn that this executor goes, and not of an outcome that is only its end."""
    await server.create("/sim stream 1000 10")
    feed_id, stream = await server.open_feed()
    await server.subscribe(feed_id, 1)
    watch = server.watch()
    seen = [await anext(watch)]
    os.kill(os.getpid(), signal.SIGTERM)
    with pytest.raises(Failure) as watching:
        seen.extend([update async for update in watch])
    with pytest.raises(Failure) as fed:
        await drained(stream)
    async with asyncio.timeout(3):
        await server.serving

    assert ("DRAINING", "DRAINING") == (reason(watching), reason(fed))
    assert not [update for update in seen if update.HasField("event")]


async def test_caller_without_identity_is_refused(server: Server) -> None:
    """Nobody but our services may call."""
    async with grpc.aio.insecure_channel(server.target) as channel:
        call = channel.unary_unary("/moorline.executor.v1.BackendService/ListBackends")
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call(b"")

    assert grpc.StatusCode.UNAUTHENTICATED == caught.value.code()
