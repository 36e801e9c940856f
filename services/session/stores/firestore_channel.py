"""Opens the one connection to Firestore, or to its emulator.

Does not know what is sent over it.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

import google.auth
import grpc
from google.auth.exceptions import GoogleAuthError
from google.cloud.firestore_v1.services.firestore import FirestoreAsyncClient
from google.cloud.firestore_v1.services.firestore.transports import FirestoreGrpcAsyncIOTransport

from moorline.errors.v1 import errors_pb2
from services.chassis.failures import Failure
from services.session.stores.firestore_errors import Target, credentials_advice

_HOST = "firestore.googleapis.com"
_SCOPES = ("https://www.googleapis.com/auth/datastore",)
_EMULATED_PROJECT = "moorline"

_OPTIONS: list[tuple[str, Any]] = [
    # The default waits up to two minutes between attempts to connect, and so
    # stays away for a minute after the database is back.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
    # How long one attempt to connect may take, TLS included.
    ("grpc.min_reconnect_backoff_ms", 2000),
    # A dead connection is noticed after 5 s with something unacknowledged, and
    # after 35 s without; more pings than these would be taken for an attack.
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
]


@dataclass(frozen=True, slots=True)
class Connection:
    """An open connection.

    Attributes:
        client: Makes the calls.
        channel: What they go through.
        target: Where they go.
        metadata: Goes with each of them.
    """

    client: FirestoreAsyncClient
    channel: grpc.aio.Channel
    target: Target
    metadata: tuple[tuple[str, str], ...]

    async def close(self) -> None:
        """Close it; no call may be in progress."""
        await self.channel.close()


async def connect(*, project: str, database: str, emulator: str) -> Connection:
    """Open a connection; nothing is sent yet.

    Args:
        project: Google Cloud project; empty for that of the credentials.
        database: Id of the database.
        emulator: Address of an emulator, `host:port`; empty for the service.

    Raises:
        Failure: STORE_UNAVAILABLE: there are no credentials, or no project.
    """
    if emulator:
        target = Target(emulator, project or _EMULATED_PROJECT, database, "", emulated=True)
        channel = grpc.aio.insecure_channel(emulator, options=_OPTIONS)
        # What the emulator takes for an administrator, as the service takes a
        # service account: security rules do not apply.
        return _connection(channel, target, (("authorization", "Bearer owner"),))
    try:
        # In a thread: looking for a metadata server may take seconds.
        credentials, own_project = await asyncio.to_thread(google.auth.default, scopes=_SCOPES)
    except GoogleAuthError as error:
        raise _unusable(credentials_advice("There are no Google credentials")) from error
    project = project or own_project or ""
    if not project:
        raise _unusable("No Google Cloud project is known: set GOOGLE_CLOUD_PROJECT.")
    # A virtual machine's is called "default" until its first call.
    account = getattr(credentials, "service_account_email", "")
    account = account if "@" in account else ""
    target = Target(_HOST, project, database, account, emulated=False)
    channel = FirestoreGrpcAsyncIOTransport.create_channel(
        _HOST, credentials=credentials, scopes=_SCOPES, options=_OPTIONS
    )
    return _connection(channel, target, ())


def _connection(
    channel: grpc.aio.Channel, target: Target, metadata: tuple[tuple[str, str], ...]
) -> Connection:
    transport = FirestoreGrpcAsyncIOTransport(host=target.host, channel=channel)
    prefix = ("google-cloud-resource-prefix", target.name)
    client = FirestoreAsyncClient(transport=transport)
    return Connection(client, channel, target, (*metadata, prefix))


def _unusable(message: str) -> Failure:
    return Failure(errors_pb2.ERROR_REASON_STORE_UNAVAILABLE, message)
