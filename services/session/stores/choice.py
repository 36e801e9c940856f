"""Makes the store that the settings name.

Does not know what a store can do.
"""

from __future__ import annotations

from services.chassis.metrics import Metrics
from services.session.settings import Settings
from services.session.store import Store
from services.session.stores.measured import MeasuredStore
from services.session.stores.sqlite import SqliteStore


def open_store(settings: Settings, metrics: Metrics) -> MeasuredStore:
    """Return the store, measured; entering it opens it."""
    return MeasuredStore(inner=_store(settings), metrics=metrics)


def _store(settings: Settings) -> Store:
    if settings.database is None:
        return SqliteStore(path=settings.store_path())
    # Here, so that only those who use it pay half a second and 50 MB.
    from services.session.stores.firestore import FirestoreStore  # noqa: PLC0415

    return FirestoreStore(
        project=settings.project,
        database=settings.database,
        emulator=settings.firestore_emulator,
    )
