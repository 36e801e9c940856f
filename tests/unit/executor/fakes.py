"""Stand-ins for what the executor's logic rests on, and builders of what it is given."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Sequence
from datetime import timedelta
from typing import Any

import orjson

from moorline.executor.v1 import executions_pb2
from moorline.transcript.v1 import transcript_pb2
from services.executor.agent_process import Work
from services.executor.backend import Capabilities, Link, View
from services.executor.book import Book, Cursor
from services.executor.channel import Channel, Exit, ExitReason, Launch, Receiver
from services.executor.execution import Execution
from services.executor.place import Place

WORKSPACE = "abcdefgh"


def make_work(prompt: str = "hello", **changed: Any) -> Work:
    """Return an execution's work."""
    values: dict[str, Any] = {
        "execution_id": "e1",
        "backend": "simulation",
        "workspace": WORKSPACE,
        "prompt": prompt,
        "instructions": "",
        "permission_mode": executions_pb2.Execution.PERMISSION_MODE_ASK,
        "resume_from": "",
        "timeout": timedelta(minutes=1),
    }
    return Work(**(values | changed))


def follow(book: Book, *, after: int = 0) -> Cursor:
    """Return a cursor that nobody wakes."""
    return book.follow(after=after, mark=lambda: None)


def take(
    cursor: Cursor, budget: int = 1 << 30
) -> tuple[list[executions_pb2.ExecutionUpdate], bool]:
    """Return what a cursor takes, and whether there is more."""
    news = executions_pb2.WatchExecutionResponse()
    taken, more = cursor.take(budget, news)
    assert bool(news.updates) == bool(taken)
    return list(news.updates), more


def items(book: Book) -> list[transcript_pb2.Item]:
    """Return the items of a book."""
    updates, _ = take(follow(book))
    return [update.event.item for update in updates if update.event.HasField("item")]


def kinds(book: Book) -> list[str]:
    """Return the kinds of the items of a book."""
    return [str(item.WhichOneof("kind")) for item in items(book)]


def texts(book: Book) -> list[str]:
    """Return the texts of the complete messages of a book."""
    return [item.agent_message.text for item in items(book) if item.HasField("agent_message")]


def outcome(execution: Execution) -> transcript_pb2.TurnOutcome:
    """Return the outcome of an execution that is over."""
    return items(execution.book)[-1].turn_outcome


async def until(condition: Callable[[], Any]) -> None:
    """Let others run until a condition holds; the test's time limit bounds it."""
    loop = asyncio.get_running_loop()
    done = loop.create_future()

    def look() -> None:
        if condition():
            done.set_result(None)
        else:
            loop.call_later(0.001, look)

    look()
    await done


class FakeChannel:
    """A channel whose process is the test: it prints what `say` is given."""

    def __init__(self) -> None:
        self.written: list[dict[str, Any]] = []
        self.opened = False
        self.input_closed = False
        self.killed = 0
        self.answers = True
        """Whether requests are answered, but for an interrupt."""
        self.exits_on_close = True
        self.dies_on_kill = True
        self._receiver: Receiver | None = None
        self._held = False
        self._waiting: list[Sequence[bytes]] = []
        self._exit: asyncio.Future[Exit] = asyncio.get_running_loop().create_future()

    async def open(self, receiver: Receiver) -> None:
        """See `Channel`."""
        self.opened = True
        self._receiver = receiver
        self._hand_over()

    async def write(self, line: bytes) -> None:
        """See `Channel`."""
        frame = orjson.loads(line)
        self.written.append(frame)
        request = frame.get("request") or {}
        if request.get("subtype") not in {None, "interrupt", "can_use_tool"} and self.answers:
            response = {"subtype": "success", "request_id": frame["request_id"]}
            self.say({"type": "control_response", "response": response})

    def hold(self) -> None:
        """See `Channel`."""
        self._held = True

    def release(self) -> None:
        """See `Channel`."""
        self._held = False
        self._hand_over()

    async def close_input(self) -> None:
        """See `Channel`."""
        self.input_closed = True
        if self.exits_on_close:
            self.exit(0)

    async def kill(self) -> None:
        """See `Channel`."""
        self.killed += 1
        if self.dies_on_kill:
            self.exit(-9, ExitReason.KILLED)

    async def memory(self) -> int | None:
        """Not known."""
        return None

    async def wait(self) -> Exit:
        """See `Channel`."""
        return await asyncio.shield(self._exit)

    def say(self, *frames: Any) -> None:
        """Print frames in one burst; bytes go out as they are."""
        self._waiting.append(
            [frame if isinstance(frame, bytes) else orjson.dumps(frame) for frame in frames]
        )
        self._hand_over()

    def exit(self, code: int | None, reason: ExitReason = ExitReason.EXITED) -> None:
        """End the process."""
        if not self._exit.done():
            self._exit.set_result(Exit(code, reason))
            self._hand_over()

    def _hand_over(self) -> None:
        while self._receiver is not None and not self._held and self._waiting:
            self._receiver.receive(self._waiting.pop(0))
        if self._receiver is not None and not self._held and self._exit.done():
            receiver, self._receiver = self._receiver, None
            receiver.exited(self._exit.result())


class FakeReceiver:
    """Keeps what a process prints."""

    def __init__(self) -> None:
        self.batches: list[list[bytes]] = []
        self.ended: Exit | None = None

    def receive(self, lines: Sequence[bytes]) -> None:
        """See `Receiver`."""
        assert self.ended is None
        self.batches.append(list(lines))

    def exited(self, ended: Exit) -> None:
        """See `Receiver`."""
        assert self.ended is None
        self.ended = ended


class FakeBackend:
    """A backend of fake channels."""

    name = "simulation"
    capabilities = Capabilities(deltas=True, permissions=True, resume=True, durable_workspace=True)

    def __init__(self) -> None:
        self.unavailable = ""
        self.link = Link.NONE
        self.launches: list[Launch] = []
        self.left: list[str] = []
        """Workspaces whose processes have outlived their executor."""
        self.kept: list[str] | None = None
        """What `reap` was told to keep."""

    def channel(self, launch: Launch) -> Channel:
        """See `Backend`."""
        self.launches.append(launch)
        return FakeChannel()

    def view(self, place: Place) -> View:
        """The folders as they are."""
        return View(files=str(place.files), state=str(place.state), run=str(place.run))

    async def survivors(self) -> Collection[str]:
        """See `Backend`."""
        return self.left

    def adopt(self, place: Place) -> Channel:
        """There is nothing to adopt."""
        raise AssertionError(place)

    async def reap(self, keep: Collection[str]) -> None:
        """See `Backend`."""
        self.kept = sorted(keep)
