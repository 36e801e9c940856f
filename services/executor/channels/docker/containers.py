"""The containers of one executor in one engine. Does not know what agents say."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import timedelta
from functools import partial
from typing import Any

from services.chassis.tasks import Tasks
from services.executor.backends.docker_findings import Findings
from services.executor.channel import Launch
from services.executor.channels.docker import probe
from services.executor.channels.docker.channel import DockerChannel
from services.executor.channels.docker.container import (
    INSTANCE,
    WORKSPACE,
    Setting,
    configuration,
    give,
    owner_of,
)
from services.executor.channels.docker.engine import Engine, EngineError
from services.executor.place import Place

log = logging.getLogger(__name__)


class Containers:
    """Makes containers, finds those that outlived an executor, and removes what is left over.

    Args:
        engine: Where they are.
        setting: What all containers have in common.
        tasks: Owner of the tasks that listen to them.
    """

    def __init__(self, *, engine: Engine, setting: Setting, tasks: Tasks) -> None:
        self._engine = engine
        self._setting = setting
        self._tasks = tasks
        self._survivors: dict[str, str] = {}
        self._live: set[DockerChannel] = set()
        self._ours = False
        # Workspaces whose containers could not be removed; None when nobody knows which.
        self._left: set[str] | None = set()

    @property
    def behind(self) -> bool:
        """Whether there may be containers that belong to nobody any more."""
        return self._left != set() or any(channel.left_behind for channel in self._live)

    async def look(self, patience: timedelta) -> Findings:
        """Find out whether containers can be made; never fails.

        Args:
            patience: How long the engine may take.
        """
        return await probe.look(self._engine, setting=self._setting, patience=patience)

    def new(self, launch: Launch) -> DockerChannel:
        """Return a channel to a container that is not there yet."""
        owner = owner_of(launch.place)
        return self._keep(
            launch.place,
            name=f"moorline-{launch.place.workspace}-{secrets.token_hex(4)}",
            create=configuration(launch, setting=self._setting, owner=owner),
            prepare=partial(give, launch.place, owner),
        )

    async def settle(self) -> None:
        """Wait, not for long, until the containers are removed that were to be ended."""
        await asyncio.gather(*(channel.settled() for channel in self._live))

    async def survivors(self) -> Collection[str]:
        """Return the workspaces whose containers run."""
        self._survivors = {}
        for one in await self._all() or ():
            if one["State"] == "running":
                # The newest comes first; there is more than one only by an accident of ours.
                self._survivors.setdefault(one["Labels"][WORKSPACE], one["Id"])
        return tuple(self._survivors)

    def adopt(self, place: Place) -> DockerChannel | None:
        """Return a channel to a survivor; None when there is none."""
        found = self._survivors.pop(place.workspace, "")
        return self._keep(place, name=found, create=None, prepare=None) if found else None

    async def reap(self, keep: Collection[str]) -> None:
        """Remove all containers, but for the survivors of some workspaces.

        Called only by the one executor that has the workspaces: others have the same label.
        """
        self._ours = True
        self._survivors = {name: one for name, one in self._survivors.items() if name in keep}
        await self.sweep()

    async def sweep(self) -> None:
        """Remove the containers that belong to nobody any more; `behind` is whether some stay."""
        found = await self._all()
        if found is None:
            return
        behind = [channel for channel in self._live if channel.left_behind]
        kept = {channel.container for channel in self._live if not channel.gone}
        kept.update(self._survivors.values())
        self._left = {
            one["Labels"].get(WORKSPACE, "")
            for one in found
            if kept.isdisjoint((one["Id"], *(name.lstrip("/") for name in one["Names"])))
            and not await self._remove(one)
        }
        for channel in behind:
            channel.left_behind = False

    async def _vacate(self, workspace: str) -> None:
        """See that no container of a workspace runs out of our sight.

        Two of them would write one conversation.

        Raises:
            EngineError: One may.
        """
        if self._ours and self._left != set():
            await self.sweep()
            if self._left is None or workspace in self._left:
                raise EngineError(0, "there may be a container of this agent already")
        for channel in [one for one in self._live if one.workspace == workspace]:
            if channel.left_behind:
                await self._engine.remove(channel.container)
                channel.left_behind = False

    async def _remove(self, one: Mapping[str, Any]) -> bool:
        facts = {"workspace": one["Labels"].get(WORKSPACE, ""), "state": one["State"]}
        try:
            await self._engine.remove(one["Id"])
        except EngineError as error:
            log.warning("container not removed", extra={**facts, "problem": str(error)})
            return False
        log.warning("container left behind removed", extra=facts)
        return True

    async def _all(self) -> Sequence[Mapping[str, Any]] | None:
        """Return all containers; None when the engine does not tell."""
        try:
            return await self._engine.list(INSTANCE, self._setting.instance)
        except EngineError as error:
            log.warning("containers not listed", extra={"problem": str(error)})
            self._left = None
            return None

    def _keep(
        self,
        place: Place,
        *,
        name: str,
        create: Mapping[str, Any] | None,
        prepare: Callable[[], None] | None,
    ) -> DockerChannel:
        channel = DockerChannel(
            engine=self._engine,
            container=name,
            workspace=place.workspace,
            configuration=create,
            prepare=prepare,
            tasks=self._tasks,
        )
        if create is not None:
            channel.before = partial(self._vacate, place.workspace)
        self._live = {one for one in self._live if not one.removed or one.left_behind} | {channel}
        return channel
