"""One run of the platform on this machine, from its folder to its last process.

Does not know the command line, nor how to write to a terminal.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal, TypeAlias

from services.local.banner import banner
from services.local.context import ContextError, keep_context
from services.local.emulated import EmulatedData
from services.local.emulator import PROJECT, Emulator
from services.local.errors import StartError
from services.local.folder import DataFolder
from services.local.model import Agents, variables
from services.local.ports import free_port, is_free
from services.local.programs import INHERITED, Program, programs
from services.local.readiness import until_ready
from services.local.replicas import Replica, choose_replicas, ports_to_keep
from services.local.supervisor import Backoff, Death, Supervisor
from services.local.texts import Texts

GRACE = timedelta(seconds=2.5)
GRACE_BEFORE_SAVING = timedelta(seconds=1.7)
"""With an emulator, which is saved and ended when the services have ended."""
READY_WITHIN = timedelta(seconds=30)
DEATHS_BEFORE_READY = 3
"""A service that ends so often before all are ready will not get better by itself."""
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
PORTS = "ports.json"

Store: TypeAlias = Literal["sqlite", "firestore"]
"""Databases that a run can have."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What was asked for.

    Attributes:
        port: The first gateway's; 0 chooses a free one.
        data: Folder of everything that lasts.
        replicas: Processes of each service.
        store: Where everything that lasts is kept: a file, or an emulator of Firestore.
        agents: Which agents it has by default.
    """

    port: int
    data: Path
    replicas: int = 1
    store: Store = "sqlite"
    agents: Agents = field(default_factory=Agents)


class Run:
    """The three services, from start to stop.

    Args:
        request: What was asked for.
        environ: This process's environment.
        texts: Sentences in the person's language.
        show: Writes the answer.
        tell: Writes what happens on the way.
    """

    def __init__(
        self,
        *,
        request: Request,
        environ: Mapping[str, str],
        texts: Texts,
        show: Callable[[str], None],
        tell: Callable[[str], None],
    ) -> None:
        self._request = request
        self._environ = environ
        self._inherited = {name: environ[name] for name in INHERITED if name in environ}
        self._texts = texts
        self._show = show
        self._tell = tell
        self._stop = asyncio.Event()
        self._hopeless: Program | None = None
        self._deaths: Counter[str] = Counter()
        self._ready = False
        self._supervisors: list[Supervisor] = []

    async def serve(self) -> None:
        """Start everything, say where it is, and return once it has been stopped.

        Raises:
            StartError: It cannot be started as asked, or did not become ready.
        """
        port, count = self._request.port, self._request.replicas
        if count > 1 and self._request.store == "sqlite":
            raise StartError(
                "Only one session service can have an SQLite file."
                f" Try:  make run REPLICAS={count} STORE=firestore"
            )
        if port and not is_free(port):
            raise StartError(f"Port {port} is in use. Try:  make run PORT={port + 10}")
        with DataFolder(self._request.data) as folder:
            replicas = choose_replicas(gateway=port, count=count, before=folder.kept(PORTS))
            emulator = self._emulator(folder, replicas)
            folder.keep(PORTS, ports_to_keep(replicas))
            services = programs(
                folder=folder,
                replicas=replicas,
                store=self._store(folder, emulator),
                agents=variables(self._request.agents, folder=folder, environ=self._environ),
                inherited=self._inherited,
                chosen=self._environ,
            )
            grace = GRACE if emulator is None else GRACE_BEFORE_SAVING

            def record() -> None:
                folder.record(self._state(replicas, emulator))

            async with (
                self._signals(),
                self._saved(emulator, record),
                self._supervised(services, grace, record, self._on_death),
            ):
                await self._until_ready(folder, replicas, emulator)
                await self._stop.wait()

    def _emulator(self, folder: DataFolder, replicas: Sequence[Replica]) -> Emulator | None:
        """Make the emulator that this run starts, when it starts one."""
        if self._request.store == "sqlite" or self._foreign_emulator:
            return None
        taken = {port for each in replicas for port in (each.port, each.metrics_port)}
        return Emulator(
            folder=folder,
            port=free_port(taken=taken),
            project=self._project,
            environ=self._environ,
        )

    def _store(self, folder: DataFolder, emulator: Emulator | None) -> dict[str, str]:
        """The variables that tell the session service about its store."""
        if self._request.store == "sqlite":
            return {"MOORLINE_STORE": f"sqlite:{folder.path / 'moorline.db'}"}
        return {
            "MOORLINE_STORE": "firestore",
            "GOOGLE_CLOUD_PROJECT": self._project,
            "FIRESTORE_EMULATOR_HOST": emulator.address if emulator else self._foreign_emulator,
        }

    @property
    def _project(self) -> str:
        return self._environ.get("GOOGLE_CLOUD_PROJECT") or PROJECT

    @property
    def _foreign_emulator(self) -> str:
        """Address of the emulator that is there already and is to be used; empty for none."""
        if self._request.store == "sqlite":
            return ""
        return self._environ.get("FIRESTORE_EMULATOR_HOST", "")

    @asynccontextmanager
    async def _saved(
        self, emulator: Emulator | None, record: Callable[[], None]
    ) -> AsyncIterator[None]:
        """Run the emulator while inside, if any, and save what is in it at the end."""
        if emulator is None:
            yield
            return
        data = EmulatedData(emulator, texts=self._texts, tell=self._tell)

        def on_death(death: Death) -> None:
            self._on_death(death)
            # Nobody was told before where to write to it.
            if self._ready:
                data.died()

        # Once it is saved there is nothing to be polite for.
        async with self._supervised([emulator.program], timedelta(0), record, on_death):
            yield
            if self._ready:
                await data.save()

    @asynccontextmanager
    async def _supervised(
        self,
        programs: Sequence[Program],
        grace: timedelta,
        record: Callable[[], None],
        died: Callable[[Death], None],
    ) -> AsyncIterator[None]:
        """Keep programs running while inside."""
        supervisor = Supervisor(
            programs=programs,
            backoff=Backoff(),
            grace=grace,
            started=record,
            died=died,
        )
        self._supervisors.append(supervisor)
        async with supervisor:
            yield

    @property
    def _pids(self) -> dict[str, int]:
        return {name: pid for each in self._supervisors for name, pid in each.pids.items()}

    def _state(self, replicas: Sequence[Replica], emulator: Emulator | None) -> dict[str, Any]:
        """What `run.json` holds."""
        ports = {replica.name: replica.port for replica in replicas}
        metrics = {f"{replica.name}_metrics": replica.metrics_port for replica in replicas}
        emulated = {emulator.program.name: emulator.port} if emulator else {}
        return {
            "pids": {"supervisor": os.getpid(), **self._pids},
            "ports": {**ports, **metrics, **emulated},
        }

    async def _until_ready(
        self, folder: DataFolder, replicas: Sequence[Replica], emulator: Emulator | None
    ) -> None:
        """Wait for all services, then show where they are; return early when stopped."""
        gateways = [each for each in replicas if each.service == "gateway"]
        others = [each.port for each in replicas if each.service != "gateway"]
        urls = [f"http://{each.address}" for each in gateways]
        async with asyncio.TaskGroup() as tasks:
            ready = tasks.create_task(
                until_ready(grpc_ports=others, http_ports=[each.port for each in gateways])
            )
            context = tasks.create_task(self._keep_context(urls[0], folder.path / "token"))
            warm = tasks.create_task(emulator.warm_up()) if emulator else None
            stopped = tasks.create_task(self._stop.wait())
            await asyncio.wait(
                {ready, stopped},
                timeout=READY_WITHIN.total_seconds(),
                return_when=asyncio.FIRST_COMPLETED,
            )
            self._ready = ready.done()
            stopped.cancel()
            ready.cancel()
            if not self._ready:
                context.cancel()
                if warm is not None:
                    warm.cancel()
        if self._ready:
            self._show(
                banner(
                    texts=self._texts,
                    folder=folder,
                    replicas=replicas,
                    emulator=emulator,
                    foreign=self._foreign_emulator,
                    pids=self._pids,
                    backend=self._request.agents.backend,
                )
            )
        elif self._hopeless or not self._stop.is_set():
            raise StartError(self._why_not(folder), status=1)

    def _why_not(self, folder: DataFolder) -> str:
        program = self._hopeless
        if program is None:
            seconds = READY_WITHIN.total_seconds()
            return f"Not ready after {seconds:g} s; see the logs in {folder.path / 'logs'}."
        words = program.log.read_text(errors="replace").splitlines()[-5:]
        return "\n".join([f"{program.name} does not start ({program.log}):", *words])

    def _on_death(self, death: Death) -> None:
        name, status = death.program.name, death.status
        how = (
            self._texts.signalled.format(number=-status)
            if status < 0
            else self._texts.exited.format(status=status)
        )
        pause = death.pause.total_seconds()
        self._tell(self._texts.died.format(name=name, how=how, pause=pause))
        self._deaths[name] += 1
        if not self._ready and self._deaths[name] >= DEATHS_BEFORE_READY:
            self._hopeless = death.program
            self._stop.set()

    async def _keep_context(self, url: str, token_file: Path) -> None:
        """Make the `moorline` command find this server; a failure is told and no more."""
        try:
            await keep_context(url=url, token_file=token_file, environ=self._inherited)
        except ContextError as error:
            self._tell(self._texts.no_context.format(reason=error))

    @asynccontextmanager
    async def _signals(self) -> AsyncIterator[None]:
        """Stop at the first signal, and kill at the second."""
        loop = asyncio.get_running_loop()

        def on_signal() -> None:
            if self._stop.is_set():
                for supervisor in self._supervisors:
                    supervisor.kill()
            else:
                self._stop.set()
                self._tell(self._texts.stopping)

        # `nohup` ignores a hang-up on purpose, and that has to stay so.
        hangs_up = signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN
        numbers = STOP_SIGNALS if hangs_up else STOP_SIGNALS[:2]
        for number in numbers:
            loop.add_signal_handler(number, on_signal)
        try:
            yield
        finally:
            for number in numbers:
                loop.remove_signal_handler(number)
