"""Brings agents into memory, as their only owner.

Does not know who asks for them, nor the list they are in.
"""

from __future__ import annotations

from dataclasses import dataclass

from services.chassis.failures import not_found
from services.session.agent_record import AgentRecord, read_agent
from services.session.agents import LiveAgent
from services.session.environment import Environment
from services.session.history import History, Segment
from services.session.loader import Loader
from services.session.ownership.ownership import Lease
from services.session.ownership.takeover import fence


@dataclass(slots=True)
class Held:
    """An agent of a user's list.

    Attributes:
        record: Its settings, as they were last seen.
        live: The agent, while it is loaded.
        contested: True while another owner may still append to its log.
    """

    record: AgentRecord
    live: LiveAgent | None = None
    contested: bool = False


class Gone(Exception):  # noqa: N818 - an expected answer, not an error
    """Raised when an agent was deleted by another owner, or with its database.

    Args:
        tombstone: True when its documents have to be removed still.
    """

    def __init__(self, *, tombstone: bool) -> None:
        super().__init__()
        self.tombstone = tombstone


async def load(environment: Environment, lease: Lease, held: Held, loader: Loader) -> LiveAgent:
    """Load an agent, with its turns running on.

    Args:
        environment: What it works with.
        lease: The lease on its user.
        held: The agent; its record becomes what is stored now.
        loader: Who loads it.

    Raises:
        Gone: There is no such agent.
        Failure: STORE_UNAVAILABLE; why the lease is over. Nothing was loaded.
    """
    log = held.record.log
    tail = await _tail(environment, lease, held, log)
    # After the tail: once that is ours alone, so is the document.
    document = await environment.store.get(str(held.record.name))
    if document is None or document.fields["deleted"]:
        raise Gone(tombstone=document is not None)
    record = held.record = read_agent(held.record.name.user, document)
    if record.log != log:
        # Deleted and made anew by the owner before us.
        held.contested = bool(lease.epoch)
        tail = await _tail(environment, lease, held, record.log)
    live = LiveAgent(
        environment=environment,
        record=record,
        version=document.version,
        tail=tail,
        lease=lease,
        loader=loader,
    )
    await live.resume()
    held.live = live
    return live


def unload(held: Held) -> None:
    """Let go of an agent that is not busy."""
    if held.live is not None:
        held.live.close(not_found())
        held.live = None


async def outdated(live: LiveAgent) -> bool:
    """Tell whether somebody else has appended to the log of a loaded agent.

    Raises:
        Failure: STORE_UNAVAILABLE.
    """
    tail = await live.history.tail()
    return tail is not None and tail.end.sequence > live.log.next


async def _tail(environment: Environment, lease: Lease, held: Held, log: str) -> Segment | None:
    """Return the newest segment of a log that nobody else can append to."""
    history = History(store=environment.store, agent=held.record.name, log=log)
    tail = await history.tail()
    if tail is not None and tail.epoch > lease.epoch:
        # Of an owner after us, which this process has slept through; or leases were lost.
        await lease.verify()
    elif held.contested:
        await lease.confirm()
    else:
        return tail
    tail = await fence(environment.store, history, lease.epoch)
    held.contested = False
    return tail
