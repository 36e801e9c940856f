"""Two of each service on the Firestore emulator, as with `make run REPLICAS=2 STORE=firestore`."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from websockets.exceptions import WebSocketException

from services.local.readiness import until_ready
from tests.emulator import EmulatorMissingError, FirestoreEmulator, find_emulator
from tests.system.clusters import words
from tests.system.stack import Stack, running
from tests.system.wire import Frame, Transcript, follow, open_wire

pytestmark = [pytest.mark.alone, pytest.mark.firestore, pytest.mark.timeout(120)]

NAMES = tuple(f"{service}-{n}" for service in ("gateway", "session", "executor") for n in (1, 2))
STREAM = "/sim stream 160 25"
TEXT = words(160)


@pytest.fixture(scope="module")
def machine() -> dict[str, str]:
    """The environment of a machine that has the emulator."""
    try:
        find_emulator()
    except EmulatorMissingError as error:
        pytest.skip(str(error))
    return {"PATH": os.environ["PATH"]}  # noqa: TID251 - where this machine's programs are


@pytest.fixture(scope="module")
def replicas(tmp_path_factory: pytest.TempPathFactory, machine: dict[str, str]) -> Iterator[Stack]:
    """Two of each; who is killed comes back before the next test."""
    data = tmp_path_factory.mktemp("replicas") / "data"
    with running(data, machine, "--replicas", "2", "--store", "firestore") as stack:
        yield stack


async def test_either_gateway_answers(replicas: Stack) -> None:
    """What was made through one is there, and goes on, at the other."""
    first, second = (replicas.url_of(f"gateway-{number}") for number in (1, 2))
    async with open_wire(first, replicas.token) as one, open_wire(second, replicas.token) as other:
        agent = await one.agent()
        turns = [await wire.prompt(agent, "/sim say hello") for wire in (one, other)]
        seen = [await follow(wire, agent, Transcript(), *turns) for wire in (one, other)]

    assert seen[0].events == seen[1].events
    assert ["hello", "hello"] == [each["text"] for each in seen[0].items("agentMessage")]


@pytest.mark.parametrize("name", ["session-1", "session-2", "executor-1", "executor-2"])
async def test_a_stream_outlives_whoever_is_killed(replicas: Stack, name: str) -> None:
    """SIGKILL in mid-turn: the same call goes on within 20 s, with nothing lost or doubled."""
    transcript = Transcript()
    async with open_wire(replicas.url_of("gateway-1"), replicas.token) as wire:
        agent = await wire.agent()
        turn = await wire.prompt(agent, STREAM)
        following = asyncio.create_task(follow(wire, agent, transcript, turn, patience=40))
        await streaming(transcript)
        await replicas.kill(name)
        await following
    async with open_wire(replicas.url_of("gateway-2"), replicas.token) as wire:
        fresh = await follow(wire, agent, Transcript(), turn)

    outcome = fresh.outcome(turn)
    assert outcome is not None
    assert "STATE_FINISHED" == outcome["state"]
    assert TEXT in [message["text"] for message in fresh.items("agentMessage")]
    assert fresh.events == transcript.events


async def test_a_rolling_restart_fails_no_turn(replicas: Stack) -> None:
    """SIGTERM of each process, one after the other, under turns that stream all the while."""
    async with open_wire(replicas.url_of("gateway-1"), replicas.token) as wire:
        agents = [await wire.agent() for _ in range(4)]
        turns = {agent: await wire.prompt(agent, STREAM) for agent in agents}
    transcripts = {agent: Transcript() for agent in agents}
    following = [
        asyncio.create_task(follow_anywhere(replicas, agent, transcripts[agent], turns[agent]))
        for agent in agents
    ]
    for name in NAMES:
        await replicas.kill(name, signal.SIGTERM)
        port = replicas.run["ports"][name]
        gateway = name.startswith("gateway")
        async with asyncio.timeout(20):
            await until_ready(
                grpc_ports=[] if gateway else [port], http_ports=[port] if gateway else []
            )
    async with asyncio.timeout(60):
        await asyncio.gather(*following)

    for agent in agents:
        outcome = transcripts[agent].outcome(turns[agent])
        assert outcome is not None
        assert "STATE_FINISHED" == outcome["state"]
        assert TEXT == transcripts[agent].items("agentMessage")[-1]["text"]


async def follow_anywhere(stack: Stack, agent: str, transcript: Transcript, turn: str) -> None:
    """Follow a turn to its outcome, at the next gateway whenever a connection ends."""
    for number in itertools.cycle((1, 2)):
        with contextlib.suppress(OSError, WebSocketException):
            async with open_wire(stack.url_of(f"gateway-{number}"), stack.token) as wire:
                await follow(wire, agent, transcript, turn, patience=60)
        if transcript.outcome(turn) is not None:
            return
        await asyncio.sleep(0.1)


async def test_the_other_gateway_takes_the_clients_of_one_that_is_killed(replicas: Stack) -> None:
    """A client that connects again, there, gets exactly the rest."""
    transcript = Transcript()
    async with open_wire(replicas.url_of("gateway-1"), replicas.token) as wire:
        agent = await wire.agent()
        turn = await wire.prompt(agent, "/sim say before\n/sim stream 400 25")
        following = asyncio.create_task(follow(wire, agent, transcript, turn))
        await streaming(transcript)
        await replicas.kill("gateway-1")
        with contextlib.suppress(ConnectionError, OSError, WebSocketException):
            await following
    broken = transcript.sequence
    async with open_wire(replicas.url_of("gateway-2"), replicas.token) as wire:
        await follow(wire, agent, transcript, turn)

    assert 0 < broken < transcript.sequence
    assert "before" == transcript.items("agentMessage")[0]["text"]
    assert words(400) == transcript.items("agentMessage")[-1]["text"]


async def streaming(transcript: Transcript) -> None:
    """Wait until a follower of an agent is shown the words of its stream."""
    async with asyncio.timeout(15):
        while "w2" not in " ".join(transcript.open.values()):  # noqa: ASYNC110 - another task's news
            await asyncio.sleep(0.02)


def test_one_signal_stops_all_and_saves(tmp_path: Path, machine: dict[str, str]) -> None:
    """In mid-turn, the emulator included; the next run goes on where this one was."""
    data, arguments = tmp_path / "data", ("--replicas", "2", "--store", "firestore")
    with running(data, machine, *arguments) as stack:
        pids = [stack.pid(name) for name in (*NAMES, "firestore")]
        ports = stack.run["ports"]
        name = asyncio.run(made(stack))
        turn = asyncio.run(begun(stack, name))
        stack.process.send_signal(signal.SIGINT)

        assert 0 == stack.process.wait(15)
        assert not [pid for pid in pids if Path(f"/proc/{pid}").exists()]
    with running(data, machine, *arguments) as stack:
        assert "STATE_FINISHED" == asyncio.run(ended(stack, turn))["state"]
        assert name == asyncio.run(found(stack))
        for service in ("session-1", "session-2", "executor-1", "executor-2"):
            assert ports[service] == stack.run["ports"][service]


async def made(stack: Stack, gateway: str = "gateway-1") -> str:
    """Make an agent with a file, and return its name."""
    async with open_wire(stack.url_of(gateway), stack.token) as wire:
        agent = await wire.agent()
        turn = await wire.prompt(agent, "/sim write notes.txt kept")
        await follow(wire, agent, Transcript(), turn)
    return agent


async def begun(stack: Stack, agent: str) -> str:
    """Start a turn, and return its name when the agent is at it."""
    async with open_wire(stack.url_of("gateway-1"), stack.token) as wire:
        turn = await wire.prompt(agent, STREAM)
        async for update in wire.watch(agent):
            if "delta" in update:
                break
    return turn


async def ended(stack: Stack, turn: str) -> Frame:
    """Return the outcome of a turn, once there is one."""
    async with open_wire(stack.url_of("gateway-1"), stack.token) as wire:
        seen = await follow(wire, turn.partition("/turns/")[0], Transcript(), turn)
    outcome = seen.outcome(turn)
    assert outcome is not None
    return outcome


async def found(stack: Stack) -> str:
    """Return the name of the one agent there is; its file has to be there as well."""
    async with open_wire(stack.url_of("gateway-2"), stack.token) as wire:
        (agent,) = (await wire.call("listAgents", {"parent": wire.user}))["agents"]
        name = str(agent["name"])
        turn = await wire.prompt(name, "/sim read notes.txt")
        seen = await follow(wire, name, Transcript(), turn)
    assert "kept" == seen.items("toolResult")[-1]["output"]
    return name


def test_data_that_cannot_be_saved_is_told(tmp_path: Path, machine: dict[str, str]) -> None:
    """The person is not left to believe that everything is kept."""
    with running(tmp_path / "data", machine, "--store", "firestore") as stack:
        os.kill(stack.pid("firestore"), signal.SIGKILL)
        stack.process.send_signal(signal.SIGINT)
        assert 0 == stack.process.wait(10)
        assert stack.process.stdout is not None
        assert b"was not saved" in stack.process.stdout.read()


def test_an_emulator_that_runs_is_used(
    tmp_path: Path, firestore_emulator: FirestoreEmulator
) -> None:
    """No other is started, and the banner says where it is."""
    environment = {
        "FIRESTORE_EMULATOR_HOST": firestore_emulator.host,
        "GOOGLE_CLOUD_PROJECT": "make-run",
        # Nothing that could be started is needed, or found.
        "PATH": str(tmp_path),
    }
    with running(tmp_path / "data", environment, "--store", "firestore") as stack:
        name = asyncio.run(made(stack, "gateway"))
        documents = "/v1/projects/make-run/databases/(default)/documents/users/dev/agents"

        assert "firestore" not in stack.run["pids"]
        assert name.rpartition("/")[2] in str(firestore_emulator.request("GET", documents))
