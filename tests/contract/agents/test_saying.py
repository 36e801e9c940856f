"""What an agent says arrives while it is said, and stands once."""

from __future__ import annotations

from tests.contract.agents.executors import ACCEPT_ALL, Agent
from tests.contract.agents.kinds import ONLY_REAL
from tests.contract.agents.turns import arguments
from tests.standin.server import StandIn


async def test_text_streams_and_then_stands(agent: Agent) -> None:
    """Its fragments arrive one after the other, and make up what is recorded."""
    turn = await agent.run("/sim stream 40 5")

    assert "finished" == turn.ending
    assert [" ".join(f"w{number}" for number in range(1, 41))] == turn.texts
    assert turn.texts == list(turn.shown.values())
    assert turn.deltas > 1


async def test_reasoning_is_kept_apart(agent: Agent) -> None:
    """What the agent thinks is not what it says."""
    turn = await agent.run("/sim think hm, well", "/sim say the answer")

    assert ["hm, well"] == [one.text for one in turn.of("agent_thought")]
    assert ["the answer"] == turn.texts


async def test_long_answer_comes_in_pieces(agent: Agent) -> None:
    """Each is at most 64 KiB, and nothing is lost between them."""
    turn = await agent.run("/sim stream 20000 0")
    said = [one.text for one in turn.of("agent_message")]

    assert " ".join(f"w{number}" for number in range(1, 20_001)) == "".join(said)
    assert len(said) > 1
    assert max(len(text.encode()) for text in said) <= 64 << 10


async def test_any_language_passes_unchanged(agent: Agent) -> None:
    """Hangul, emoji, combining marks and quotes, in what is asked and what is said."""
    text = 'a "한글" 🎉 e\u0301 \\ 안녕하세요'
    turn = await agent.run(f"/sim say {text}")

    assert [text] == turn.texts


async def test_prompt_that_is_no_script_is_answered(agent: Agent) -> None:
    """Whatever it begins with: nothing of it is taken for a command."""
    turn = await agent.run("/cost of a @file, please")

    assert "finished" == turn.ending
    assert "/cost of a @file, please" in turn.texts[0]


async def test_longest_prompt_is_taken(agent: Agent) -> None:
    """A hundred thousand characters."""
    prompt = "/sim say taken\n"
    turn = await agent.run(prompt + "한" * (100_000 - len(prompt)))

    assert ["taken"] == turn.texts


async def test_longest_line_is_carried(agent: Agent) -> None:
    """A tool call of two megabytes does its work; what is shown of it is cut, and says so."""
    turn = await agent.run("/sim fill big.txt 2000000", permission_mode=ACCEPT_ALL)
    (call,) = turn.of("tool_call")

    assert "finished" == turn.ending
    assert 2_000_000 == (agent.files / "big.txt").stat().st_size
    assert call.omitted_bytes > 1_900_000
    assert ["truncated"] == list(arguments(call))


async def test_conversation_is_remembered(agent: Agent) -> None:
    """The second turn knows the first one."""
    await agent.run("the first", "/sim say one")
    turn = await agent.run("/sim recall")

    assert ["I remember: the first"] == turn.texts


async def test_two_prompts_at_once_are_two_turns(agent: Agent) -> None:
    """The later one ends the earlier one, and never becomes a part of it."""
    first = await agent.begin("/sim stream 2000 10")
    second = await agent.begin("/sim say mine")
    await agent.end(second)
    await first.over()

    assert "cancelled" == first.ending
    assert ["mine"] == second.texts


async def test_withdrawn_text_is_taken_back(agent: Agent) -> None:
    """After a stream that broke, the text that counts stands once."""
    turn = await agent.run("/sim retract bad idea", "/sim say good idea")

    # Who reads slowly has not even seen it.
    assert turn.discarded in ([], ["bad"], ["bad idea"])
    assert ["good idea"] == turn.texts == list(turn.shown.values())


async def test_text_before_an_error_stays(agent: Agent) -> None:
    """The provider breaks off in good order: the agent goes on where it was."""
    turn = await agent.run("/sim error half of", "/sim say the rest")

    assert "finished" == turn.ending
    assert ["half of", "the rest"] == turn.texts == list(turn.shown.values())


async def test_text_that_does_not_stream_stands(agent: Agent) -> None:
    """The provider gives the answer whole: it is shown, once."""
    turn = await agent.run("/sim unstreamed all at once")

    assert ["all at once"] == turn.texts == list(turn.shown.values())


async def test_shortened_memory_is_told(agent: Agent) -> None:
    """The turn goes on after it."""
    turn = await agent.run("/sim say before", "/sim compact", "/sim say after")
    (compaction,) = turn.of("compaction")

    assert "finished" == turn.ending
    assert ["before", "after"] == turn.texts
    assert compaction.automatic
    assert compaction.tokens_before > compaction.tokens_after > 0


@ONLY_REAL
async def test_prompt_reaches_the_model_as_it_is(agent: Agent, provider: StandIn) -> None:
    """Every character of it."""
    prompt = "/sim say ok\n" + "한글 🎉 \t" * 1_000 + "end"
    await agent.run(prompt)
    contents = [one["content"] for one in provider.ledger.entries[0].body["messages"]]
    texts = [part["text"] for content in contents if isinstance(content, list) for part in content]

    assert prompt in texts
