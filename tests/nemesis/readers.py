"""Readers that dial session pods by themselves, as an operator's program may.

Each stream goes to any pod, also to one that has lost its database or its users:
whatever such a pod says must be true all the same.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import random
from collections.abc import Callable, Sequence
from functools import partial

import grpc
from google.protobuf import json_format

from moorline.session.v1 import events_pb2
from services.chassis.failures import Failure
from services.chassis.identity import METADATA_KEY, Identity, Signer
from tests.nemesis.history import History, Kind

_METHOD = "/moorline.session.v1.EventService/WatchEvents"
_WATCHES = itertools.count(-1, -1)
_OPTIONS = (
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
)


class Reader:
    """Follows the agents of one user without a gateway.

    Args:
        name: Names it in the history.
        user: The user's id.
        agents: The agents' names.
        pods: Addresses of session pods.
        key: Signs who the caller is, as services do.
        history: Where everything is recorded.
        chance: Decides.
    """

    def __init__(
        self,
        *,
        name: str,
        user: str,
        agents: Sequence[str],
        pods: Sequence[str],
        key: str,
        history: History,
        chance: random.Random,
    ) -> None:
        self.name = name
        self.user = user
        self._positions = dict.fromkeys(agents, 0)
        self._log_ids = dict.fromkeys(agents, "")
        self._pods = pods
        self._signer = Signer(key=key)
        # By how many seconds the clock of a pod is ahead of ours.
        self._offsets: dict[str, int] = {}
        self._history = history
        self._chance = chance

    async def run(self) -> None:
        """Follow until cancelled."""
        async with asyncio.TaskGroup() as group:
            for agent in self._positions:
                group.create_task(self._follow(agent))

    def positions(self) -> list[tuple[str, Callable[[], int]]]:
        """Each agent with what tells how far its history was seen."""
        return [(agent, partial(self._positions.__getitem__, agent)) for agent in self._positions]

    async def _follow(self, agent: str) -> None:
        while True:
            pod = self._chance.choice(self._pods)
            watch = next(_WATCHES)
            after = self._positions[agent]
            self._history.add(Kind.WATCH, self.name, agent, watch=watch, after=after, log="")
            reason = ""
            offset = self._offsets.get(pod, 0)
            try:
                async with grpc.aio.insecure_channel(pod, options=_OPTIONS) as channel:
                    async with asyncio.timeout(self._chance.uniform(3, 12)):
                        await self._read(channel, agent, watch, offset)
            except TimeoutError:
                reason = "MOVES_ON"
            except grpc.aio.AioRpcError as error:
                failure = Failure.from_rpc_error(error)
                reason = failure.reason_name
                self._offsets[pod] = self._signer.offset_seconds(failure) or offset
            self._history.add(Kind.WATCH_END, self.name, agent, watch=watch, reason=reason)
            known = self._positions[agent] or self._log_ids[agent]
            if known and reason in ("SEQUENCE_UNKNOWN", "RESOURCE_NOT_FOUND"):
                self._history.add(Kind.RESET, self.name, agent)
                self._positions[agent], self._log_ids[agent] = 0, ""
            await asyncio.sleep(self._chance.uniform(0.2, 0.6))

    async def _read(self, channel: grpc.aio.Channel, agent: str, watch: int, offset: int) -> None:
        identity = Identity(user=f"users/{self.user}")
        call = channel.unary_stream(
            _METHOD,
            request_serializer=events_pb2.WatchEventsRequest.SerializeToString,
            response_deserializer=events_pb2.WatchEventsResponse.FromString,
        )(
            events_pb2.WatchEventsRequest(
                parent=agent,
                after_sequence=self._positions[agent],
                include_deltas=True,
                log_id=self._log_ids[agent],
            ),
            metadata=((METADATA_KEY, self._signer.token(identity, offset)),),
        )
        try:
            async for response in call:
                self._take(agent, watch, response)
        finally:
            call.cancel()

    def _take(self, agent: str, watch: int, response: events_pb2.WatchEventsResponse) -> None:
        text = json.dumps({"watchEventsResponse": json_format.MessageToDict(response)})
        self._history.add(Kind.FRAME, self.name, agent, watch=watch, text=text)
        for update in response.updates:
            if update.HasField("event"):
                self._positions[agent] = update.event.sequence
            elif update.HasField("checkpoint"):
                self._log_ids[agent] = update.checkpoint.log_id
