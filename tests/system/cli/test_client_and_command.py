"""The client and the command against the three real services."""

from __future__ import annotations

import asyncio
import json
import random
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

import moorline
from tests.system.stack import ROOT, Stack


@pytest.fixture
async def client(stack: Stack) -> AsyncIterator[moorline.AsyncClient]:
    """A connected client of the development user."""
    async with moorline.AsyncClient(stack.url, stack.token, environ={}) as client:
        yield client


async def command(
    stack: Stack, home: Path, *arguments: str, stdin: bytes | None = None
) -> tuple[int, str, str]:
    """Run `moorline` with the token file `make run` writes."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "moorline.cli.main",
        "--token-file",
        str(stack.data / "token"),
        *arguments,
        cwd=ROOT,
        env={
            "MOORLINE_URL": stack.url,
            "MOORLINE_LANG": "en",
            "XDG_CONFIG_HOME": str(home / "config"),
            "XDG_STATE_HOME": str(home / "state"),
        },
        stdin=asyncio.subprocess.DEVNULL if stdin is None else asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(30):
        out, err = await process.communicate(stdin)
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()


async def test_a_turn_is_answered_in_the_users_language(client: moorline.AsyncClient) -> None:
    """The simulated agent answers; its deltas are its message."""
    agent = await client.agents.create(display_name="system")
    deltas = ""
    async with agent.run("안녕하세요") as stream:
        async for event in stream:
            if isinstance(event, moorline.TextDelta):
                deltas += event.text
    answer = "Claude Code CLI가 Kubernetes 환경에서 실행 중입니다.\n\n사용자 메시지: 안녕하세요"
    assert answer == stream.result_or_raise().text == deltas


async def test_cut_at_random_nothing_is_lost_or_doubled(client: moorline.AsyncClient) -> None:
    """A client cut many times during a streamed turn reads what an undisturbed one reads."""
    dice = random.Random(11)
    agent = await client.agents.create()
    deltas: dict[str, str] = {}
    sequences: list[int] = []
    async with agent.run("/sim stream 1500 1\n/sim say the end") as stream:
        async for event in stream:
            match event:
                case moorline.TextDelta():
                    deltas[event.block_id] = deltas.get(event.block_id, "") + event.text
                    if dice.random() < 0.05:
                        client.connection.drop()
                case moorline.StoredEvent():
                    sequences.append(event.sequence)
    words = " ".join(f"w{number}" for number in range(1, 1501))
    assert [words, "the end"] == list(deltas.values())
    assert f"{words}\n\nthe end" == stream.result_or_raise().text
    assert list(range(1, len(sequences) + 1)) == sequences


async def test_the_same_turn_id_is_one_turn(client: moorline.AsyncClient) -> None:
    """Sent twenty times at once it is one turn, with another prompt a conflict."""
    agent = await client.agents.create()
    turns = await asyncio.gather(*(agent.send("hello", turn_id="once") for _ in range(20)))
    assert {turns[0].name} == {turn.name for turn in turns}
    with pytest.raises(moorline.ConflictError) as refused:
        await agent.send("other", turn_id="once")
    assert "RESOURCE_EXISTS" == refused.value.reason
    assert (await agent.turn("once").wait()).finished


async def test_many_calls_at_once_keep_within_the_limits(client: moorline.AsyncClient) -> None:
    """A program that asks for too much at once waits; it is not refused."""
    agent = await client.agents.create()
    found = await asyncio.gather(*(agent.refresh() for _ in range(90)))
    assert {agent.name} == {each.name for each in found}


async def test_queued_turns_show_their_own_text(client: moorline.AsyncClient) -> None:
    """Turns that wait are followed from their own first word."""
    agent = await client.agents.create()

    async def ask(text: str) -> tuple[str, str]:
        deltas: dict[str, str] = {}
        async with agent.run(f"/sim stream 40 5\n/sim say {text}") as stream:
            async for event in stream:
                if isinstance(event, moorline.TextDelta):
                    deltas[event.block_id] = deltas.get(event.block_id, "") + event.text
        return "\n\n".join(deltas.values()), stream.result.text

    for deltas, text in await asyncio.gather(ask("one"), ask("two"), ask("three")):
        assert text == deltas


async def test_permissions_and_cancelling(client: moorline.AsyncClient) -> None:
    """A request is answered from the stream; cancelling an open one ends the turn."""
    agent = await client.agents.create()
    asked: list[str] = []

    def decide(request: moorline.PermissionRequest) -> bool:
        asked.append(str(request.input["text"]))
        return True

    async with agent.run("/sim ask Bash ls -l\n/sim say done", on_permission=decide) as stream:
        assert "done" == (await stream.wait()).text
    assert ["ls -l"] == asked
    async with agent.run("/sim ask Bash rm") as stream:
        async for event in stream:
            if isinstance(event, moorline.PermissionRequest):
                await stream.cancel()
    assert moorline.OutcomeState.CANCELLED is stream.result.outcome.state


async def test_errors_are_typed(stack: Stack, client: moorline.AsyncClient) -> None:
    """Refusals of the real gateway are the exceptions documented."""
    with pytest.raises(moorline.NotFoundError):
        await client.agents.get("nobody")
    with pytest.raises(moorline.InvalidRequestError):
        await client.agents.create(agent_id="No Such Id!")
    agent = await client.agents.create()
    with pytest.raises(moorline.SequenceUnknownError):
        await anext(agent.events(after=99))
    with pytest.raises(moorline.AuthenticationError):
        async with moorline.AsyncClient(stack.url, "wrong", environ={}):
            pass


async def test_agents_are_watched(client: moorline.AsyncClient) -> None:
    """The list of agents is live."""
    async with client.agents.watch() as changes:
        async for change in changes:
            if isinstance(change, moorline.AgentsListed):
                break
        agent = await client.agents.create(display_name="seen")
        # The agents of other tests change, too.
        async for change in changes:
            if isinstance(change, moorline.AsyncAgent) and change.name == agent.name:
                assert "seen" == change.display_name
                break
        await agent.delete()
        async for change in changes:
            if change == moorline.AgentRemoved(name=agent.name):
                break


@pytest.mark.parametrize("service", ["gateway", "session", "executor"])
async def test_a_service_killed_in_a_turn_is_survived(own_stack: Stack, service: str) -> None:
    """A program's loop over a turn goes on by itself when a service dies and comes back."""
    async with moorline.AsyncClient(own_stack.url, own_stack.token, environ={}) as client:
        agent = await client.agents.create()
        killing: asyncio.Task[None] | None = None
        deltas: dict[str, str] = {}
        async with asyncio.timeout(40), agent.run("/sim stream 200 10") as stream:
            async for event in stream:
                match event:
                    case moorline.TextDelta():
                        if event.snapshot:
                            deltas[event.block_id] = ""
                        deltas[event.block_id] = deltas.get(event.block_id, "") + event.text
                        killing = killing or asyncio.create_task(own_stack.kill(service))
                    case moorline.MessageDiscarded():
                        deltas.pop(event.block_id)
        assert killing is not None
        await killing
        words = " ".join(f"w{number}" for number in range(1, 201))
        assert words == stream.result_or_raise().text
        assert words in deltas.values()


async def test_the_synchronous_client(stack: Stack) -> None:
    """The same, without an event loop."""

    def program() -> str:
        with moorline.Client(stack.url, stack.token, environ={}) as client:
            return client.run("/sim ask Bash x\n/sim say done", on_permission=lambda _: True).text

    assert "done" == await asyncio.to_thread(program)


async def test_the_command_answers_and_exits(stack: Stack, tmp_path: Path) -> None:
    """`moorline -p` prints the answer alone, and JSON lines that end with the outcome."""
    code, out, _ = await command(stack, tmp_path, "-p", "/sim say hello\n/sim say again")
    assert (0, "hello\n\nagain\n") == (code, out)
    code, out, _ = await command(stack, tmp_path, "-p", "/sim say hello", "-o", "jsonl")
    items = [next(iter(json.loads(line)["event"]["item"])) for line in out.splitlines()]
    assert (0, ["userMessage", "agentMessage", "turnOutcome"]) == (code, items)
    code, out, _ = await command(stack, tmp_path, "-p", "-", stdin=b"/sim say piped\n")
    assert (0, "piped\n") == (code, out)


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["-p", "/sim crash"], 1),
        (["-p", "hi", "--agent", "nobody"], 2),
        (["-p", "/sim hang", "--timeout", "300ms"], 3),
        (["ls", "--token-file", "/dev/null"], 4),
        (["-p", "/sim ask Bash x", "--no-input"], 5),
        (["-p", "/sim fail overloaded"], 6),
        (["ls", "--url", "http://127.0.0.1:1"], 7),
    ],
)
async def test_the_exit_codes(
    stack: Stack, tmp_path: Path, arguments: list[str], code: int
) -> None:
    """Each documented code comes from the real services, too."""
    got, _, err = await command(stack, tmp_path, *arguments)
    assert code == got, err


async def test_the_command_steers_from_another_terminal(stack: Stack, tmp_path: Path) -> None:
    """`new`, `-p --detach`, `approve`, `logs`, `stop`, `rm` work on one agent."""
    agent = (await command(stack, tmp_path, "new", "--name", "steered"))[1].strip()
    await command(stack, tmp_path, "-p", "/sim ask Bash x\n/sim say so", "--detach")
    async with asyncio.timeout(30):
        while (await command(stack, tmp_path, "approve", agent))[0]:
            pass
    async with moorline.AsyncClient(stack.url, stack.token, environ={}) as client:
        (turn,) = await (await client.agents.get(agent)).turns()
        assert "so" == (await turn.wait()).text
    _, out, _ = await command(stack, tmp_path, "logs", agent)
    assert "allowed (user)" in out
    _, out, _ = await command(stack, tmp_path, "ls", "-o", "json")
    assert agent in [row["agent"] for row in json.loads(out)]
    await command(stack, tmp_path, "-p", "/sim hang", "--agent", agent, "--detach")
    assert 0 == (await command(stack, tmp_path, "stop", agent))[0]
    assert 0 == (await command(stack, tmp_path, "rm", agent))[0]
    assert 2 == (await command(stack, tmp_path, "logs", agent))[0]


async def test_a_key_opens_the_door_and_is_revoked(stack: Stack, tmp_path: Path) -> None:
    """`key create` prints a secret that is good until `key revoke`."""
    code, secret, _ = await command(stack, tmp_path, "key", "create", "--user", "bob")
    assert 0 == code
    async with moorline.AsyncClient(stack.url, secret.strip(), environ={}) as client:
        assert "users/bob" == client.user
    _, out, _ = await command(stack, tmp_path, "key", "ls", "--user", "bob", "-o", "json")
    key = json.loads(out)[0]["key"]
    assert 0 == (await command(stack, tmp_path, "key", "revoke", key, "--user", "bob"))[0]
    # A gateway may trust what it has just verified for a few seconds more.
    async with asyncio.timeout(20):
        while await opens(stack, secret.strip()):  # noqa: ASYNC110 - another process's news
            await asyncio.sleep(0.2)


async def opens(stack: Stack, token: str) -> bool:
    """Whether a token is good."""
    try:
        async with moorline.AsyncClient(stack.url, token, environ={}):
            return True
    except moorline.AuthenticationError:
        return False


async def test_the_context_make_run_leaves_is_found(stack: Stack) -> None:
    """With nothing but the folder `make run` wrote to, the client connects."""
    environ = {"XDG_CONFIG_HOME": str(stack.data.parent / "config")}
    async with moorline.AsyncClient(environ=environ) as client:
        assert ("users/dev", "local") == (client.user, client.target.context)
