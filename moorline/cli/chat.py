"""`moorline` without a prompt: a conversation at the terminal.

Reads lines, hands prompts to the agent, and knows the slash commands.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path

import moorline
from moorline.cli.asking import make_view
from moorline.cli.deciding import Decisions
from moorline.cli.exits import Exit
from moorline.cli.following import TurnFollower
from moorline.cli.invocation import Invocation
from moorline.cli.memory import Memory
from moorline.cli.options import MODES
from moorline.cli.permissions import stop_turns
from moorline.cli.prompting import Prompter
from moorline.cli.tables import AGENT_COLUMNS, agent_row
from moorline.cli.views import printable, show_aside

_SHOWN_EVENTS = 20


class Leave(Exception):  # noqa: N818 - it is the way out, not a failure
    """The person wants to leave.

    Attributes:
        code: Exit code to leave with.
    """

    def __init__(self, code: Exit) -> None:
        super().__init__(code)
        self.code = code


class Chat:
    """A conversation with one agent after another."""

    def __init__(
        self,
        *,
        client: moorline.AsyncClient,
        invocation: Invocation,
        agent: moorline.AsyncAgent,
        prompter: Prompter,
        decisions: Decisions,
    ) -> None:
        self._client = client
        self._invocation = invocation
        self._agent = agent
        self._prompter = prompter
        self._decisions = decisions
        self._memory = Memory(client, invocation.environ)
        self._commands: Mapping[str, Callable[[str], Awaitable[None]]] = {
            "/help": self._help,
            "/new": self._new,
            "/agents": self._agents,
            "/use": self._use,
            "/mode": self._mode,
            "/history": self._history,
            "/stop": self._stop,
            "/quit": self._quit,
        }

    async def run(self) -> Exit:
        """Talk until the person leaves. What the agent does then goes on."""
        self._invocation.say("agent.talking", agent=self._agent.id)
        try:
            await self._arrive()
            while True:
                await self._step()
        except EOFError:
            return Exit.OK
        except Leave as leave:
            return leave.code

    async def _step(self) -> None:
        line = await self._read()
        command, _, rest = line.partition(" ")
        if command in self._commands:
            try:
                await self._commands[command](rest.strip())
            except moorline.MoorlineError as error:
                if isinstance(error, moorline.ConnectionLostError):
                    raise
                self._invocation.tell(self._invocation.texts.error(error))
        elif line.startswith("/") and not line.startswith("/sim "):
            self._invocation.say("chat.unknown", command=command)
        elif line.strip():
            await self._turn(self._agent.run(line.strip(" ")))

    async def _read(self) -> str:
        """A line; one Ctrl-C on an empty line warns, the next one leaves."""
        warned = False
        while True:
            try:
                return await self._prompter.line("❯ ")
            except KeyboardInterrupt:
                if warned:
                    raise Leave(Exit.INTERRUPTED) from None
                warned = True
                self._invocation.say("chat.leave")

    async def _turn(self, stream: moorline.TurnStream) -> None:
        follower = TurnFollower(
            client=self._client,
            invocation=self._invocation,
            view=make_view(self._invocation),
            decisions=self._decisions,
        )
        try:
            async with stream:
                await follower.follow(stream)
        except moorline.ConnectionLostError:
            raise
        except moorline.MoorlineError as error:
            self._invocation.tell(self._invocation.texts.error(error))
        if follower.left:
            raise Leave(Exit.INTERRUPTED)

    async def _arrive(self) -> None:
        """Show where the conversation stands, and follow what runs."""
        self._memory.keep(self._agent)
        unfinished = await self._agent.turns(unfinished_only=True)
        running = [turn for turn in unfinished if turn.state is moorline.TurnState.RUNNING]
        await self._show_past(without={turn.id for turn in running})
        for turn in running:
            await self._turn(turn.stream())

    async def _switch(self, agent: moorline.AsyncAgent) -> None:
        self._agent = agent
        self._invocation.say("agent.talking", agent=agent.id)
        await self._arrive()

    async def _help(self, _rest: str) -> None:
        self._invocation.say("chat.commands")

    async def _new(self, rest: str) -> None:
        await self._switch(
            await self._client.agents.create(
                display_name=rest, permission_mode=self._agent.permission_mode
            )
        )

    async def _agents(self, _rest: str) -> None:
        rows = [
            agent_row(agent, self._invocation.texts) for agent in await self._client.agents.list()
        ]
        self._invocation.write_rows(AGENT_COLUMNS, rows)

    async def _use(self, rest: str) -> None:
        await self._switch(await self._client.agents.get(rest))

    async def _mode(self, rest: str) -> None:
        if rest not in MODES:
            self._invocation.say("chat.commands")
            return
        self._agent = await self._agent.update(permission_mode=rest)
        self._invocation.say("chat.mode", agent=self._agent.id, mode=rest)

    async def _show_past(self, *, without: set[str]) -> None:
        """Show the newest events; what a running turn said is shown by following it."""
        head = (await self._agent.refresh()).head_sequence
        for event in await self._agent.history(after=max(0, head - _SHOWN_EVENTS)):
            if event.turn_id not in without or isinstance(event, moorline.UserMessage):
                show_past(self._invocation, event)

    async def _history(self, _rest: str) -> None:
        await self._show_past(without=set())

    async def _stop(self, _rest: str) -> None:
        await stop_turns(self._agent, self._invocation)

    async def _quit(self, _rest: str) -> None:
        raise Leave(Exit.OK)


async def chat(
    client: moorline.AsyncClient,
    invocation: Invocation,
    agent: moorline.AsyncAgent,
    *,
    allow: frozenset[str],
    deny: frozenset[str],
) -> Exit:
    """Talk to an agent at the terminal."""
    prompter = Prompter(invocation, history=_history_file(invocation))
    decisions = Decisions(invocation=invocation, allow=allow, deny=deny, ask=prompter.ask)
    talk = Chat(
        client=client,
        invocation=invocation,
        agent=agent,
        prompter=prompter,
        decisions=decisions,
    )
    return await talk.run()


def show_past(invocation: Invocation, event: moorline.AsyncStoredEvent) -> None:
    """Show an event of the past as it was shown when it happened."""
    match event:
        case moorline.UserMessage():
            invocation.tell(f"{invocation.texts('history.you')}❯ {printable(event.text)}")
        case moorline.Message():
            invocation.write(f"{printable(event.text)}\n\n")
        case _:
            show_aside(invocation, event)


def _history_file(invocation: Invocation) -> Path | None:
    home = invocation.environ.get("XDG_STATE_HOME")
    if not home:
        return None
    path = Path(home) / "moorline" / "prompts"
    path.parent.mkdir(parents=True, exist_ok=True)
    return path
