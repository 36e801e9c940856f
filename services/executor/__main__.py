"""Starts the executor: the one place that knows all its parts."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from datetime import timedelta
from pathlib import Path

import grpc

from moorline.diagnosis.v1 import diagnosis_pb2, diagnosis_pb2_grpc
from moorline.executor.v1 import (
    backends_pb2_grpc,
    executions_pb2_grpc,
    feed_pb2_grpc,
    workspaces_pb2_grpc,
)
from services.chassis import logs, server
from services.chassis.diagnosis_api import DiagnosisApi
from services.chassis.feed import Feeds
from services.chassis.identity import Checker
from services.chassis.metrics import Metrics, version_of
from services.chassis.settings import read
from services.chassis.tasks import Tasks
from services.executor import adoption, draining, feed_api
from services.executor.agents import Agents, Wear
from services.executor.backend import Backend, Link
from services.executor.backends.cloud_run import CloudRun
from services.executor.backends.docker import Docker
from services.executor.backends.process import Process
from services.executor.backends.simulation import Simulation
from services.executor.backends_api import BackendApi
from services.executor.channels.docker.container import Limits as AgentLimits
from services.executor.channels.docker.container import Setting, instance_of
from services.executor.channels.process.tree import Trees
from services.executor.claude_code import frames as claude_code_frames
from services.executor.claude_code import transcripts
from services.executor.claude_code.patience import PATIENCE
from services.executor.claude_code.processes import ClaudeCodeProcesses
from services.executor.executions import Executions
from services.executor.executions_api import ExecutionApi
from services.executor.files.disk import Disk
from services.executor.files.room import Room
from services.executor.files.snapshots import Snapshots
from services.executor.files.workspace_files import WorkspaceFiles
from services.executor.following import ExecutionFeeds
from services.executor.model_proxy import prices
from services.executor.model_proxy.key import Key
from services.executor.model_proxy.proxy import ModelProxy
from services.executor.model_proxy.upstream import Upstream
from services.executor.notes import Notes
from services.executor.provisions import Limits, Provisions
from services.executor.queue import FairQueue
from services.executor.restoring import Restoring
from services.executor.settings import ModelAuthentication, Settings
from services.executor.surroundings import Look, Surroundings
from services.executor.workspaces import Workspaces
from services.executor.workspaces_api import WorkspaceApi

log = logging.getLogger(__name__)

SERVICE = "executor"


async def main(settings: Settings, *, on_listening: Callable[[int], None] | None) -> None:
    """Serve until told to stop.

    Args:
        settings: What the operator chose.
        on_listening: Called with the port when calls are accepted; None when nobody wants to know.
    """
    async with AsyncExitStack() as stack:
        metrics = Metrics(service=SERVICE)
        await stack.enter_async_context(metrics.serve(settings.metrics_listen))
        tasks = await stack.enter_async_context(Tasks())
        simulation = Simulation(seed=settings.simulation_seed, tasks=tasks)
        process = Process(
            allowed=settings.allow_process,
            program=settings.agent_program,
            version=claude_code_frames.CLI_VERSION,
            root=settings.workspaces,
            path=settings.search_path,
            shell_processes=settings.agent_shell_processes,
            trees=Trees(proc=Path("/proc")),
            tasks=tasks,
        )
        docker = await stack.enter_async_context(_docker(settings, tasks))
        listed: tuple[Backend, ...] = (simulation, process, docker, CloudRun())
        backends = {backend.name: backend for backend in listed}
        await process.probe()
        workspaces = Workspaces(root=settings.workspaces)
        disk = await stack.enter_async_context(Disk())
        snapshots = Snapshots(disk=disk)
        files = WorkspaceFiles(
            workspaces=workspaces,
            disk=disk,
            snapshots=snapshots,
            room=Room(
                file_bytes=settings.file_bytes,
                workspace_bytes=settings.workspace_bytes,
                spare_bytes=settings.spare_bytes,
            ),
            archive_bytes=settings.archive_bytes,
            tasks=tasks,
            clock=asyncio.get_running_loop().time,
        )
        key = Key(settings.model_key_file)
        proxy = await stack.enter_async_context(
            ModelProxy(
                upstream=Upstream(
                    url=settings.model_upstream,
                    key=key,
                    bearer=settings.model_authentication is ModelAuthentication.BEARER,
                    silence=settings.upstream_silence,
                ),
                key=key,
                prices=prices.load(settings.model_prices),
                metrics=metrics,
            )
        )
        limited = {
            backend.name
            for backend in listed
            if backend.link is not Link.NONE or settings.limit_simulation
        }
        notes = Notes(workspaces=workspaces)
        agents = Agents(
            backends=backends,
            workspaces=workspaces,
            processes=ClaudeCodeProcesses(
                default_model=next(iter(settings.models), ""),
                fallback_model=settings.fallback_model,
                retries=settings.provider_retries,
                patience=PATIENCE,
                tasks=tasks,
            ),
            proxy=proxy,
            limited=limited,
            wear=_wear(settings),
            tasks=tasks,
            metrics=metrics,
        )
        executions = Executions(
            backends=backends,
            proxy=proxy,
            provisions=Provisions(
                agents=agents,
                snapshots=snapshots,
                queue=FairQueue(
                    slots=settings.max_running_turns,
                    tenant_slots=settings.max_running_turns_per_tenant,
                    metrics=metrics,
                ),
                limited=limited,
                notes=notes,
                tasks=tasks,
            ),
            limits=Limits(
                timeout=settings.turn_timeout,
                stall=settings.stall_limit,
                grace=settings.grace,
            ),
            workspaces=workspaces,
            has_entry=transcripts.has,
            capacity=settings.max_executions,
            retention=settings.retention,
            metrics=metrics,
        )
        if stack.enter_context(workspaces.claimed()):
            await adoption.adopt(backends=listed, notes=notes, executions=executions)
        else:
            log.warning("another executor has these workspaces; what it runs is left alone")
        restoring = Restoring(executions=executions, backends=listed, write=transcripts.restore)
        feeds: ExecutionFeeds = Feeds(response=feed_api.response, empty=feed_api.response)
        surroundings = Surroundings(
            backends=backends,
            default_backend=settings.default_backend,
            workspaces=settings.workspaces,
            looks=_looks(docker, process, proxy),
        )

        models = {
            backend.name: settings.models for backend in listed if backend.link is not Link.NONE
        }

        def register(to: grpc.aio.Server) -> None:
            execution_api = ExecutionApi(
                executions=executions,
                feeds=feeds,
                default_backend=settings.default_backend,
                models=models,
                timeout=settings.turn_timeout,
            )
            backend_api = BackendApi(
                backends=backends,
                default_backend=settings.default_backend,
                proxy=proxy,
                models=models,
            )
            executions_pb2_grpc.add_ExecutionServiceServicer_to_server(execution_api, to)
            feed_pb2_grpc.add_ExecutionFeedServiceServicer_to_server(
                feed_api.ExecutionFeedApi(feeds=feeds, executions=executions), to
            )
            backends_pb2_grpc.add_BackendServiceServicer_to_server(backend_api, to)
            diagnosis_pb2_grpc.add_DiagnosisServiceServicer_to_server(
                DiagnosisApi(look=surroundings.look), to
            )
            workspaces_pb2_grpc.add_WorkspaceServiceServicer_to_server(
                WorkspaceApi(executions=executions, files=files, restorer=restoring), to
            )

        async def end() -> None:
            await draining.drain(executions, feeds, whole=settings.drain_seconds)

        await server.serve(
            settings=settings,
            service=SERVICE,
            register=register,
            checker=Checker(key=settings.identity_key),
            metrics=metrics,
            draining=end,
            on_listening=on_listening,
        )


def _wear(settings: Settings) -> Wear:
    return Wear(
        processes=settings.max_agent_processes,
        limited_processes=settings.max_real_agent_processes,
        tenant_processes=settings.max_agent_processes_per_tenant,
        idle=settings.idle_limit,
        background=settings.turn_timeout,
        turns=settings.process_turns,
        memory=settings.process_memory << 20,
    )


def _docker(settings: Settings, tasks: Tasks) -> Docker:
    return Docker(
        disabled=settings.disable_docker,
        host=settings.docker_host,
        setting=Setting(
            image=settings.agent_image,
            cli_version=claude_code_frames.CLI_VERSION,
            instance=instance_of(settings.workspaces),
            version=version_of("moorline"),
            limits=AgentLimits(
                memory=settings.agent_memory,
                cpus=settings.agent_cpus,
                pids=settings.agent_pids,
                shell_processes=settings.agent_shell_processes,
            ),
        ),
        # Its containers are lost when it is given up, and a busy one takes seconds.
        patience=timedelta(seconds=10),
        interval=timedelta(seconds=5),
        tasks=tasks,
    )


def _looks(docker: Docker, process: Process, proxy: ModelProxy) -> tuple[Look, ...]:
    async def containers() -> Sequence[diagnosis_pb2.Check]:
        return docker.checks()

    async def programs() -> Sequence[diagnosis_pb2.Check]:
        return [process.check()]

    return (
        Look(diagnosis_pb2.Check.SUBJECT_ENGINE, containers),
        Look(diagnosis_pb2.Check.SUBJECT_PROGRAM, programs),
        Look(diagnosis_pb2.Check.SUBJECT_UPSTREAM, proxy.check),
    )


if __name__ == "__main__":
    chosen = read(Settings, argv=sys.argv[1:], environ=os.environ)
    logs.configure(service=SERVICE, format=chosen.log_format, level=chosen.log_level)
    server.run(lambda: main(chosen, on_listening=None))
