"""What becomes of a turn when the model provider has trouble."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from moorline.errors.v1 import errors_pb2
from tests.contract.agents.conftest import Serve
from tests.contract.agents.executors import Agent, Executor
from tests.contract.agents.kinds import ONLY_REAL, Kind
from tests.contract.agents.turns import until
from tests.standin.server import StandIn

RETRIES = 2
"""So few that nobody waits long for the end; the default is for people, who would."""


@pytest.fixture
async def executor(serving: Serve) -> AsyncIterator[Executor]:
    """An executor that gives up soon."""
    async with serving("workspaces", PROVIDER_RETRIES=str(RETRIES)) as executor:
        yield executor


@pytest.mark.parametrize(
    ("trouble", "reason", "status", "passes"),
    [
        ("auth", "PROVIDER_AUTHENTICATION", "401", False),
        ("forbidden", "PROVIDER_AUTHENTICATION", "403", False),
        ("bad_request", "PROVIDER_REJECTED", "400", False),
        ("overloaded", "PROVIDER_OVERLOADED", "529", True),
        ("rate_limited", "PROVIDER_RATE_LIMITED", "429", True),
        ("provider", "PROVIDER_FAILED", "500", True),
        ("provider_unreachable", "PROVIDER_UNREACHABLE", "", True),
    ],
)
async def test_failure_has_its_reason(
    agent: Agent, trouble: str, reason: str, status: str, passes: bool
) -> None:
    """It tells whether the same turn may succeed later; the next prompt works."""
    turn = await agent.run(f"/sim fail {trouble}")
    after = await agent.run("/sim say alive")
    error = turn.outcome.error

    assert f"failed {reason}" == turn.ending
    assert status == error.metadata["status"]
    assert passes == error.HasField("retry_delay")
    assert [] == turn.texts
    assert ["alive"] == after.texts


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        (0, "PROVIDER_UNREACHABLE"),
        (429, "PROVIDER_RATE_LIMITED"),
        (500, "PROVIDER_FAILED"),
        (529, "PROVIDER_OVERLOADED"),
    ],
)
async def test_trouble_that_passes_is_shown(
    agent: Agent, kind: Kind, status: int, reason: str
) -> None:
    """Each repetition is told with its cause, and the turn goes on."""
    turn = await agent.run(f"/sim retry 1 {status}", "/sim say after all")
    (retry,) = turn.of("provider_retry")

    assert "finished" == turn.ending
    assert 1 == retry.attempt
    assert not kind.real or RETRIES == retry.attempts
    assert reason == _name(retry.error.reason)
    assert ["after all"] == turn.texts


async def test_model_that_refuses_is_asked_once_more(agent: Agent) -> None:
    """What it had said stands, and the turn goes on."""
    turn = await agent.run("/sim think hm", "/sim refuse I would rather", "/sim say gladly")
    (retry,) = turn.of("provider_retry")

    assert "finished" == turn.ending
    assert "PROVIDER_REJECTED" == _name(retry.error.reason)
    assert ["I would rather", "gladly"] == turn.texts
    assert [] == turn.discarded


@pytest.mark.parametrize(("first", "said"), [("", []), (" I can", ["I can", "I cannot"])])
async def test_model_that_refuses_again_ends_the_turn(
    agent: Agent, first: str, said: list[str]
) -> None:
    """With a reason, and not to be tried again as it is; another prompt works."""
    last = " I cannot" if first else ""
    turn = await agent.run(f"/sim refuse{first}", f"/sim refuse{last}", "/sim say never")
    after = await agent.run("/sim say alive")
    error = turn.outcome.error

    assert "failed PROVIDER_REJECTED" == turn.ending
    assert "200" == error.metadata["status"]
    assert not error.HasField("retry_delay")
    assert said == turn.texts
    assert ["alive"] == after.texts


async def test_another_model_goes_on(serving: Serve) -> None:
    """When the first one stays overloaded; it is told, and what was said stands once."""
    options = {"FALLBACK_MODEL": "claude-haiku-4-5", "PROVIDER_RETRIES": str(RETRIES)}
    async with serving("fallback", **options) as executor:
        turn = await executor.agent().run("/sim fallback", "/sim say from another one")
    (fallback,) = turn.of("model_fallback")

    assert "finished" == turn.ending
    assert "claude-haiku-4-5" == fallback.to_model == turn.outcome.model
    assert ["from another one"] == turn.texts


async def test_silent_provider_is_asked_again(serving: Serve) -> None:
    """Soon, and without the user's help."""
    async with serving("impatient", UPSTREAM_SILENCE="1") as executor:
        turn = await executor.agent().run("/sim silence", "/sim say at last")

    assert "finished" == turn.ending
    assert 1 <= len(turn.of("provider_retry"))
    assert ["at last"] == turn.texts
    assert turn.ended - turn.began < 15


async def test_slow_provider_is_not_silent(serving: Serve) -> None:
    """A stream that takes longer than the silence it may keep is read to its end."""
    async with serving("impatient", UPSTREAM_SILENCE="6") as executor:
        turn = await executor.agent().run("/sim stream 35 200")

    assert "finished" == turn.ending
    assert [] == turn.of("provider_retry")
    assert turn.texts[0].endswith(" w35")


@pytest.mark.parametrize("model", ["claude-sonnet-5", "claude-haiku-4-5"])
async def test_chosen_model_answers(agent: Agent, model: str) -> None:
    """The outcome tells which one it was."""
    turn = await agent.run("/sim say hi", model=model)

    assert "finished" == turn.ending
    assert model == turn.outcome.model


@ONLY_REAL
async def test_chosen_model_is_asked(agent: Agent, provider: StandIn) -> None:
    """Another one may be chosen for the next turn, and the conversation goes on."""
    await agent.run("the first", "/sim say one", model="claude-sonnet-5")
    turn = await agent.run("/sim recall", model="claude-haiku-4-5")

    # Of a model it has not met yet, the program first asks one word.
    asked = dict.fromkeys(entry.model for entry in provider.ledger.entries)

    assert ["claude-sonnet-5", "claude-haiku-4-5"] == list(asked)
    assert ["I remember: the first"] == turn.texts


@ONLY_REAL
async def test_provider_that_is_not_there(serving: Serve) -> None:
    """Nobody listens at its address: the turn fails, and tells that it may pass."""
    # Held, so that nobody else can listen there meanwhile.
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{held.getsockname()[1]}"
        async with serving("nobody", MODEL_UPSTREAM=address, PROVIDER_RETRIES="1") as executor:
            turn = await executor.agent().run("/sim say never")

    assert "failed PROVIDER_UNREACHABLE" == turn.ending
    assert turn.outcome.error.HasField("retry_delay")


@ONLY_REAL
async def test_rotated_key_is_used_at_once(agent: Agent, provider: StandIn, tmp_path: Path) -> None:
    """The old one is refused; once the file has the new one, the same process goes on."""
    await agent.run("/sim say before")
    provider.key = "sk-rotated"
    refused = await agent.run("/sim say refused")
    (tmp_path / "key").write_text("sk-rotated\n")
    after = await agent.run("/sim say after")

    assert "failed PROVIDER_AUTHENTICATION" == refused.ending
    assert ["after"] == after.texts


@ONLY_REAL
async def test_stopped_turn_leaves_no_request(agent: Agent, provider: StandIn) -> None:
    """The provider is not made to write what nobody will read."""
    turn = await agent.begin("/sim stream 2000 20")
    await turn.until(lambda: turn.deltas > 3)
    await agent.cancel(turn)
    await agent.end(turn)
    await until(lambda: not provider.ledger.active)

    assert 1 == provider.ledger.aborted


def _name(reason: int) -> str:
    name = errors_pb2.ErrorReason.Name(errors_pb2.ErrorReason.ValueType(reason))
    return name.removeprefix("ERROR_REASON_")
