"""Tests of `services.session.answers`: what answers must hold, and what they change."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from moorline.session.v1 import agents_pb2
from moorline.transcript.v1 import transcript_pb2
from services.chassis.failures import Failure
from services.session.store import Update
from tests.unit.session.fakes import FakeExecution, FakeExecutor, FaultyStore
from tests.unit.session.service import AGENT, Service, until

Agent = agents_pb2.Agent
Answer = transcript_pb2.QuestionAnswer
Request = transcript_pb2.PermissionRequest
Suggestion = transcript_pb2.PermissionSuggestion

EDIT = Suggestion(suggestion_id="edit", rules=["Edit", "Bash(npm test:*)"])
ACCEPT = Suggestion(suggestion_id="accept", accept_edits=True)
OPTIONS = [transcript_pb2.Question.Option(label=label) for label in "ab"]
QUESTIONS: dict[str, Any] = {
    "kind": Request.KIND_QUESTION,
    "questions": [
        transcript_pb2.Question(question="Which?", options=OPTIONS),
        transcript_pb2.Question(question="How many?"),
    ],
}


async def asked(service: Service, executor: FakeExecutor, **request: Any) -> FakeExecution:
    """Return the execution of a turn that asks."""
    await service.create_turn()
    execution = await executor.execution()
    execution.ask(**request)
    return execution


async def refused(service: Service, **answer: Any) -> str:
    """Return which field of an answer is at fault."""
    with pytest.raises(Failure) as failure:
        await service.resolve(**answer)
    assert "permission_decision" not in await service.kinds()
    return f"{failure.value.reason_name} {failure.value.metadata.get('field', '')}".strip()


class TestSuggestions:
    """What is allowed for the time to come."""

    async def test_its_rules_become_the_agents_in_the_same_commit(
        self, service: Service, executor: FakeExecutor, store: FaultyStore
    ) -> None:
        """With a new etag; those that it has are there once."""
        execution = await asked(service, executor, suggestions=[EDIT, ACCEPT])
        before = await service.get_agent()

        await service.resolve(suggestion_id="edit")

        agent = await service.get_agent()
        assert ["Edit", "Bash(npm test:*)"] == list(agent.allowed_rules)
        assert Agent.PERMISSION_MODE_ASK == agent.permission_mode
        assert before.etag != agent.etag
        [written] = [
            writes
            for writes in store.commits
            if any(
                isinstance(write, Update)
                and write.path == AGENT
                and write.fields["options"]["allowedRules"]
                for write in writes
            )
        ]
        assert any("events" in getattr(write, "fields", {}) for write in written)
        await until(lambda: len(execution.decisions) == 1)
        assert "edit" == execution.decisions[0].suggestion_id
        event = (await service.list_events())[-1].item.permission_decision
        assert ("edit", True) == (event.suggestion_id, event.allowed)

    async def test_the_next_process_has_them(
        self, make_service: Callable[[], Service], executor: FakeExecutor
    ) -> None:
        """And hands the answer over whole."""
        async with make_service() as service:
            await service.create_agent(allowed_rules=["Edit", "Write"])
            execution = await asked(service, executor, suggestions=[EDIT])
            executor.away = True
            await service.resolve(suggestion_id="edit")
        executor.away = False
        async with make_service() as service:
            rules = ["Edit", "Write", "Bash(npm test:*)"]
            assert rules == list((await service.get_agent()).allowed_rules)
            await until(lambda: bool(execution.decisions))
            assert "edit" == execution.decisions[0].suggestion_id

    async def test_edits_can_be_accepted_from_now_on(
        self, service: Service, executor: FakeExecutor
    ) -> None:
        """That is the agent's mode."""
        await asked(service, executor, suggestions=[ACCEPT])

        await service.resolve(suggestion_id="accept")

        assert Agent.PERMISSION_MODE_ACCEPT_EDITS == (await service.get_agent()).permission_mode

    async def test_what_changes_nothing_writes_nothing(
        self, make_service: Callable[[], Service], executor: FakeExecutor
    ) -> None:
        """An agent that accepts all asks no more for edits, and has the rules."""
        async with make_service() as service:
            await service.create_agent(
                permission_mode=Agent.PERMISSION_MODE_ACCEPT_ALL, allowed_rules=EDIT.rules
            )
            etag = (await service.get_agent()).etag
            both = Suggestion(suggestion_id="both", rules=EDIT.rules, accept_edits=True)
            await asked(service, executor, suggestions=[both])

            await service.resolve(suggestion_id="both")

            assert etag == (await service.get_agent()).etag

    async def test_it_must_be_one_of_the_requests(
        self, service: Service, executor: FakeExecutor
    ) -> None:
        """And makes no sense with a refusal."""
        await asked(service, executor, suggestions=[EDIT])

        field = "FIELD_INVALID decision.suggestion_id"
        assert field == await refused(service, suggestion_id="other")
        assert field == await refused(service, suggestion_id="edit", allowed=False)

    async def test_rules_that_no_agent_can_have_are_refused(
        self, service: Service, executor: FakeExecutor
    ) -> None:
        """The request can be allowed once."""
        odd = Suggestion(suggestion_id="odd", rules=["Bash(a) Edit(b)"])
        await asked(service, executor, suggestions=[odd])

        assert "FIELD_INVALID decision.suggestion_id" == await refused(service, suggestion_id="odd")
        await service.resolve()

    async def test_an_agent_has_room_for_so_many_rules(
        self, make_service: Callable[[], Service], executor: FakeExecutor
    ) -> None:
        """A hundred."""
        async with make_service() as service:
            await service.create_agent(allowed_rules=[f"Tool{n}" for n in range(99)])
            await asked(service, executor, suggestions=[EDIT])

            assert "QUOTA_EXCEEDED" == await refused(service, suggestion_id="edit")


class TestPlans:
    """A plan that is allowed ends the mode in which nothing is changed."""

    @pytest.mark.parametrize(
        ("suggestion", "after"),
        [("", Agent.PERMISSION_MODE_ASK), ("accept", Agent.PERMISSION_MODE_ACCEPT_EDITS)],
    )
    async def test_an_allowed_plan_changes_the_mode(
        self,
        make_service: Callable[[], Service],
        executor: FakeExecutor,
        suggestion: str,
        after: Agent.PermissionMode.ValueType,
    ) -> None:
        """To asking, or to accepting edits with that suggestion."""
        async with make_service() as service:
            await service.create_agent(permission_mode=Agent.PERMISSION_MODE_PLAN)
            await asked(service, executor, kind=Request.KIND_PLAN, plan="x", suggestions=[ACCEPT])

            await service.resolve(suggestion_id=suggestion)

            assert after == (await service.get_agent()).permission_mode

    async def test_a_refused_plan_changes_nothing(
        self, make_service: Callable[[], Service], executor: FakeExecutor
    ) -> None:
        """The agent plans on."""
        async with make_service() as service:
            await service.create_agent(permission_mode=Agent.PERMISSION_MODE_PLAN)
            await asked(service, executor, kind=Request.KIND_PLAN, plan="x")

            await service.resolve(allowed=False, reason="not yet")

            assert Agent.PERMISSION_MODE_PLAN == (await service.get_agent()).permission_mode


class TestQuestions:
    """To allow questions is to answer each."""

    async def test_answers_are_recorded_and_handed_over(
        self, service: Service, executor: FakeExecutor
    ) -> None:
        """Whole, in any order."""
        execution = await asked(service, executor, **QUESTIONS)
        answers = [
            Answer(question="How many?", answers=["three"]),
            Answer(question="Which?", answers=["a", "b"]),
        ]

        await service.resolve(answers=answers)

        await until(lambda: bool(execution.decisions))
        assert answers == list(execution.decisions[0].answers)
        event = (await service.list_events())[-1].item.permission_decision
        assert answers == list(event.answers)

    @pytest.mark.parametrize(
        "answers",
        [
            [],
            [Answer(question="Which?", answers=["a"])],
            [Answer(question="Which?", answers=["a"])] * 2,
            [Answer(question="Which?", answers=["a"]), Answer(question="How many?")],
            [
                Answer(question="Which?", answers=["a"]),
                Answer(question="How many?", answers=["x" * 2001]),
            ],
            [Answer(question="Which?", answers=["a"]), Answer(question="How many?", answers=[""])],
            [
                Answer(question="Which?", answers=["a"] * 21),
                Answer(question="How many?", answers=["1"]),
            ],
        ],
    )
    async def test_each_needs_some_of_bounded_length(
        self, service: Service, executor: FakeExecutor, answers: list[Answer]
    ) -> None:
        """Else the field is told."""
        await asked(service, executor, **QUESTIONS)

        assert "FIELD_INVALID decision.answers" == await refused(service, answers=answers)

    async def test_only_questions_that_are_allowed_have_answers(
        self, service: Service, executor: FakeExecutor
    ) -> None:
        """Neither a refusal nor a tool has."""
        await service.create_turn()
        execution = await executor.execution()
        execution.ask("p1", **QUESTIONS)
        execution.ask("p2")
        answers = [Answer(question="Which?", answers=["a"])]

        for permission, allowed in (("p1", False), ("p2", True)):
            with pytest.raises(Failure, match=r"decision\.answers"):
                await service.resolve(permission, allowed=allowed, answers=answers)
        await service.resolve("p1", allowed=False)


async def test_what_is_not_shown_whole_cannot_be_allowed(
    service: Service, executor: FakeExecutor
) -> None:
    """Nobody could know what would run; it can be refused."""
    await asked(service, executor, input_json='{"a', omitted_bytes=5)

    assert "FIELD_INVALID decision.allowed" == await refused(service)
    await service.resolve(allowed=False)


async def test_only_the_same_answer_repeats_the_first(
    service: Service, executor: FakeExecutor
) -> None:
    """Suggestion and answers are part of it, also once the turn has ended."""
    await service.create_turn()
    execution = await executor.execution()
    execution.ask("p1", suggestions=[EDIT, ACCEPT])
    execution.ask("p2", **QUESTIONS)
    which, many = (
        Answer(question="Which?", answers=["a"]),
        Answer(question="How many?", answers=["1"]),
    )
    await service.resolve("p1", suggestion_id="edit")
    await service.resolve("p2", answers=[which, many])

    for _ in range(2):
        await service.resolve("p1", suggestion_id="edit")
        await service.resolve("p2", answers=[many, which])
        for other in ("", "accept", "missing"):
            with pytest.raises(Failure, match="differently"):
                await service.resolve("p1", suggestion_id=other)
        with pytest.raises(Failure, match="differently"):
            await service.resolve("p2", answers=[which])
        if not execution.listeners:
            break
        execution.end()
        await service.ended()
