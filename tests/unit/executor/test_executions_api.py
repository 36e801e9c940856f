"""Tests of `services.executor.executions_api`, through the real server."""

from __future__ import annotations

from typing import Any

import pytest

from moorline.errors.v1 import errors_pb2
from moorline.executor.v1 import backends_pb2, executions_pb2, workspaces_pb2
from moorline.transcript.v1 import transcript_pb2
from services.chassis.failures import Failure
from tests.unit.executor.server import EXECUTIONS, WORKSPACE, Server, reason

Outcome = transcript_pb2.TurnOutcome


async def test_execution_is_read_as_it_was_asked_for(server: Server) -> None:
    """Every choice of the caller's, beside what the server sets."""
    wanted = executions_pb2.Execution(
        permission_mode=executions_pb2.Execution.PERMISSION_MODE_PLAN,
        model="a-model",
        allowed_rules=["Edit", "Bash(npm test:*)"],
        max_steps=7,
        tenant="t1",
        budget=executions_pb2.Budget(turn_usd_micros=5, month_usd_micros=0),
    )
    fields = {field.name: value for field, value in wanted.ListFields()}
    created = await server.create("/sim say one", **fields)
    await server.items()

    for field, value in fields.items():
        assert value == getattr(created, field)
    assert not created.budget.HasField("agent_usd_micros")


@pytest.mark.parametrize(
    ("prompt", "changed", "field"),
    [
        ("text", {"background": True}, "execution.prompt.text"),
        ("", {}, "execution.prompt.text"),
        ("text", {"max_steps": -1}, "execution.max_steps"),
        ("text", {"allowed_rules": ["Edit"] * 201}, "execution.allowed_rules"),
        ("text", {"allowed_rules": [""]}, "execution.allowed_rules"),
        ("text", {"model": "--model"}, "execution.model"),
        ("text", {"tenant": "a b"}, "execution.tenant"),
        ("text", {"last_entry": "/"}, "execution.last_entry"),
        ("text", {"resume_from": "--help"}, "execution.resume_from"),
    ],
)
async def test_what_cannot_be_is_refused(
    server: Server, prompt: str, changed: dict[str, Any], field: str
) -> None:
    """Before anything is accepted; the error names the field."""
    with pytest.raises(Failure) as caught:
        await server.create(prompt, **changed)

    assert "FIELD_INVALID" == reason(caught)
    assert field == caught.value.metadata["field"]


@pytest.mark.parametrize("chosen", [{"models": ("one", "two")}])
async def test_model_that_is_not_offered_is_refused(server: Server) -> None:
    """The error tells which are; where no model is asked, any name will do."""
    with pytest.raises(Failure) as refused:
        await server.create("hello", backend="backends/docker", model="three")
    with pytest.raises(Failure) as offered:
        await server.create("hello", backend="backends/docker", model="two")
    await server.create("hello", model="three")

    assert "execution.model must be one of one, two, or empty." == refused.value.message
    assert "BACKEND_UNAVAILABLE" == reason(offered)


async def test_budget_that_is_passed_leaves_nothing(server: Server) -> None:
    """What is left can be less than nothing."""
    budget = executions_pb2.Budget(agent_usd_micros=-3)
    created = await server.create("/sim say one", budget=budget)
    await server.items()

    assert 0 == created.budget.agent_usd_micros
    assert created.budget.HasField("agent_usd_micros")


async def test_cancelled_for_a_reason_it_fails_with_it(server: Server) -> None:
    """The caller's error becomes the outcome's."""
    await server.create("/sim hang")
    request = executions_pb2.CancelExecutionRequest(name="executions/e1")
    request.error.reason = errors_pb2.ERROR_REASON_PERMISSION_RESOLVED
    request.error.message = "Somebody knows why."
    request.grace_period.FromMilliseconds(0)
    await server.call(
        EXECUTIONS + "CancelExecution", request, executions_pb2.CancelExecutionResponse
    )
    outcome = (await server.items())[-1].turn_outcome

    assert Outcome.STATE_FAILED == outcome.state
    assert request.error.reason == outcome.error.reason
    assert "Somebody knows why." == outcome.error.message


async def test_execution_in_the_background_without_work_is_finished(server: Server) -> None:
    """There is no process, so that there is nothing to hear."""
    await server.create("", background=True)
    items = await server.items()

    assert Outcome.STATE_FINISHED == items[-1].turn_outcome.state
    assert 1 == len(items)


async def test_conversation_that_is_not_here_is_asked_for(server: Server) -> None:
    """Nothing is accepted before; once it is restored the agent goes on with it."""
    await server.create("first\n/sim say one")
    updates = [update async for update in server.watch()]
    parts = [one.event.transcript for one in updates if one.event.HasField("transcript")]
    going_on: dict[str, Any] = {
        "workspace": "workspaces/elsewhere",
        "resume_from": (await server.get()).conversation,
        "last_entry": parts[-1].last_entry,
    }
    with pytest.raises(Failure) as caught:
        await server.create("/sim recall", "e2", **going_on)
    with pytest.raises(Failure) as absent:
        await server.get("e2")
    for part in parts:
        request = workspaces_pb2.RestoreTranscriptRequest(
            name="workspaces/elsewhere", conversation=part.conversation, entries=part.entries
        )
        await server.call(
            "/moorline.executor.v1.WorkspaceService/RestoreTranscript",
            request,
            workspaces_pb2.RestoreTranscriptResponse,
        )
    await server.create("/sim recall", "e2", **going_on)
    items = await server.items("e2")

    assert "TRANSCRIPT_NEEDED" == reason(caught)
    assert "RESOURCE_NOT_FOUND" == reason(absent)
    assert "I remember: first" == items[0].agent_message.text


class TestBackends:
    """What backends there are, as the operator chose."""

    @pytest.fixture
    def chosen(self) -> dict[str, Any]:
        """Two models."""
        return {"models": ("dear", "cheap"), "default_backend": "docker"}

    async def test_models_are_listed_where_one_is_needed(self, server: Server) -> None:
        """A simulated agent has no choice; the default backend is the operator's."""
        response = await server.call(
            "/moorline.executor.v1.BackendService/ListBackends",
            backends_pb2.ListBackendsRequest(),
            backends_pb2.ListBackendsResponse,
        )
        backends = {backend.name: backend for backend in response.backends}

        assert ["dear", "cheap"] == backends["backends/docker"].models
        assert [] == backends["backends/simulation"].models
        assert ["backends/docker"] == [name for name, one in backends.items() if one.default]
        assert not backends["backends/docker"].available


class TestQueue:
    """Executions with few slots."""

    @pytest.fixture
    def chosen(self) -> dict[str, Any]:
        """Two slots, which simulated turns take as well."""
        return {
            "limit_simulation": True,
            "max_running_turns": 2,
            "max_running_turns_per_tenant": 2,
            "max_agent_processes_per_tenant": 2,
        }

    async def test_crowd_of_one_user_does_not_keep_another_waiting(self, server: Server) -> None:
        """With fifty turns of one at once, another's has the first slot that becomes free."""
        for number in range(50):
            name = f"a{number}"
            workspace = f"workspaces/workspace{number}"
            await server.create("/sim hang", name, workspace=workspace, tenant="a")
        await server.create("/sim say one", "b1", workspace=WORKSPACE, tenant="b")
        watch = server.watch("b1")
        updates = [await anext(watch)]
        await server.cancel("a0")
        updates += [update async for update in watch]
        waiting = server.watch("a49")
        place = (await anext(waiting)).progress.queue_position

        assert Outcome.STATE_FINISHED == updates[-1].event.item.turn_outcome.state
        assert [1, 0] == [one.progress.queue_position for one in updates[:2]]
        assert place > 40

    async def test_waiting_can_be_cancelled(self, server: Server) -> None:
        """It never begins, and its place is free for the next."""
        for name in ("e1", "e2", "e3", "e4"):
            workspace = f"workspaces/workspace{name}"
            await server.create("/sim hang", name, workspace=workspace)
        await server.cancel("e3")
        items = await server.items("e3")
        await server.cancel("e1")
        await server.items("e1")
        async for update in server.watch("e4"):
            if update.HasField("progress") and not update.progress.queue_position:
                break

        assert [Outcome.STATE_CANCELLED] == [item.turn_outcome.state for item in items]
