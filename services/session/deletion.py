"""Deletes an agent so that a crash at any step leaves nothing behind.

A tombstone and a work entry come first, the agent's document goes last, and its
files after that. Does not know sessions.
"""

from __future__ import annotations

from services.chassis.failures import Failure
from services.session.deliveries import FIRST_DELAY, PASSING, pause
from services.session.environment import Environment
from services.session.names import AgentName
from services.session.records import (
    WORK,
    AgentRecord,
    deletion_fields,
    deletion_work_path,
    log_path,
    order_path,
    read_agent,
    turns_path,
    work_range,
)
from services.session.store import Create, Delete, Store, Update

_AT_ONCE = 200
"""Documents removed by one commit; every database takes 500."""


async def begin_deletion(store: Store, record: AgentRecord, version: str) -> None:
    """Make an agent a tombstone, for good.

    Raises:
        StoreConflict: The document is at another version.
        Failure: STORE_UNAVAILABLE.
    """
    record.deleted = True
    await store.commit(
        [
            Update(str(record.name), record.fields(), version),
            Create(
                deletion_work_path(record.name, record.workspace),
                deletion_fields(record.name, record.workspace),
            ),
        ]
    )


async def delete_documents(store: Store, agent: AgentName) -> None:
    """Remove all that a tombstone has, then the tombstone. Safe to repeat.

    Does nothing when the agent's document is not a tombstone: then it is gone, or
    another agent of that name was created since.

    Must not run beside the creation of an agent of that name.

    Raises:
        Failure: STORE_UNAVAILABLE.
    """
    document = await store.get(str(agent))
    if document is None or not read_agent(agent.user, document).deleted:
        return
    for collection in (turns_path(agent), order_path(agent), log_path(agent)):
        await _clear(store, collection)
    after, before = work_range(agent)
    await _clear(store, WORK, after=after, before=before)
    await store.commit([Delete(document.path, document.version)])


async def delete_workspace(environment: Environment, agent: AgentName, workspace: str) -> None:
    """Remove an agent's files, however long an executor is away, then the work entry.

    A failure that does not pass by waiting leaves the entry for the next start.

    Raises:
        Failure: An executor refused, or STORE_UNAVAILABLE.
    """
    delay = FIRST_DELAY
    while True:
        try:
            await environment.executors.delete_workspace(workspace)
        except Failure as failure:
            if failure.reason not in PASSING:
                raise
        else:
            break
        delay = await pause(delay)
    await environment.store.commit([Delete(deletion_work_path(agent, workspace))])


async def _clear(store: Store, collection: str, *, after: str = "", before: str = "") -> None:
    while documents := await store.read(collection, after=after, before=before, limit=_AT_ONCE):
        await store.commit([Delete(document.path) for document in documents])
