"""What an agent in a container finds around itself, and what it cannot do to anybody."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator

import pytest

from services.executor.channels.docker.container import WORKSPACE
from tests.contract.agents.conftest import KEY, Serve
from tests.contract.agents.executors import ACCEPT_ALL, Agent, Executor
from tests.contract.agents.turns import Turn
from tests.contract.channels import containers
from tests.standin.server import StandIn

pytestmark = [
    pytest.mark.parametrize("kind", ["docker"], indirect=True),
    pytest.mark.docker,
    pytest.mark.timeout(120),
]

FORK_BOMB = "bomb() { bomb | bomb & }; bomb; sleep 2"
MEMORY_HOG = "perl -e 'push @a, q(x) x 10_000_000 while 1'"


@pytest.fixture
def agent(executor: Executor) -> Agent:
    """An agent that asks nobody."""
    return executor.agent(permission_mode=ACCEPT_ALL)


async def output(agent: Agent, command: str) -> str:
    """Let an agent run a command; return what it printed."""
    turn = await agent.run(f"/sim bash {command}")
    return str(turn.result("Bash").output)


def outcome(turn: Turn) -> tuple[str, list[bool]]:
    """Return how a turn ended, and which of its tool calls failed."""
    return turn.ending, [result.failed for result in turn.of("tool_result")]


async def test_key_is_nowhere(agent: Agent, provider: StandIn) -> None:
    """Neither in an environment, a command line or a file, nor in what the engine knows."""
    # In parts, because the command itself is in several of these places.
    head, tail = KEY[:6], KEY[6:]
    found = await output(
        agent,
        f'k={head}; grep -rsl "${{k}}{tail}" /proc/[0-9]*/environ /proc/[0-9]*/cmdline /workspace'
        " /state /run /tmp /etc /home /usr/local /var /opt; echo looked",
    )
    async with containers.engine() as engine:
        (one,) = await engine.list(WORKSPACE, agent.workspace)
        told = json.dumps(await engine._docker.containers.container(one["Id"]).show())

    assert "looked" == found.strip()
    assert "ANTHROPIC_API_KEY" in told
    assert KEY not in told
    assert {KEY} == {entry.credential for entry in provider.ledger.entries}


@pytest.fixture
async def servers() -> AsyncIterator[list[str]]:
    """Addresses of this machine at which somebody listens, to everybody."""
    heard: list[bytes] = []

    async def hear(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.append(await reader.read(100))
        writer.close()

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as there:
        # Nothing is sent; it tells our address on the way there, if there is one.
        there.connect_ex(("192.0.2.1", 9))
        own = there.getsockname()[0]
    async with await asyncio.start_server(hear, "0.0.0.0", 0) as server:
        port = server.sockets[0].getsockname()[1]
        yield [f"{host}/{port}" for host in {"127.0.0.1", own} - {"0.0.0.0"}]
    assert [] == heard


async def test_nothing_is_reachable(agent: Agent, servers: list[str]) -> None:
    """There is one interface, on which nobody listens: no metadata, no host, no engine."""
    tries = " ".join(["169.254.169.254/80", "172.17.0.1/2375", *servers])
    reached = await output(
        agent,
        "for at in " + tries + "; do (exec 3<>/dev/tcp/$at) 2>/dev/null && echo reached $at; done;"
        " tail -n +3 /proc/net/dev | cut -d: -f1; ls /run/docker.sock /var/run/docker.sock"
        " 2>/dev/null; ls /run/moorline",
    )

    assert ["lo", "api.sock"] == reached.split()


async def test_rights_are_none(agent: Agent) -> None:
    """It is nobody in particular, may become nobody else, and can write to its own folders only."""
    told = await output(
        agent,
        "id -u; grep -E '^(CapPrm|CapEff|CapBnd|NoNewPrivs|Seccomp):' /proc/self/status;"
        " for d in / /usr/local/bin /etc /var /home /proc/sys/kernel /sys /dev /workspace /state"
        " /tmp /run/moorline; do touch $d/probe 2>/dev/null && echo wrote $d; done",
    )
    uid, *rest = told.splitlines()

    assert int(uid) > 0
    assert [
        "CapPrm:\t0000000000000000",
        "CapEff:\t0000000000000000",
        "CapBnd:\t0000000000000000",
        "NoNewPrivs:\t1",
        "Seccomp:\t2",
        *(f"wrote {folder}" for folder in ("/workspace", "/state", "/tmp", "/run/moorline")),
    ] == rest


async def test_commands_cannot_speak_for_the_agent_nor_its_user(agent: Agent) -> None:
    """What they run as the same user reaches neither memory nor pipes of what leads to it."""
    told = await output(
        agent,
        "for p in /proc/[0-9]*; do read -r name <$p/comm; echo running $name;"
        " [ -r $p/fd ] && echo open $name; (exec 3<>$p/mem) && echo open $name;"
        " for n in 0 1 2; do (exec 3<>$p/fd/$n) && echo open $name; done; done 2>/dev/null",
    )
    running, reached = (
        {line.split()[1] for line in told.splitlines() if line.startswith(what)}
        for what in ("running", "open")
    )

    assert {"tini", "claude", "moorline-agent"} <= running
    assert "bash" in reached
    assert set() == reached & {"tini", "claude", "moorline-agent"}


async def test_agents_are_apart(executor: Executor, agent: Agent) -> None:
    """Neither processes nor files of one are there for the other, at the same time."""
    other = executor.agent(permission_mode=ACCEPT_ALL)
    running = await other.begin("/sim bash echo mine > /tmp/mine; echo mine > mine; sleep 3")
    await running.item("tool_call")
    seen = await output(agent, "ps -eo args; ls /tmp /workspace /state /run/moorline; id -u")
    await other.end(running)
    uid = await output(other, "id -u")

    assert 1 == seen.count("tini -- moorline-agent")
    assert "mine" not in seen
    assert uid.strip() != seen.split()[-1]


@pytest.mark.parametrize(
    ("script", "told"),
    [(FORK_BOMB, "Resource temporarily unavailable"), (MEMORY_HOG, "Killed")],
    ids=["fork bomb", "memory hog"],
)
async def test_greed_fails_as_a_tool_call(serving: Serve, script: str, told: str) -> None:
    """The turn goes on, so do the next one and the neighbours; all are in the same process."""
    async with serving("greedy", AGENT_MEMORY="512") as executor:
        greedy = executor.agent(permission_mode=ACCEPT_ALL)
        neighbour = executor.agent(permission_mode=ACCEPT_ALL)
        await neighbour.run("/sim say ready")
        greed = await greedy.begin(f"/sim bash {script}", "/sim say still here")
        await greed.item("tool_call")
        beside = await neighbour.run("/sim bash for i in 1 2 3 4 5; do (echo $i); done")
        await greedy.end(greed)
        after = await greedy.run("/sim write a.txt fine", "/sim say as before")

    assert told in greed.result("Bash").output
    assert ("finished", ["still here"]) == (greed.ending, greed.texts)
    assert ("finished", [False]) == outcome(beside)
    assert ("finished", [False]) == outcome(after)
    assert ["as before"] == after.texts
