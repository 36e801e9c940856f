"""What an agent does is done exactly, and shown."""

from __future__ import annotations

from tests.contract.agents.executors import ACCEPT_ALL, ACCEPT_EDITS, Agent
from tests.contract.agents.turns import arguments


async def test_file_is_written_exactly(agent: Agent) -> None:
    """The bytes are those of the call; the call and its result are shown."""
    turn = await agent.run("/sim write a.txt 한글  text ", permission_mode=ACCEPT_EDITS)
    ((call, result),) = turn.steps

    assert "한글  text" == (agent.files / "a.txt").read_bytes().decode().rstrip()
    assert "Write" == call.tool_name
    assert arguments(call)["file_path"].endswith("a.txt")
    assert not result.failed


async def test_file_is_read(agent: Agent) -> None:
    """Its content is the tool's output; reading needs no permission."""
    await agent.run("/sim write a.txt the content", permission_mode=ACCEPT_EDITS)
    turn = await agent.run("/sim read a.txt")

    assert "finished" == turn.ending
    assert "the content" in turn.result("Read").output


async def test_file_is_edited_exactly(agent: Agent) -> None:
    """What is to be replaced is replaced, and nothing else."""
    turn = await agent.run(
        "/sim write a.txt one two three", "/sim edit a.txt two=>2", permission_mode=ACCEPT_EDITS
    )

    assert "finished" == turn.ending
    assert b"one 2 three" == (agent.files / "a.txt").read_bytes()
    assert not turn.result("Edit").failed


async def test_command_runs_in_the_workspace(agent: Agent) -> None:
    """It finds the agent's files, and leaves its own there."""
    turn = await agent.run("/sim bash echo hi > out.txt && cat out.txt", permission_mode=ACCEPT_ALL)

    assert "hi" == turn.result("Bash").output.strip()
    assert b"hi\n" == (agent.files / "out.txt").read_bytes()


async def test_failed_command_ends_nothing(agent: Agent) -> None:
    """The agent is told, and goes on."""
    turn = await agent.run("/sim bash cat missing && echo x", "/sim say on")

    assert turn.result("Bash").failed
    assert "finished" == turn.ending
    assert ["on"] == turn.texts


async def test_tools_called_together_all_run(agent: Agent) -> None:
    """Each call of one message has its own result."""
    script = ["/sim parallel 3", *(f"/sim bash echo {n} > {n}.txt" for n in (1, 2, 3))]
    turn = await agent.run(*script, "/sim say all", permission_mode=ACCEPT_ALL)

    assert [False] * 3 == [result.failed for _, result in turn.steps]
    assert [b"1\n", b"2\n", b"3\n"] == [
        (agent.files / f"{number}.txt").read_bytes() for number in (1, 2, 3)
    ]
    assert ["all"] == turn.texts


async def test_sub_agent_is_shown_by_its_parent(agent: Agent) -> None:
    """What it does carries the call that started it; the main agent's words do not."""
    turn = await agent.run(
        "/sim task bash echo sub > sub.txt ;; say found it",
        "/sim say after",
        permission_mode=ACCEPT_ALL,
    )
    parent, child = turn.of("tool_call")
    said = [one for one in turn.of("agent_message") if one.parent_tool_call_id]

    assert b"sub\n" == (agent.files / "sub.txt").read_bytes()
    assert "" == parent.parent_tool_call_id
    assert parent.tool_call_id == child.parent_tool_call_id
    # Its last words are the result of the call, and may be nothing else.
    assert {parent.tool_call_id} >= {one.parent_tool_call_id for one in said}
    assert "found it" in turn.result(parent.tool_name).output
    assert ["after"] == turn.texts


async def test_sub_agent_that_fails_fails_its_call_only(agent: Agent) -> None:
    """Why is its result, and the main agent goes on; what it had done stays done."""
    turn = await agent.run(
        "/sim task bash echo sub > sub.txt ;; say some words ;; fail auth",
        "/sim say after",
        permission_mode=ACCEPT_ALL,
    )
    parent, _ = turn.of("tool_call")
    result = turn.result(parent.tool_name)

    assert b"sub\n" == (agent.files / "sub.txt").read_bytes()
    assert result.failed
    assert "401" in result.output
    assert ["after"] == turn.texts
    assert "finished" == turn.ending


async def test_what_a_turn_changed_is_told(agent: Agent) -> None:
    """File by file, with its difference, right before the outcome."""
    await agent.run("/sim write old.txt old", permission_mode=ACCEPT_ALL)
    turn = await agent.run(
        "/sim read old.txt",
        "/sim edit old.txt old=>new",
        "/sim write sub/more.txt more",
        permission_mode=ACCEPT_ALL,
    )
    quiet = await agent.run("/sim say nothing")
    (changes,) = turn.of("file_changes")
    old, more = changes.changes

    assert ["file_changes", "turn_outcome"] == turn.kinds[-2:]
    assert ("old.txt", "sub/more.txt") == (old.path, more.path)
    assert (old.KIND_CHANGED, more.KIND_ADDED) == (old.kind, more.kind)
    assert "-old" in old.diff
    assert "+new" in old.diff
    assert [] == quiet.of("file_changes")
