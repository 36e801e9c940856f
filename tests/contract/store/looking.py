"""Looks into a store for the tests of its contract."""

from __future__ import annotations

from services.session.store import Document, Store


async def current(store: Store, path: str) -> Document:
    """Return a document that must exist."""
    document = await store.get(path)
    assert document is not None
    return document


async def ids(store: Store, collection: str, **bounds: object) -> list[str]:
    """Return the ids that a read of a collection finds."""
    return [document.id for document in await store.read(collection, **bounds)]  # type: ignore[arg-type]
