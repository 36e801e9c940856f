"""Creates an agent's document, once, whoever tries.

Does not know the other agents of its user.
"""

from __future__ import annotations

from moorline.errors.v1 import errors_pb2
from services.chassis.failures import Failure
from services.session.agent_deletion import delete_documents
from services.session.agent_record import AgentRecord, read_agent
from services.session.names import AgentName
from services.session.ownership.ownership import Lease
from services.session.store import Create, Store, StoreConflict


async def create_agent(store: Store, lease: Lease, record: AgentRecord) -> AgentRecord:
    """Create an agent, or return the one that the same call created before.

    Args:
        store: Where it goes.
        lease: The lease on its user.
        record: What it is.

    Returns:
        `record` itself, or what is there already.

    Raises:
        Failure: RESOURCE_EXISTS, STORE_UNAVAILABLE; why the lease is over.
    """
    # What an interrupted deletion left behind; nothing, else.
    await delete_documents(store, record.name)
    await lease.confirm()
    try:
        await store.commit([Create(str(record.name), record.fields())])
    except StoreConflict:
        # A commit of ours whose answer was lost, or another owner's: the document tells.
        document = await store.get(str(record.name))
        there = read_agent(record.name.user, document) if document is not None else None
        if there is None or there.deleted or there.origin != record.origin:
            raise agent_exists(record.name) from None
        return there
    return record


def agent_exists(name: AgentName) -> Failure:
    """Return why an id cannot be used for other settings."""
    return Failure(
        errors_pb2.ERROR_REASON_RESOURCE_EXISTS,
        "This agent was created before with other content. Use a new id.",
        resource=str(name),
    )
