"""The door of `ExecutionService`: checks requests, calls the logic, builds responses.

Does not know how an execution is run.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import timedelta
from typing import Any

import grpc
from google.protobuf import duration_pb2, timestamp_pb2

from moorline.executor.v1 import executions_pb2, executions_pb2_grpc
from services.chassis.failures import Failure, field_invalid
from services.executor import following, names
from services.executor.agent_process import Budget, Work
from services.executor.execution import Execution
from services.executor.executions import Executions, Forgotten
from services.executor.following import ExecutionFeeds

Context = grpc.aio.ServicerContext[Any, Any]

_TEXT_LIMIT = 100_000
_ACKNOWLEDGEMENTS_LIMIT = 1_000
_REASON_LIMIT = 2_000
_BATCH_BYTES = 128 << 10
"""Bytes to stay near in one response of a watch."""
_RULES_LIMIT = 200
_RULE_LIMIT = 1_000
_HANDLE = re.compile(r"(?:[A-Za-z0-9][A-Za-z0-9_-]{0,127})?")
_MODEL = re.compile(r"(?:[A-Za-z0-9][A-Za-z0-9._:/@\[\]-]{0,199})?")
_MODES = frozenset(executions_pb2.Execution.PermissionMode.values())


class ExecutionApi(executions_pb2_grpc.ExecutionServiceServicer):
    """Serves `ExecutionService`.

    Args:
        executions: All executions.
        feeds: The open feeds, which may follow an execution from its creation on.
        default_backend: Backend of an execution that names none.
        models: Models to choose from, by backend; no entry, or none, to take any.
        timeout: Time allowed to an execution that names none.
    """

    def __init__(
        self,
        *,
        executions: Executions,
        feeds: ExecutionFeeds,
        default_backend: str,
        models: Mapping[str, Sequence[str]],
        timeout: timedelta,
    ) -> None:
        self._executions = executions
        self._feeds = feeds
        self._default_backend = default_backend
        self._models = models
        self._timeout = timeout

    async def CreateExecution(
        self, request: executions_pb2.CreateExecutionRequest, context: Context
    ) -> executions_pb2.CreateExecutionResponse:
        """Start an execution."""
        if request.feed_id and request.subscription < 1:
            raise field_invalid("subscription", "must be a new number, at least 1")
        work = self._work(request)
        if work.last_entry:
            await self._executions.check_transcript(work)
        execution = self._executions.create(work)
        followed = self._follow(execution, request.feed_id, request.subscription)
        return executions_pb2.CreateExecutionResponse(
            execution=_resource(execution), followed=followed
        )

    async def GetExecution(
        self, request: executions_pb2.GetExecutionRequest, context: Context
    ) -> executions_pb2.GetExecutionResponse:
        """Return one execution."""
        execution = self._get(request.name, field="name")
        return executions_pb2.GetExecutionResponse(execution=_resource(execution))

    async def WatchExecution(
        self, request: executions_pb2.WatchExecutionRequest, context: Context
    ) -> AsyncIterator[executions_pb2.WatchExecutionResponse]:
        """Follow one execution to its outcome."""
        execution = self._get(request.name, field="name")
        after = check_after(request.after_sequence, field="after_sequence")
        news = asyncio.Event()
        cursor = execution.book.follow(after=after, mark=news.set)
        try:
            while not cursor.done:
                self._executions.check_serving()
                news.clear()
                response = executions_pb2.WatchExecutionResponse()
                taken, more = cursor.take(_BATCH_BYTES, response)
                if taken:
                    yield response
                if not more and not cursor.done:
                    # As long as the agent works; a client that leaves cancels this.
                    await news.wait()
        finally:
            cursor.close()

    async def AcknowledgeExecutions(
        self, request: executions_pb2.AcknowledgeExecutionsRequest, context: Context
    ) -> executions_pb2.AcknowledgeExecutionsResponse:
        """Forget what is stored."""
        if len(request.acknowledgements) > _ACKNOWLEDGEMENTS_LIMIT:
            raise field_invalid(
                "acknowledgements", f"must have at most {_ACKNOWLEDGEMENTS_LIMIT} entries"
            )
        acknowledged = [
            (names.execution_of(one.name, field="acknowledgements.name"), one.sequence)
            for one in request.acknowledgements
        ]
        for execution_id, sequence in acknowledged:
            self._executions.acknowledge(execution_id, sequence)
        return executions_pb2.AcknowledgeExecutionsResponse()

    async def ResolvePermission(
        self, request: executions_pb2.ResolvePermissionRequest, context: Context
    ) -> executions_pb2.ResolvePermissionResponse:
        """Hand a permission decision to the agent."""
        execution = self._get(request.name, field="name")
        if not request.decision.permission_id:
            raise field_invalid("decision.permission_id", "must be set")
        if len(request.decision.reason) > _REASON_LIMIT:
            raise field_invalid("decision.reason", f"must have at most {_REASON_LIMIT} characters")
        await execution.answer(request.decision)
        return executions_pb2.ResolvePermissionResponse()

    async def CancelExecution(
        self, request: executions_pb2.CancelExecutionRequest, context: Context
    ) -> executions_pb2.CancelExecutionResponse:
        """Ask the agent to stop."""
        execution_id = names.execution_of(request.name, field="name")
        grace = _positive(request, "grace_period", zero=True)
        cause = Failure.from_error(request.error) if request.HasField("error") else None
        self._executions.cancel(execution_id, grace=grace, cause=cause)
        return executions_pb2.CancelExecutionResponse()

    def _get(self, name: str, *, field: str) -> Execution:
        return self._executions.get(names.execution_of(name, field=field))

    def _follow(self, execution: Execution | Forgotten, feed_id: str, subscription: int) -> bool:
        feed = self._feeds.find(feed_id)
        if feed is None or isinstance(execution, Forgotten) or not execution.book.whole:
            return False
        following.add(feed, subscription, execution.book, after=0)
        return True

    def _work(self, request: executions_pb2.CreateExecutionRequest) -> Work:
        wanted = request.execution
        _check_texts(wanted)
        if wanted.permission_mode not in _MODES:
            raise field_invalid("execution.permission_mode", "must be a known mode")
        if wanted.max_steps < 0:
            raise field_invalid("execution.max_steps", "must not be negative")
        mode = wanted.permission_mode or executions_pb2.Execution.PERMISSION_MODE_ASK
        backend = wanted.backend.removeprefix("backends/") or self._default_backend
        _check_model(wanted.model, self._models.get(backend, ()))
        return Work(
            execution_id=names.execution_id(request.execution_id, field="execution_id"),
            backend=backend,
            workspace=names.workspace_of(wanted.workspace, field="execution.workspace"),
            prompt=wanted.prompt.text,
            instructions=wanted.instructions,
            permission_mode=mode,
            resume_from=wanted.resume_from,
            timeout=_positive(wanted, "timeout", zero=False) or self._timeout,
            model=wanted.model,
            allowed_rules=tuple(wanted.allowed_rules),
            max_steps=wanted.max_steps,
            budget=_budget(wanted.budget),
            tenant=wanted.tenant,
            background=wanted.background,
            last_entry=wanted.last_entry,
        )


def _check_texts(wanted: executions_pb2.Execution) -> None:
    least = 0 if wanted.background else 1
    most = 0 if wanted.background else _TEXT_LIMIT
    if not least <= len(wanted.prompt.text) <= most:
        rule = "must be empty" if wanted.background else f"must have 1 to {most} characters"
        raise field_invalid("execution.prompt.text", rule)
    if len(wanted.instructions) > _TEXT_LIMIT:
        raise field_invalid("execution.instructions", f"must have at most {_TEXT_LIMIT} characters")
    if len(wanted.allowed_rules) > _RULES_LIMIT:
        raise field_invalid("execution.allowed_rules", f"must be at most {_RULES_LIMIT}")
    if not all(1 <= len(rule) <= _RULE_LIMIT for rule in wanted.allowed_rules):
        raise field_invalid("execution.allowed_rules", f"must have 1 to {_RULE_LIMIT} characters")
    for field in ("resume_from", "tenant", "last_entry"):
        if _HANDLE.fullmatch(getattr(wanted, field)) is None:
            raise field_invalid(f"execution.{field}", "must be as it was told, or chosen, before")


def _check_model(model: str, models: Sequence[str]) -> None:
    if _MODEL.fullmatch(model) is None:
        raise field_invalid("execution.model", "must be a name of a model")
    if model and models and model not in models:
        raise field_invalid("execution.model", f"must be one of {', '.join(models)}, or empty")


def _budget(wanted: executions_pb2.Budget) -> Budget:
    return Budget(
        turn=_micros(wanted, "turn_usd_micros"),
        agent=_micros(wanted, "agent_usd_micros"),
        month=_micros(wanted, "month_usd_micros"),
    )


def _micros(wanted: executions_pb2.Budget, field: Any) -> int | None:
    # What is left of a budget can be less than nothing.
    return max(0, getattr(wanted, field)) if wanted.HasField(field) else None


def check_after(after: int, *, field: str) -> int:
    """Check a position in a book.

    Raises:
        Failure: FIELD_INVALID.
    """
    if after < 0:
        raise field_invalid(field, "must be at least 0")
    return after


def _positive(message: Any, field: str, *, zero: bool) -> timedelta | None:
    if not message.HasField(field):
        return None
    value: duration_pb2.Duration = getattr(message, field)
    length = timedelta(seconds=value.seconds, microseconds=value.nanos / 1000)
    if length < timedelta(0) or (not length and not zero):
        raise field_invalid(field, "must not be negative" if zero else "must be positive")
    return length


def _resource(execution: Execution | Forgotten) -> executions_pb2.Execution:
    if isinstance(execution, Forgotten):
        return executions_pb2.Execution(
            name=f"executions/{execution.execution_id}",
            backend=execution.backend,
            workspace=f"workspaces/{execution.workspace}",
            state=executions_pb2.Execution.STATE_ENDED,
        )
    work = execution.work
    seconds, nanos = divmod(execution.create_time_ns, 10**9)
    resource = executions_pb2.Execution(
        name=f"executions/{work.execution_id}",
        backend=work.backend,
        workspace=f"workspaces/{work.workspace}",
        instructions=work.instructions,
        permission_mode=work.permission_mode,
        resume_from=work.resume_from,
        state=execution.state,
        conversation=execution.conversation,
        create_time=timestamp_pb2.Timestamp(seconds=seconds, nanos=nanos),
        model=work.model,
        allowed_rules=work.allowed_rules,
        max_steps=work.max_steps,
        budget=executions_pb2.Budget(
            turn_usd_micros=work.budget.turn,
            agent_usd_micros=work.budget.agent,
            month_usd_micros=work.budget.month,
        ),
        tenant=work.tenant,
        background=work.background,
        last_entry=work.last_entry,
    )
    resource.prompt.text = work.prompt
    resource.timeout.FromTimedelta(work.timeout)
    return resource
