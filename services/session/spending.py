"""What a user's agents consume in a month, those deleted since included.

It is the sum of what each agent's own document counts, so that no document is
written by all of them; what deleted agents had consumed is added to one document in
the commit of their deletion. Does not know turns, nor who asks.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import timedelta

from services.session.account import UsageSum, month_of, read_months
from services.session.agent_record import AgentRecord
from services.session.budgets import budget_exhausted
from services.session.environment import Environment
from services.session.history import History
from services.session.loading import Held
from services.session.names import AgentName
from services.session.records import deleted_usage_path
from services.session.roster import Roster

_LATE = timedelta(days=1)
"""Far more than an agent's document is behind its log."""

_AT_ONCE = 32
"""Logs read together: whoever waits for a user's first call shall not wait for each."""


class Spending:
    """One user's usage by month, and what may be consumed still.

    Args:
        environment: What it works with.
        user: Id of the user.
        roster: The user's agents.
    """

    __slots__ = ("_deleted", "_doubtful", "_environment", "_gone", "_loaded", "_roster", "_user")

    def __init__(self, *, environment: Environment, user: str, roster: Roster) -> None:
        self._environment = environment
        self._user = user
        self._roster = roster
        self._loaded = False
        self._deleted: Mapping[str, UsageSum] = {}
        # Agents that may be deleted, and those that are though the list has them; by workspace.
        self._doubtful: dict[str, AgentName] = {}
        self._gone: set[str] = set()

    async def load(self) -> None:
        """Read what the list of agents does not tell, once. No agent may be deleted meanwhile.

        Raises:
            Failure: STORE_UNAVAILABLE; the next call tries again.
        """
        if self._loaded:
            return
        store = self._environment.store
        document = await store.get(deleted_usage_path(self._user))
        deleted = read_months(document.fields["months"]) if document is not None else {}
        for workspace, name in list(self._doubtful.items()):
            there = await store.get(str(name))
            if there is None or there.fields["deleted"]:
                self._gone.add(workspace)
            del self._doubtful[workspace]
        await self._catch_up()
        self._deleted = deleted
        self._loaded = True

    def deleted(self, months: Mapping[str, UsageSum]) -> None:
        """Learn what deleted agents have consumed, now that there is one more."""
        self._deleted = months

    def doubt(self, record: AgentRecord) -> None:
        """Learn that an agent may have been deleted or not."""
        self._doubtful[record.workspace] = record.name
        self._loaded = False

    def month(self, month: str) -> UsageSum:
        """Return what turns that ended in a month consumed."""
        total = self._deleted.get(month, UsageSum())
        for held in self._roster.agents.values():
            there = held.record.account.months.get(month)
            if there is not None and not (self._gone and held.record.workspace in self._gone):
                total = total.plus(there)
        return total

    def left(self) -> int | None:
        """Return what may be consumed this month, running turns deducted; None for no limit."""
        budget = self._environment.limits.month_budget
        if not budget:
            return None
        settled = self.month(month_of(self._environment.clock.now())).cost
        return budget - settled - sum(live.unsettled_cost for live in self._roster.live())

    def watch(self) -> None:
        """Stop every running turn once nothing is left."""
        left = self.left()
        if left is not None and left <= 0:
            for live in self._roster.live():
                live.exhaust(budget_exhausted("month"))

    async def _catch_up(self) -> None:
        """Read what an owner that is gone had not written to its agents' documents yet."""
        since = self._environment.clock.now().replace(day=1, hour=0, minute=0, second=0) - _LATE
        behind = [
            held
            for held in self._roster.agents.values()
            if held.contested and held.live is None and held.record.activity_time >= since
        ]
        for first in range(0, len(behind), _AT_ONCE):
            await asyncio.gather(*map(self._recall, behind[first : first + _AT_ONCE]))

    async def _recall(self, held: Held) -> None:
        record = held.record
        history = History(store=self._environment.store, agent=record.name, log=record.log)
        tail = await history.tail()
        # Not when it was loaded meanwhile, which knows more.
        if held.live is None and held.record is record and tail is not None:
            record.recall(tail.carried.get("agent", {}))
