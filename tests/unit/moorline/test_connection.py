"""Tests of the socket that comes back: repeating, resuming, renewing."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

import moorline
from tests.unit.moorline.scripted import Gateway
from tests.unit.moorline.scripted_platform import TOKEN, RefusedError, Turn, error, until

MS = timedelta(milliseconds=1)


@pytest.fixture(autouse=True)
def _quick_backoff(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reconnecting takes milliseconds: the jitter's dice always fall low."""
    monkeypatch.setattr(random, "uniform", lambda low, high: min(high, 0.005))


async def test_a_turn_is_whole_whatever_the_network_does(
    gateway: Gateway, client: moorline.AsyncClient
) -> None:
    """Cut again and again in the middle, events have no gap and the text is identical."""
    words = [f"w{number}" for number in range(300)]
    dice = random.Random(7)

    async def script(turn: Turn) -> None:
        for part in range(3):
            for word in words:
                turn.agent.write(f"b{part}", f"{word} ")
                await asyncio.sleep(0.001)
                if dice.random() < 0.03:
                    gateway.cut()
            text = " ".join(words) + " "
            turn.record(agentMessage={"blockId": f"b{part}", "text": text})

    gateway.platform.script = script
    agent = await client.agents.create()
    texts: dict[str, str] = {}
    sequences: list[int] = []
    async with agent.run("go") as stream:
        async for event in stream:
            if isinstance(event, moorline.TextDelta):
                texts[event.block_id] = texts.get(event.block_id, "") + event.text
            elif isinstance(event, moorline.StoredEvent):
                sequences.append(event.sequence)
            else:
                pytest.fail(f"unexpected {event}")
    assert gateway.welcomes > 5
    assert [1, 2, 3, 4, 5] == sequences
    assert [" ".join(words) + " "] * 3 == list(texts.values())


async def test_a_prompt_whose_answer_was_lost_is_sent_again(
    gateway: Gateway, client: moorline.AsyncClient
) -> None:
    """The same turn id is sent on the next connection, and makes one turn."""
    agent = await client.agents.create()
    gateway.swallow = ["createTurn"]
    turn = await agent.send("hello")
    sent = [request for name, request in gateway.platform.calls if name == "createTurn"]
    assert [turn.id, turn.id] == [request["turnId"] for request in sent]
    assert 1 == len(await agent.turns())


async def test_a_call_that_cannot_be_repeated_is_not(
    gateway: Gateway, client: moorline.AsyncClient
) -> None:
    """A key whose answer was lost is not made twice: the caller is told."""
    gateway.swallow = ["createKey"]
    with pytest.raises(moorline.ConnectionLostError, match="not known whether createKey"):
        await client.keys.create()
    assert 1 == len(await client.keys.list())


async def test_a_deletion_whose_answer_was_lost_succeeds(
    gateway: Gateway, client: moorline.AsyncClient
) -> None:
    """Not finding what was deleted by the attempt before is success."""
    agent = await client.agents.create()
    gateway.swallow = ["deleteAgent"]
    await agent.delete()
    with pytest.raises(moorline.NotFoundError):
        await agent.delete()


async def test_a_server_that_restarts_is_found_again(
    gateway: Gateway, client: moorline.AsyncClient
) -> None:
    """Calls wait for the server, streams go on, and each change of state is told."""
    agent = await client.agents.create()
    async with agent.events() as events:
        assert moorline.Checkpoint(sequence=0, log_id="log-1") == await anext(events)
        await gateway.stop()
        sending = asyncio.create_task(agent.send("hello"))
        await asyncio.sleep(0.02)
        await gateway.start()
        await sending
        kinds = [type(event) async for event in _until_outcome(events)]
    assert moorline.Message in kinds


async def _until_outcome(
    events: moorline.EventStream,
) -> AsyncIterator[moorline.AsyncEvent]:
    async for event in events:
        yield event
        if isinstance(event, moorline.TurnOutcome):
            return


async def test_states_are_told(gateway: Gateway) -> None:
    """The callback hears every state once, in order."""
    states: list[str] = []
    back = asyncio.Event()

    def heard(state: moorline.ConnectionState) -> None:
        states.append(state)
        if states.count("connected") == 2:
            back.set()

    async with moorline.AsyncClient(gateway.url, TOKEN, on_state=heard, environ={}):
        gateway.cut()
        await back.wait()
    assert ["connecting", "connected", "reconnecting", "connected", "closed"] == states


async def test_going_away_is_waited_for_as_told(
    gateway: Gateway, client: moorline.AsyncClient
) -> None:
    """The delay of `goAway` is kept before the next connection."""
    await client.backends()
    loop = asyncio.get_running_loop()
    await gateway.send_all({"id": 0, "goAway": {"reconnectDelay": "0.3s"}})
    began = loop.time()
    await gateway.close_all(1012)
    await client.backends()
    assert loop.time() - began >= 0.29


async def test_a_silent_server_is_left(gateway: Gateway) -> None:
    """Without a frame for two heartbeats the connection is dead, and another is made."""
    gateway.heartbeat = 0.02
    async with moorline.AsyncClient(gateway.url, TOKEN, environ={}):
        await until(lambda: gateway.welcomes >= 2)


async def test_a_lost_server_is_given_up_after_the_patience(gateway: Gateway) -> None:
    """A server that stays away ends streams and calls with a lost connection."""
    patience = moorline.Patience(reconnect=100 * MS)
    async with moorline.AsyncClient(gateway.url, TOKEN, patience=patience, environ={}) as client:
        agent = await client.agents.create()
        async with agent.events() as events:
            await anext(events)
            await gateway.stop()
            with pytest.raises(moorline.ConnectionLostError):
                await anext(events)
        with pytest.raises(moorline.ConnectionLostError):
            await client.backends()
        await gateway.start()


async def test_a_token_revoked_meanwhile_ends_the_client(
    gateway: Gateway, client: moorline.AsyncClient
) -> None:
    """Refused on the way back, the client does not try for ever."""
    gateway.token = "other"
    gateway.cut()
    with pytest.raises(moorline.AuthenticationError):
        await client.backends()


async def test_a_token_file_is_read_at_each_connection(gateway: Gateway, tmp_path: Path) -> None:
    """A token replaced while the client runs is used from the next connection on."""
    file = tmp_path / "token"
    file.write_text("good\n")
    file.chmod(0o600)
    async with moorline.AsyncClient(gateway.url, token_file=file, environ={}) as client:
        file.write_text("better")
        gateway.token = "better"
        gateway.cut()
        await client.backends()
    assert ["good", "better"] == gateway.tokens


async def test_a_proof_is_renewed_before_it_ends(gateway: Gateway, tmp_path: Path) -> None:
    """With another token at hand, `authenticate` is sent on the live socket."""
    file = tmp_path / "token"
    file.write_text("good")
    file.chmod(0o600)
    renewal = ("authenticate", {"token": "better"})
    soon = datetime.now(UTC) + timedelta(seconds=1)
    gateway.expire_time = soon.isoformat()
    async with moorline.AsyncClient(gateway.url, token_file=file, environ={}):
        file.write_text("better")
        await until(lambda: renewal in gateway.platform.calls)
    assert 1 == gateway.welcomes


async def test_a_position_that_is_gone_is_told(
    gateway: Gateway, client: moorline.AsyncClient
) -> None:
    """Watching after an event that does not exist raises an error of its own."""
    agent = await client.agents.create()
    with pytest.raises(moorline.SequenceUnknownError) as refused:
        await anext(agent.events(after=7))
    assert "0" == refused.value.metadata["headSequence"]


async def test_a_stream_outlives_a_server_that_is_busy(
    gateway: Gateway, client: moorline.AsyncClient
) -> None:
    """A watch refused for now, and one the server ends, is asked for again."""
    agent = await client.agents.create()
    gateway.platform.refuse_next = [
        RefusedError("SERVICE_UNAVAILABLE"),
        RefusedError("RATE_LIMITED", retryDelay="0.001s"),
    ]
    async with agent.events() as events:
        assert moorline.Checkpoint(sequence=0, log_id="log-1") == await anext(events)
        number = next(f["id"] for f in gateway.frames[::-1] if "watchEvents" in f)
        await gateway.send_all({"id": number, "end": {}})
        assert moorline.Checkpoint(sequence=0, log_id="log-1") == await anext(events)
        number = next(f["id"] for f in gateway.frames[::-1] if "watchEvents" in f)
        await gateway.send_all({"id": number, "error": error("RESOURCE_NOT_FOUND")})
        with pytest.raises(moorline.NotFoundError):
            await anext(events)


async def test_frames_keep_within_the_rate_announced(gateway: Gateway) -> None:
    """A burst beyond the server's limit is spread out, not refused."""
    gateway.limits = {"framesPerSecond": 100, "framesBurst": 5}
    loop = asyncio.get_running_loop()
    async with moorline.AsyncClient(gateway.url, TOKEN, environ={}) as client:
        began = loop.time()
        await asyncio.gather(*(client.backends() for _ in range(15)))
        assert loop.time() - began > 0.08


async def test_a_frame_beyond_the_size_announced_is_not_sent(gateway: Gateway) -> None:
    """Only its call fails, which says how much is allowed; the connection and the rest go on."""
    gateway.limits = {"frameBytes": 1000}
    async with moorline.AsyncClient(gateway.url, TOKEN, environ={}) as client:
        agent = await client.agents.create()
        async with agent.events() as events:
            with pytest.raises(moorline.InvalidRequestError, match="1000 bytes") as caught:
                await agent.send("한" * 400)
            assert moorline.Checkpoint(sequence=0, log_id="log-1") == await anext(events)
            await agent.send("x" * 100)
            assert isinstance(await anext(events), moorline.UserMessage)
    assert ("FIELD_INVALID", "1000") == (caught.value.reason, caught.value.metadata["limit"])
    assert 1 == gateway.welcomes


async def test_a_frame_beyond_the_size_of_a_later_connection_fails(gateway: Gateway) -> None:
    """A call that waits for a connection is measured when there is one."""
    async with moorline.AsyncClient(gateway.url, TOKEN, environ={}) as client:
        agent = await client.agents.create()
        await gateway.stop()
        sending = asyncio.create_task(agent.send("x" * 2000))
        await asyncio.sleep(0.02)
        gateway.limits = {"frameBytes": 1000}
        await gateway.start()
        with pytest.raises(moorline.InvalidRequestError, match="1000 bytes"):
            await sending
        assert 1 == len(await client.agents.list())


async def test_a_stream_whose_request_is_too_large_fails(gateway: Gateway) -> None:
    """Its reader is told, instead of the server closing the connection."""
    gateway.limits = {"frameBytes": 1000}
    async with moorline.AsyncClient(gateway.url, TOKEN, environ={}) as client:
        connection = client.connection
        stream = connection.stream("watchEvents", lambda: {"parent": "x" * 1000})
        assert await stream.next() is None
        with pytest.raises(moorline.InvalidRequestError, match="1000 bytes"):
            await stream.next()
        stream.close()
    assert 1 == gateway.welcomes


async def test_a_prompt_longer_than_announced_is_not_sent(gateway: Gateway) -> None:
    """The error names the field and tells the limit in characters."""
    gateway.limits = {"promptCharacters": 10}
    async with moorline.AsyncClient(gateway.url, TOKEN, environ={}) as client:
        agent = await client.agents.create()
        await agent.send("한" * 10)
        with pytest.raises(moorline.InvalidRequestError, match="10 characters") as caught:
            await agent.send("x" * 11)
        assert "turn.prompt.text" == caught.value.metadata["field"]
        assert 1 == len(await agent.turns())


async def test_calls_in_flight_keep_within_the_limit_announced(gateway: Gateway) -> None:
    """A third call waits until one of two in flight is answered, or given up."""
    gateway.limits = {"callsInFlight": 2}
    gateway.mute = ["listBackends"]
    async with moorline.AsyncClient(gateway.url, TOKEN, environ={}) as client:
        calls = [asyncio.create_task(client.backends()) for _ in range(2)]
        await until(lambda: len(gateway.platform.calls) == 2)
        last = asyncio.create_task(client.agents.list())
        await asyncio.sleep(0.02)
        assert 2 == len(gateway.platform.calls)
        calls[0].cancel()
        assert () == await last
        calls[1].cancel()
        await asyncio.gather(*calls, return_exceptions=True)
    names = [name for name, _ in gateway.platform.calls]
    assert ["listBackends", "listBackends", "listAgents"] == names


async def test_a_frame_about_nothing_known_is_skipped(
    gateway: Gateway, client: moorline.AsyncClient
) -> None:
    """Errors of the connection, replies to calls given up and new frames do no harm."""
    await gateway.send_all({"id": 0, "error": error("FIELD_INVALID")})
    await gateway.send_all({"id": 99, "end": {}})
    await gateway.send_all({"id": 0, "newThing": {}})
    assert 2 == len(await client.backends())
