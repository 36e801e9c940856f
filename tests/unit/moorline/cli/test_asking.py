"""Tests of `moorline -p`: the answer, the exit code, the agent asked."""

from __future__ import annotations

import asyncio
import io
import signal

import pytest

from moorline.cli.exits import Exit
from moorline.cli.invocation import Surroundings
from moorline.cli.main import run
from tests.unit.moorline.cli.conftest import Moorline, Spawn
from tests.unit.moorline.scripted import Gateway
from tests.unit.moorline.scripted_platform import Json, RefusedError, Turn, error, until


async def hang(turn: Turn) -> None:
    """Do nothing for ever."""
    await asyncio.Event().wait()


async def ask_bash(turn: Turn) -> None:
    """Ask for one permission."""
    decision = await turn.ask("Bash")
    await turn.say(f"Bash {decision['allowed']}")


async def test_the_answer_goes_to_standard_output_alone(moorline: Moorline) -> None:
    """Exit 0: standard output is the answer and nothing else."""
    done = await moorline("-p", "hello")
    assert (0, "You said: hello\n") == (done.code, done.out)
    assert "New agent" in done.err
    assert "$0.0015" in done.err


async def test_several_messages_are_paragraphs(gateway: Gateway, moorline: Moorline) -> None:
    """Between messages there is a blank line; tools, thoughts and retractions are asides."""

    async def script(turn: Turn) -> None:
        turn.record(agentThought={"blockId": "t", "text": "hm\nhm"})
        await turn.say("one")
        turn.record(toolCall={"toolCallId": "c", "toolName": "Bash", "inputJson": '{"a": 1}'})
        turn.record(toolResult={"toolCallId": "c", "output": "bad\x1b[31m", "failed": True})
        turn.agent.write("gone", "not this")
        turn.agent.discard("gone")
        turn.record(turnAttempt={"attempt": 2})
        await turn.say("two\n")

    gateway.platform.script = script
    done = await moorline("-p", "hello")
    assert "one\n\ntwo\n" == done.out
    for aside in ("✻ hm…", '● Bash {"a": 1}', "⎿ failed: bad[31m", "attempt 2"):
        assert aside in done.err


async def test_json_lines_are_the_updates_of_the_socket(
    gateway: Gateway, moorline: Moorline
) -> None:
    """`-o jsonl` writes every event as the WebSocket has it; the last one is the outcome."""
    done = await moorline("-o", "jsonl", "-p", "hello")
    (agent,) = gateway.platform.agents.values()
    assert [{"event": event} for event in agent.events] == done.lines
    assert "turnOutcome" in done.lines[-1]["event"]["item"]
    done = await moorline("-o", "jsonl", "--deltas", "-p", "hello")
    said = "".join(line["delta"]["text"] for line in done.lines if "delta" in line)
    assert "You said: hello" == said
    assert "turnOutcome" in done.lines[-1]["event"]["item"]


async def test_json_is_one_object(moorline: Moorline) -> None:
    """`-o json` writes the text and the outcome at the end."""
    done = await moorline("-p", "hello", "-o", "json")
    (only,) = done.lines
    assert "You said: hello" == only["text"]
    assert "STATE_FINISHED" == only["outcome"]["state"]
    assert only["turn"].startswith("users/ada/agents/")


@pytest.mark.parametrize(
    ("outcome", "code", "words"),
    [
        ({"state": "STATE_FAILED", "error": error("AGENT_CRASHED")}, 1, "process died"),
        ({"state": "STATE_LOST", "error": error("INTERNAL", "Why?")}, 1, "lost: The server failed"),
        ({"state": "STATE_TRANSCENDED"}, 1, "does not know"),
        ({"state": "STATE_CANCELLED"}, 3, "cancelled"),
        ({"state": "STATE_FAILED", "error": error("PROVIDER_OVERLOADED")}, 6, "overloaded"),
    ],
)
async def test_how_a_turn_ends_is_the_exit_code(
    gateway: Gateway, moorline: Moorline, outcome: Json, code: int, words: str
) -> None:
    """1 for a failure, 3 when somebody cancelled it, 6 for a limit."""

    async def script(turn: Turn) -> Json:
        return outcome

    gateway.platform.script = script
    done = await moorline("-p", "hello")
    assert code == done.code
    assert words in done.err
    assert "" == done.out


@pytest.mark.parametrize(
    "arguments",
    [
        ["-p", "hi", "--permission-mode", "maybe"],
        ["-p", "hi", "--timeout", "soon"],
        ["-p", "hi", "--timeout", "0s"],
        ["-p", "hi", "--new", "--agent", "one"],
        ["-p", "hi", "--agent", "nobody"],
        ["-p", "  "],
        [],
        ["attach"],
        ["frobnicate"],
        ["--frobnicate"],
        ["-p", "hi", "--url", "nonsense"],
        ["-p", "hi", "--context", "nowhere"],
        ["-p", "hi", "ls"],
        ["--prompt", "hi", "key", "ls"],
        ["--backend", "docker", "new"],
        ["--no-input", "ls"],
    ],
)
async def test_wrong_usage_is_two(moorline: Moorline, arguments: list[str]) -> None:
    """Exit 2, and nothing on standard output."""
    done = await moorline(*arguments)
    assert (2, "") == (done.code, done.out)


async def test_options_of_a_prompt_exclude_a_command(moorline: Moorline) -> None:
    """Nothing that was asked for is left out in silence."""
    done = await moorline("-o", "json", "-p", "hi", "ls")
    assert "--prompt and ls exclude each other." in done.err


@pytest.mark.parametrize("options", [[], ["--detach"]])
@pytest.mark.parametrize("limit", ["frameBytes", "promptCharacters"])
async def test_a_prompt_that_is_too_long_is_two(
    gateway: Gateway, moorline: Moorline, options: list[str], limit: str
) -> None:
    """The agent made for it is gone again, and the last one is still the last one."""
    gateway.limits = {limit: 1000}
    await moorline("-p", "hello")
    last = list(gateway.platform.agents)
    done = await moorline("--new", "-p", "x" * 1001, *options)
    assert (2, "") == (done.code, done.out)
    assert "1000" in done.err
    assert "is deleted" in done.err
    assert last == list(gateway.platform.agents)
    done = await moorline("-p", "x" * 1001, *options)
    assert 2 == done.code
    assert 0 == (await moorline("-p", "hello again")).code
    assert last == list(gateway.platform.agents)


async def test_out_of_time_is_three(gateway: Gateway, moorline: Moorline) -> None:
    """`--timeout` cancels the turn and says so."""
    gateway.platform.script = hang
    done = await moorline("-p", "hello", "--timeout", "50ms")
    assert 3 == done.code
    assert "Out of time" in done.err
    (turn,) = gateway.platform.running.values()
    assert turn.cancelled.is_set()


async def test_a_wrong_token_is_four(moorline: Moorline) -> None:
    """Exit 4, with what to do."""
    done = await moorline("-p", "hello", MOORLINE_TOKEN="bad")
    assert 4 == done.code
    assert "Not authenticated: Get a token." in done.err


async def test_what_is_forbidden_is_four(gateway: Gateway, moorline: Moorline) -> None:
    """Exit 4 also for a known user who may not."""
    gateway.platform.refuse_next = [RefusedError("FORBIDDEN", "Not you.")]
    done = await moorline("ls")
    assert 4 == done.code
    assert "You may not do this: Not you." in done.err


async def test_a_permission_nobody_can_give_is_five(gateway: Gateway, moorline: Moorline) -> None:
    """Nobody is asked: it is refused, the turn goes on to its end, the exit is 5."""
    gateway.platform.script = ask_bash
    done = await moorline("-p", "hello", "--no-input")
    assert (5, "Bash False\n") == (done.code, done.out)
    assert "--allow Bash" in done.err


@pytest.mark.parametrize(
    ("options", "answer"),
    [
        (["--allow", "Edit,Bash"], "Bash True\n"),
        (["--deny", "Bash", "--allow", "Bash"], "Bash False\n"),
    ],
)
async def test_rules_decide_about_permissions(
    gateway: Gateway, moorline: Moorline, options: list[str], answer: str
) -> None:
    """`--allow` and `--deny` answer without a person; refusing wins; the exit is 0."""
    gateway.platform.script = ask_bash
    done = await moorline("-p", "hello", *options)
    assert (0, answer) == (done.code, done.out)


@pytest.mark.parametrize("reason", ["QUEUE_FULL", "RATE_LIMITED"])
async def test_a_limit_is_six(gateway: Gateway, moorline: Moorline, reason: str) -> None:
    """Exit 6 for what passes by waiting."""
    gateway.platform.refuse_next = [RefusedError(reason)]
    done = await moorline("-p", "hello", "--new")
    assert 6 == done.code


async def test_an_unreachable_server_is_seven(gateway: Gateway, moorline: Moorline) -> None:
    """Exit 7, with the next action."""
    await gateway.stop()
    done = await moorline("-p", "hello")
    await gateway.start()
    assert 7 == done.code
    assert "make run" in done.err


async def test_ctrl_c_cancels_the_turn(gateway: Gateway, spawn: Spawn) -> None:
    """Exit 130: the first Ctrl-C stops the turn and waits for its outcome."""
    gateway.platform.script = hang
    running = await spawn("-p", "hello")
    await until(lambda: gateway.platform.running)
    await until(lambda: any(agent.watchers for agent in gateway.platform.agents.values()))
    running.process.send_signal(signal.SIGINT)
    done = await running.finish()
    assert 130 == done.code
    assert "Stopping" in done.err
    (turn,) = gateway.platform.running.values()
    assert turn.cancelled.is_set()


@pytest.mark.parametrize("stop", [True, False])
async def test_a_second_ctrl_c_leaves(gateway: Gateway, spawn: Spawn, stop: bool) -> None:
    """Exit 130 at once, though the turn does not stop."""
    gateway.platform.script = hang
    gateway.mute = ["cancelTurn"]
    running = await spawn("-p", "hello", *(["--stop-on-exit"] if stop else []))
    await until(lambda: any(agent.watchers for agent in gateway.platform.agents.values()))
    (turn,) = gateway.platform.running.values()
    turn.cancelled = asyncio.Event()
    running.process.send_signal(signal.SIGINT)
    await until(lambda: "cancelTurn" in [name for name, _ in gateway.platform.calls])
    running.process.send_signal(signal.SIGINT)
    assert 130 == (await running.finish()).code


async def test_being_ended_leaves_the_turn_unless_told(gateway: Gateway, spawn: Spawn) -> None:
    """SIGTERM cancels the turn with `--stop-on-exit` only."""
    gateway.platform.script = hang
    for options in ([], ["--stop-on-exit"]):
        running = await spawn("-p", "hello", "--new", *options)
        await until(lambda: any(agent.watchers for agent in gateway.platform.agents.values()))
        running.process.terminate()
        await running.finish()
        await until(lambda: not gateway.sockets)
        turn = list(gateway.platform.running.values())[-1]
        assert bool(options) == turn.cancelled.is_set()


async def test_what_is_piped_in_goes_below_the_prompt(moorline: Moorline, spawn: Spawn) -> None:
    """A pipe is context; with `-` or without -p it is the prompt."""

    async def check(arguments: list[str], said: str) -> None:
        running = await spawn(*arguments, stdin=asyncio.subprocess.PIPE)
        assert running.process.stdin is not None
        running.process.stdin.write(b"some log\n")
        running.process.stdin.close()
        done = await running.finish()
        assert (0, f"You said: {said}\n") == (done.code, done.out)

    await asyncio.gather(
        check(["--new", "-p", "explain"], "explain\n\nsome log"),
        check(["--new", "-p", "-"], "some log"),
        check(["--new"], "some log"),
    )


async def test_the_last_agent_is_asked_again(gateway: Gateway, moorline: Moorline) -> None:
    """Without `--agent` or `--new` the conversation goes on; a deleted agent is replaced."""
    await moorline("-p", "one")
    await moorline("-p", "two", "--permission-mode", "accept-all")
    (first,) = gateway.platform.agents.values()
    assert 2 == len(first.turns)
    assert "PERMISSION_MODE_ACCEPT_ALL" == first.fields["permissionMode"]
    await moorline("-p", "three", "--new", "--backend", "simulation")
    assert 2 == len(gateway.platform.agents)
    wrong = await moorline("-p", "four", "--backend", "docker")
    assert (2, True) == (wrong.code, "--new" in wrong.err)
    gateway.platform.agents.clear()
    assert 0 == (await moorline("-p", "five")).code
    assert 1 == len(gateway.platform.agents)


async def test_a_detached_turn_is_left_to_itself(gateway: Gateway, moorline: Moorline) -> None:
    """`--detach` prints the turn's id and does not wait."""
    gateway.platform.script = hang
    done = await moorline("-p", "hello", "--detach")
    assert (0, [done.out.strip()]) == (done.code, list(gateway.platform.running))
    done = await moorline("-p", "hello", "--detach", "-o", "json")
    assert list(gateway.platform.running)[-1] == done.lines[0]["turn"].rpartition("/")[2]


async def test_a_broken_connection_is_told_and_mended(gateway: Gateway, moorline: Moorline) -> None:
    """Reconnecting is told once; the answer is whole."""

    async def script(turn: Turn) -> None:
        turn.agent.write("b", "half ")
        await until(lambda: turn.agent.watchers)
        gateway.cut()
        turn.record(agentMessage={"blockId": "b", "text": "half and half"})
        await until(lambda: gateway.welcomes == 2)

    gateway.platform.script = script
    done = await moorline("-p", "hello")
    assert (0, "half and half\n") == (done.code, done.out)
    assert 1 == done.err.count("Reconnecting")
    assert "Connected again" in done.err


async def test_a_reader_that_goes_away_is_no_traceback(gateway: Gateway, spawn: Spawn) -> None:
    """A closed pipe ends the command quietly."""

    async def script(turn: Turn) -> None:
        await turn.say("x" * 100_000)

    gateway.platform.script = script
    running = await spawn("-p", "hello")
    assert running.process.stdout is not None
    transport = running.process._transport  # type: ignore[attr-defined]
    transport.get_pipe_transport(1).close()
    async with asyncio.timeout(10):
        assert running.process.stderr is not None
        err = await running.process.stderr.read()
        assert 1 == await running.process.wait()
    assert b"Traceback" not in err


def test_the_exit_codes_are_in_the_help(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every code is documented in `--help`."""
    monkeypatch.setenv("COLUMNS", "100")
    nothing = io.StringIO()
    surroundings = Surroundings(stdin=nothing, stdout=nothing, stderr=nothing, environ={})
    assert 0 == run(["--help"], surroundings)
    text = capsys.readouterr().out
    for code in Exit:
        assert f"\n    {code.value:<4} " in text
