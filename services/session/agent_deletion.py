"""Deletes an agent so that a crash at any step leaves nothing behind.

A tombstone and a work entry come first, the agent's document goes last, and its
files after that. Does not know sessions.
"""

from __future__ import annotations

from collections.abc import Mapping

from moorline.errors.v1 import errors_pb2
from services.chassis.backoff import Backoff
from services.chassis.failures import Failure
from services.session.account import Account, UsageSum, read_months, stored_months
from services.session.agent_record import read_agent
from services.session.environment import Environment
from services.session.executors.deliveries import PASSING
from services.session.history import History, Position, Segment
from services.session.names import AgentName
from services.session.ownership.ownership import Lease
from services.session.records import (
    WORK,
    deleted_usage_path,
    deletion_fields,
    deletion_work_path,
    log_path,
    order_path,
    transcript_path,
    turns_path,
    work_range,
)
from services.session.store import Create, Delete, Document, Store, StoreConflict, Update, Write

_AT_ONCE = 100
"""Documents removed by one commit; a store takes 500 writes, and a large document some."""

_PIECES_AT_ONCE = 20
"""The same for pieces of a transcript, which are large."""


async def bury(
    store: Store, lease: Lease, agent: AgentName, account: Account | None
) -> Mapping[str, UsageSum] | None:
    """Make an agent a tombstone, for good; what it consumed counts on, from the same commit.

    Nothing of ours may be in flight for it.

    Args:
        store: Where it is.
        lease: The lease on its user.
        agent: The agent.
        account: What it has consumed; None for what is stored.

    Returns:
        What all of the user's deleted agents have consumed, by month; None when that
        has not changed now.

    Raises:
        Failure: FENCED when another owner was found; STORE_UNAVAILABLE, after which
            it may be one or not; why the lease is over.
    """
    document = await store.get(str(agent))
    if document is None or document.fields["deleted"]:
        # An earlier call did, whose answer was lost.
        return None
    record = read_agent(agent.user, document)
    writes: list[Write] = []
    if lease.epoch:
        # As with everything in the log: who is the owner no more fails.
        history = History(store=store, agent=agent, log=record.log)
        tail = await history.tail()
        record.recall(tail.carried.get("agent", {}) if tail is not None else {})
        position = tail.end if tail is not None else Position()
        end = Segment(position=position, nonce="", events=[], cursors={}, epoch=lease.epoch)
        writes.append(Create(history.path(position), end.fields()))
        await lease.confirm()
    record.deleted = True
    work = deletion_work_path(agent, record.workspace)
    writes.append(Update(str(agent), record.fields(), document.version))
    writes.append(Create(work, deletion_fields(agent, record.workspace)))
    # The greater one: neither may be what the other is not yet.
    account = max(account or record.account, record.account, key=lambda one: one.total.turns)
    months = await _count_on(store, agent, account, writes)
    try:
        await store.commit(writes)
    except StoreConflict:
        raise Failure(
            errors_pb2.ERROR_REASON_FENCED, "Another writer owns this agent. Call again."
        ) from None
    return months


async def _count_on(
    store: Store, agent: AgentName, account: Account, writes: list[Write]
) -> Mapping[str, UsageSum] | None:
    """Add what an agent consumed to what its user's deleted agents did."""
    if not account.months:
        return None
    path = deleted_usage_path(agent.user)
    there = await store.get(path)
    months = read_months(there.fields["months"]) if there is not None else {}
    for month, consumed in account.months.items():
        months[month] = months.get(month, UsageSum()).plus(consumed)
    fields = {"months": stored_months(months)}
    writes.append(Create(path, fields) if there is None else Update(path, fields, there.version))
    return months


async def delete_documents(store: Store, agent: AgentName) -> None:
    """Remove all that a tombstone has, then the tombstone. Safe to repeat.

    Does nothing when the agent's document is not a tombstone: then it is gone, or
    another agent of that name was created since. Several processes may do it at
    once: each commit holds only while the tombstone is as it was read.

    Raises:
        Failure: STORE_UNAVAILABLE.
    """
    while True:
        document = await store.get(str(agent))
        if document is None or not read_agent(agent.user, document).deleted:
            return
        found, last = await _found(store, agent)
        # With their versions, which tell the store how large they are.
        writes: list[Write] = [Delete(one.path, one.version) for one in found]
        if last:
            writes.append(Delete(document.path, document.version))
        else:
            writes.append(Update(document.path, document.fields, document.version))
        try:
            await store.commit(writes)
        except StoreConflict:
            # Another process is at it, too.
            continue
        if last:
            return


async def delete_workspace(environment: Environment, agent: AgentName, workspace: str) -> None:
    """Remove an agent's files, however long an executor is away, then the work entry.

    A failure that does not pass by waiting leaves the entry for the next start.

    Raises:
        Failure: An executor refused, or STORE_UNAVAILABLE.
    """
    backoff = Backoff()
    while True:
        try:
            await environment.executors.delete_workspace(workspace)
        except Failure as failure:
            if failure.reason not in PASSING:
                raise
        else:
            break
        await backoff.pause()
    await environment.store.commit([Delete(deletion_work_path(agent, workspace))])


async def _found(store: Store, agent: AgentName) -> tuple[list[Document], bool]:
    """Return what an agent has beside its document, as much as goes at once; and if that is all."""
    pieces = await store.read(transcript_path(agent), limit=_PIECES_AT_ONCE)
    if pieces:
        return list(pieces), False
    found: list[Document] = []
    after, before = work_range(agent)
    ranges = [(path, "", "") for path in (turns_path(agent), order_path(agent), log_path(agent))]
    for collection, first, last in [*ranges, (WORK, after, before)]:
        left = _AT_ONCE + 1 - len(found)
        if left > 0:
            found += await store.read(collection, after=first, before=last, limit=left)
    return found[:_AT_ONCE], len(found) <= _AT_ONCE
