"""What one agent consumes, and whether it may go on. Does not know how requests are made.

Cost is summed in pico-dollars, without rounding. What is told is the whole micro-dollars of it;
what is left of one counts for the next turn, so that the turns' costs add up to what all of them
cost together, less a part of one micro-dollar.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Self

import orjson

from moorline.transcript.v1 import transcript_pb2
from services.executor.agent_process import Budget
from services.executor.model_proxy.prices import PICOS, Prices, Told

_INT32_MAX = 2**31 - 1
_ANSWER_TOKENS = 128_000
"""Tokens that an answer may have, as the program asks for; counted where requests run beside each
other."""
_BYTES_PER_TOKEN = 3
_FIELDS = ("read", "written", "cache_read", "cache_written")


class Meter:
    """Counts for one workspace; outlives its processes.

    Args:
        prices: What models cost.
    """

    def __init__(self, *, prices: Prices) -> None:
        self.changed: Callable[[], None] | None = None
        """Called after `usage`, `model` or `exhausted` has changed."""
        self.record: Callable[[bytes], None] | None = None
        """Given each change, as a line that `recall` understands."""
        self.model = ""
        """The model that answered last; empty for none."""
        self._prices = prices
        self._budget = Budget()
        self._tokens = dict.fromkeys(_FIELDS, 0)
        self._cost = 0
        # What was broken off before it was told. The provider has the figures, so it is not
        # counted; but a budget must not be passed by breaking off every answer.
        self._owed = 0
        self._exhausted = ""
        self._expected: dict[Charge, int] = {}
        self._ended: asyncio.Future[None] | None = None

    def begin(self, budget: Budget) -> None:
        """Begin a turn; what was consumed since the last one ended counts for it.

        Args:
            budget: What it may cost.
        """
        self._budget = budget
        self._judge()

    def end(self) -> transcript_pb2.Usage:
        """End the turn; return what it consumed. What comes later counts for the next one."""
        usage = self.usage
        spent = self._cost // PICOS
        self._tokens = dict.fromkeys(_FIELDS, 0)
        self._cost -= min(spent, _INT32_MAX) * PICOS
        self._owed = 0
        # What goes on in the background has no turn to keep to.
        self._budget = Budget(
            agent=_less(self._budget.agent, spent), month=_less(self._budget.month, spent)
        )
        self._judge()
        return usage

    @property
    def usage(self) -> transcript_pb2.Usage:
        """What was consumed since the last turn ended."""
        tokens = {name: min(count, _INT32_MAX) for name, count in self._tokens.items()}
        return transcript_pb2.Usage(
            input_tokens=tokens["read"],
            output_tokens=tokens["written"],
            cache_read_tokens=tokens["cache_read"],
            cache_write_tokens=tokens["cache_written"],
            cost_usd_micros=min(self._cost // PICOS, _INT32_MAX),
        )

    @property
    def exhausted(self) -> str:
        """Which budget is spent: `turn`, `agent` or `month`; empty for none."""
        return self._exhausted

    async def admit(self, size: int) -> Charge | None:
        """Return the account of a new request; None when a budget is spent.

        A budget is passed by one request at most: where others are being answered, this one
        waits until, by an estimate, they leave something of it.

        Args:
            size: Bytes of the request.
        """
        while not self._exhausted:
            expected = sum(self._expected.values())
            if not self._expected or not self._spent(self._cost + self._owed + expected):
                charge = Charge(self)
                self._expected[charge] = self._estimate(size)
                return charge
            if self._ended is None:
                self._ended = asyncio.get_running_loop().create_future()
            # Until another request ends, or whoever asks hangs up.
            await asyncio.shield(self._ended)
        return None

    def recall(self, records: Iterable[bytes]) -> None:
        """Count again what another executor has counted; lines it did not finish are left out."""
        for record in records:
            try:
                model, cost, *tokens = orjson.loads(record)
                found = dict(zip(_FIELDS, map(int, tokens), strict=True))
                cost = int(cost)
            except (TypeError, ValueError):
                continue
            self._add(str(model), cost, found)
        self._judge()

    # For charges.

    def count(self, charge: Charge, before: Told, told: Told) -> int:
        """Count what has become known of a request; return the cost of that."""
        price = self._prices.of(told.model)
        cost = price.cost(told) - price.cost(before)
        tokens = {name: getattr(told, name) - getattr(before, name) for name in _FIELDS}
        self._expected[charge] = max(0, self._expected.get(charge, 0) - cost)
        self._add(told.model, cost, tokens)
        self._judge()
        if self.record is not None:
            self.record(orjson.dumps([told.model, cost, *tokens.values()]))
        if self.changed is not None:
            self.changed()
        return cost

    def owe(self, told: Told) -> None:
        """Keep to budgets by what nobody will tell, until the turn ends."""
        self._owed += self._prices.of(told.model).cost(told)
        self._judge()

    def leave(self, charge: Charge) -> None:
        """Hear that a request has ended."""
        self._expected.pop(charge, None)
        ended, self._ended = self._ended, None
        if ended is not None and not ended.done():
            ended.set_result(None)

    def _add(self, model: str, cost: int, tokens: dict[str, int]) -> None:
        self.model = model
        self._cost += cost
        for name, count in tokens.items():
            self._tokens[name] += count

    def _judge(self) -> None:
        self._exhausted = self._spent(self._cost + self._owed)

    def _spent(self, cost: int) -> str:
        """Return which budget a cost uses up, the smallest first; empty for none."""
        budget = self._budget
        limits = {"turn": budget.turn, "agent": budget.agent, "month": budget.month}
        spent = [
            (limit, name)
            for name, limit in limits.items()
            if limit is not None and cost >= limit * PICOS
        ]
        return min(spent)[1] if spent else ""

    def _estimate(self, size: int) -> int:
        read = size // _BYTES_PER_TOKEN
        # The first model is not known before it answers.
        return self._prices.of(self.model).cost(Told(cache_written=read, written=_ANSWER_TOKENS))


class Charge:
    """The account of one request; a context manager, for as long as it is answered."""

    def __init__(self, meter: Meter) -> None:
        self.told = Told()
        """What has been counted."""
        self._meter = meter

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._meter.leave(self)

    def tell(self, told: Told) -> int:
        """Count what the request consumed, as far as it is known now.

        Returns:
            What it costs beyond what was counted before, in pico-dollars.
        """
        before, self.told = self.told, told
        return self._meter.count(self, before, told)

    def owe(self, told: Told) -> None:
        """Hear about how much the request consumed that will not be told."""
        self._meter.owe(told)


def _less(limit: int | None, spent: int) -> int | None:
    return None if limit is None else max(0, limit - spent)
