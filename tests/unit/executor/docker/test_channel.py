"""Tests of `services.executor.channels.docker.channel` that the contract suite does not have."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from services.chassis.failures import Failure
from services.chassis.tasks import Tasks
from services.executor.channel import Exit, ExitReason
from services.executor.channels.docker import channel as module
from services.executor.channels.docker.channel import DockerChannel
from services.executor.channels.docker.container import INSTANCE
from services.executor.channels.docker.engine import UNIX, Engine
from tests.contract.channels import containers
from tests.unit.executor.docker.conftest import Contain
from tests.unit.executor.fakes import until

pytestmark = pytest.mark.docker

Adopt = Callable[[str], DockerChannel]


class Hearer:
    """Keeps what it hears."""

    def __init__(self) -> None:
        self.lines: list[bytes] = []
        self.ended: Exit | None = None

    def receive(self, lines: Sequence[bytes]) -> None:
        """See `Receiver`."""
        self.lines += lines

    def exited(self, ended: Exit) -> None:
        """See `Receiver`."""
        self.ended = ended

    async def end(self) -> Exit:
        """Wait for the end."""
        async with asyncio.timeout(15):
            await until(lambda: self.ended is not None)
        assert self.ended is not None
        return self.ended


@pytest.fixture
def hearer() -> Hearer:
    """Who hears the agent."""
    return Hearer()


async def left(engine: Engine) -> int:
    """Return how many containers there are, when those that are going are gone."""
    found: Sequence[object] = ()
    for _ in range(200):
        found = await engine.list(INSTANCE, containers.INSTANCE)
        if not found:
            break
        await asyncio.sleep(0.05)
    return len(found)


def counting(lines: int) -> tuple[str, ...]:
    """Return words that print numbered lines of all kinds, and then repeat what they read."""
    pad = "<é한\\\\" * 30
    script = f'$| = 1; print "$_ {pad}\\n" for 1..{lines}; while (<STDIN>) {{ print "read $_" }}'
    return ("perl", "-e", script)


async def test_container_is_removed_when_it_has_ended(
    contain: Contain, hearer: Hearer, engine: Engine
) -> None:
    """Its code is told, and nothing is left of it."""
    channel = contain("sh", "-c", "echo out; echo err >&2; exit 7")
    await channel.open(hearer)

    assert Exit(7, ExitReason.EXITED) == await hearer.end() == await channel.wait()
    assert [b"out"] == hearer.lines
    assert channel.gone
    assert 0 == await left(engine)


async def test_last_words_go_to_the_log(
    contain: Contain, hearer: Hearer, caplog: pytest.LogCaptureFixture
) -> None:
    """Only the last of them, and only when something went wrong."""
    await contain("sh", "-c", "yes x | head -c 20000 >&2; echo end >&2; exit 1").open(hearer)
    await hearer.end()
    (record,) = [one for one in caplog.records if "ended" in one.message]
    words = vars(record)["stderr"]

    assert words.endswith("x\nend\n")
    assert 8192 == len(words)


@pytest.mark.parametrize(
    ("argv", "memory", "reason"),
    [
        (("perl", "-e", "push @a, 'x' x 1_000_000 while 1"), 64, ExitReason.OUT_OF_MEMORY),
        (("sh", "-c", "kill -KILL $$"), 512, ExitReason.KILLED),
        (("sh", "-c", "kill -TERM $$"), 512, ExitReason.KILLED),
    ],
)
async def test_reason_of_an_end(
    contain: Contain, hearer: Hearer, argv: tuple[str, ...], memory: int, reason: ExitReason
) -> None:
    """A kill is told from a want of memory."""
    size = memory << 20
    await contain(*argv, Memory=size, MemorySwap=size).open(hearer)

    assert reason is (await hearer.end()).reason


async def test_memory_is_that_of_everything(contain: Contain, hearer: Hearer) -> None:
    """While it lives."""
    channel = contain("perl", "-e", "$a = 'x' x 50_000_000; $| = 1; print qq(1\\n); sleep 60")
    before = await channel.memory()
    await channel.open(hearer)
    await until(lambda: hearer.lines)
    during = await channel.memory()
    await channel.kill()

    assert during is not None
    assert 50_000_000 < during < 200_000_000
    assert (None, None) == (before, await channel.memory())


async def test_end_is_known_although_nobody_reads(contain: Contain, hearer: Hearer) -> None:
    """What it has printed waits, and is handed over before the end is."""
    channel = contain(*counting(1_000))
    await channel.open(hearer)
    channel.hold()
    early = len(hearer.lines)
    await channel.write(b"x")
    await channel.close_input()
    async with asyncio.timeout(10):
        ended = await channel.wait()
    assert early == len(hearer.lines)
    channel.release()

    assert Exit(0, ExitReason.EXITED) == ended == await hearer.end()
    assert 1_001 == len(hearer.lines)
    assert b"read x" == hearer.lines[-1]


async def test_endless_line_is_its_end(
    contain: Contain, hearer: Hearer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Memory here is not for it."""
    monkeypatch.setattr(module, "LINE_LIMIT", 100_000)
    await contain("perl", "-e", "print 'x' x 10_000 while 1").open(hearer)

    assert ExitReason.KILLED is (await hearer.end()).reason
    assert [] == hearer.lines


async def test_refused_container_leaves_nothing(
    contain: Contain, hearer: Hearer, engine: Engine
) -> None:
    """Neither in the engine nor with us."""
    channel = contain("true", Runtime="none-such")
    with pytest.raises(Failure) as caught:
        await channel.open(hearer)
    await channel.write(b"x")
    await channel.close_input()
    await channel.kill()

    assert "BACKEND_UNAVAILABLE" == caught.value.reason_name
    assert ExitReason.KILLED is (await channel.wait()).reason
    assert 0 == await left(engine)


@pytest.mark.parametrize("seconds", [0, 0.03, 0.2])
async def test_cancelled_opening_leaves_nothing(
    contain: Contain, hearer: Hearer, engine: Engine, seconds: float
) -> None:
    """At whatever point it is cancelled; on a fast machine the last is after its end."""
    channel = contain("sleep", "600")
    opening = asyncio.ensure_future(channel.open(hearer))
    await asyncio.sleep(seconds)
    if not opening.cancel():
        await channel.kill()
    await asyncio.wait({opening})
    async with asyncio.timeout(10):
        await channel.wait()
    await channel.kill()

    assert 0 == await left(engine)


async def test_killed_executor_loses_no_line(
    adopt: Adopt, hearer: Hearer, engine: Engine, tmp_path: Path
) -> None:
    """Each line comes once, from the first, while the agent prints as fast as it can."""
    name = f"moorline-dropped-{containers.INSTANCE}"
    words = (str(tmp_path), name, "2000", *counting(60_000))
    dropper = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.unit.executor.docker.dropper", *words, cwd=containers.ROOT
    )
    assert -9 == await dropper.wait()

    channel = adopt(name)
    await channel.open(hearer)
    await channel.write(b"hello")
    await channel.close_input()
    ended = await hearer.end()

    assert Exit(0, ExitReason.EXITED) == ended
    assert [*range(1, 60_001)] == [int(line.split()[0]) for line in hearer.lines[:-1]]
    assert b"read hello" == hearer.lines[-1]
    assert 0 == await left(engine)


async def test_dropped_channel_can_be_adopted(
    contain: Contain, adopt: Adopt, hearer: Hearer
) -> None:
    """When its tasks end without it, its container runs on, and waits for nobody."""
    first = contain(*counting(50_000))
    async with Tasks() as tasks:
        first._tasks = tasks
        await first.open(hearer)
        first.hold()
    again = Hearer()
    second = adopt(first.container)
    await second.open(again)
    async with asyncio.timeout(15):
        await until(lambda: len(again.lines) == 50_000)
    await second.kill()

    assert [*range(1, 50_001)] == [int(line.split()[0]) for line in again.lines]
    assert ExitReason.KILLED is (await again.end()).reason


async def test_adopting_what_is_gone_is_refused(adopt: Adopt, hearer: Hearer) -> None:
    """Also when it never was."""
    with pytest.raises(Failure) as caught:
        await adopt("moorline-none-such").open(hearer)

    assert "EXECUTION_LOST" == caught.value.reason_name


async def test_adopting_needs_the_beginning(
    contain: Contain, adopt: Adopt, hearer: Hearer, engine: Engine
) -> None:
    """A log that has lost it is no good, and the agent is ended."""
    log = {"Type": "json-file", "Config": {"max-size": "100k", "max-file": "2"}}
    channel = contain(*counting(3_000), LogConfig=log)
    await channel.open(hearer)
    await until(lambda: len(hearer.lines) == 3_000)
    again = Hearer()
    with pytest.raises(Failure) as caught:
        await adopt(channel.container).open(again)

    assert "EXECUTION_LOST" == caught.value.reason_name
    assert [] == again.lines
    assert 0 == await left(engine)


async def test_log_is_followed_no_further_than_it_can_be(
    contain: Contain,
    adopt: Adopt,
    hearer: Hearer,
    engine: Engine,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Where it begins a new file, lines might come twice."""
    channel = contain(*counting(3_000))
    await channel.open(hearer)
    await until(lambda: len(hearer.lines) == 3_000)
    monkeypatch.setattr(module, "LOG_LIMIT", 200_000)
    again = Hearer()
    await adopt(channel.container).open(again)

    assert ExitReason.LOST is (await again.end()).reason
    assert 0 < len(again.lines) < 3_000
    assert 0 == await left(engine)


class Way:
    """A way to the engine that can be cut."""

    def __init__(self, target: str) -> None:
        self._target = target
        self._writers: set[asyncio.StreamWriter] = set()
        self.cut_off = False

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Pass one connection on."""
        if self.cut_off:
            writer.close()
            return
        there, back = await asyncio.open_unix_connection(self._target)
        self._writers |= {writer, back}
        try:
            await asyncio.gather(self._pass(reader, back), self._pass(there, writer))
        finally:
            # Also when the test is over before either side is.
            writer.transport.abort()
            back.transport.abort()

    async def _pass(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        while data := await source.read(65536):
            sink.write(data)
        sink.close()

    def cut(self) -> None:
        """Cut it, once and for all."""
        self.cut_off = True
        for writer in self._writers:
            writer.transport.abort()


@asynccontextmanager
async def way(tmp_path: Path) -> AsyncIterator[tuple[Way, Engine]]:
    """The engine, by a way that can be cut."""
    if not containers.HOST.startswith(UNIX):
        pytest.skip("the engine is not at a socket of this machine")
    cut = Way(containers.HOST.removeprefix(UNIX))
    path = tmp_path / "way"
    async with await asyncio.start_unix_server(cut.serve, path):
        engine = Engine(host=f"{UNIX}{path}")
        yield cut, engine
        await engine.close()
        cut.cut()
        # What was cut closes in the next round of the loop.
        await asyncio.sleep(0.01)


async def test_engine_that_is_gone_loses_the_agent(
    contain: Contain, hearer: Hearer, tmp_path: Path
) -> None:
    """Nobody knows any more what becomes of it."""
    async with way(tmp_path) as (cut, engine):
        channel = contain(*counting(3), through=engine)
        await channel.open(hearer)
        await until(lambda: len(hearer.lines) == 3)
        cut.cut()

        assert Exit(None, ExitReason.LOST) == await hearer.end()
        await channel.write(b"x")
        await channel.kill()


async def test_killing_without_an_engine_ends_it_here(
    contain: Contain, hearer: Hearer, tmp_path: Path
) -> None:
    """Whoever waits for it goes on."""
    async with way(tmp_path) as (cut, engine):
        channel = contain("sleep", "600", through=engine)
        await channel.open(hearer)
        cut.cut_off = True
        await engine._connector.close()
        await channel.kill()

        assert ExitReason.LOST is (await hearer.end()).reason
        assert await channel.memory() is None
