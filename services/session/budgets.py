"""What is left for a turn of its own budget, its agent's and its user's.

Does not know what enforces it during the turn.
"""

from __future__ import annotations

from dataclasses import dataclass

from moorline.errors.v1 import errors_pb2
from moorline.executor.v1 import executions_pb2
from services.chassis.failures import Failure
from services.session.agent_record import AgentRecord
from services.session.records import TurnRecord

_WHOSE = {"turn": "turn's budget", "agent": "agent's budget", "month": "budget for this month"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Left:
    """What the next execution of a turn may cost, in millionths of a US dollar.

    Attributes:
        turn: Of the turn's budget; None for no limit.
        agent: Of the agent's; None for no limit.
        month: Of the user's for this month; None for no limit.
    """

    turn: int | None
    agent: int | None
    month: int | None

    def check(self) -> None:
        """Check that there is something of each.

        Raises:
            Failure: BUDGET_EXHAUSTED.
        """
        for budget, left in (("turn", self.turn), ("agent", self.agent), ("month", self.month)):
            if left is not None and left <= 0:
                raise budget_exhausted(budget)

    def message(self) -> executions_pb2.Budget | None:
        """Return it as a message; None when nothing is limited."""
        if (self.turn, self.agent, self.month) == (None, None, None):
            return None
        return executions_pb2.Budget(
            turn_usd_micros=self.turn, agent_usd_micros=self.agent, month_usd_micros=self.month
        )


def left_for(agent: AgentRecord, turn: TurnRecord, *, month: int | None) -> Left:
    """Return what is left for the next execution of a turn.

    Args:
        agent: Whose turn it is.
        turn: The turn; its earlier attempts have consumed too.
        month: What is left of the user's budget; None for no limit.
    """
    options = agent.options
    before = turn.usage.cost_usd_micros if turn.usage is not None else 0
    spent = agent.account.total.cost + before
    return Left(
        turn=options.turn_budget - before if options.turn_budget else None,
        agent=options.budget - spent if options.budget else None,
        month=month,
    )


def budget_exhausted(budget: str) -> Failure:
    """Return why a turn costs no more.

    Args:
        budget: `turn`, `agent` or `month`.
    """
    return Failure(
        errors_pb2.ERROR_REASON_BUDGET_EXHAUSTED,
        f"The {_WHOSE[budget]} is spent. Raise it to go on.",
        budget=budget,
    )
