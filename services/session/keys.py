"""API keys: made, listed, revoked and checked; only their hashes are stored.

    users/{user}/keys/{key}    what a user sees of a key
    keys/{key}                 whose it is, and the hash of its secret

Does not know who may do what.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import re
import secrets
import string
import zlib
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from moorline.errors.v1 import errors_pb2
from moorline.session.v1 import keys_pb2
from services.chassis.failures import Failure, not_found
from services.session.encoding import parse_time, time_text, timestamp
from services.session.names import KeyName, UserName
from services.session.revocations import Revocations
from services.session.store import Create, Delete, Document, Store, StoreConflict, Update

_KEY_ALPHABET = "abcdefghijklmnopqrstuvwxyz234567"
_BASE62 = string.digits + string.ascii_uppercase + string.ascii_lowercase
_REMEMBERED = timedelta(days=30)
_SECRET = re.compile(r"moorline_([a-z2-7]{12})_([0-9A-Za-z]{32})([0-9A-Za-z]{6})")


@dataclass(frozen=True, slots=True)
class _Key:
    name: KeyName
    display_name: str
    create_time: datetime
    expire_time: datetime
    revoke_time: datetime | None

    def fields(self) -> dict[str, Any]:
        return {
            "displayName": self.display_name,
            "createTime": time_text(self.create_time),
            "expireTime": time_text(self.expire_time),
            "revokeTime": time_text(self.revoke_time) if self.revoke_time else None,
        }

    @property
    def gone_time(self) -> datetime:
        """When the database may forget it; until then its user sees that it has expired."""
        return self.expire_time + _REMEMBERED

    def ended(self, now: datetime) -> bool:
        return self.revoke_time is not None or self.expire_time <= now

    def message(self) -> keys_pb2.Key:
        key = keys_pb2.Key(
            name=str(self.name),
            display_name=self.display_name,
            create_time=timestamp(self.create_time),
            expire_time=timestamp(self.expire_time),
        )
        if self.revoke_time is not None:
            key.revoke_time.CopyFrom(timestamp(self.revoke_time))
        return key


class Keys:
    """The API keys of all users.

    Args:
        store: Where they are kept; its time decides what has expired.
        revocations: Where it is noted which of them were revoked.
        limit: Keys of one user.
    """

    def __init__(self, *, store: Store, revocations: Revocations, limit: int) -> None:
        self._store = store
        self._revocations = revocations
        self._limit = limit
        # One at a time, or keys made at once would all look first and then all be too
        # many; they are made rarely.
        self._making = asyncio.Lock()

    async def create(
        self, user: UserName, *, display_name: str, ttl: timedelta
    ) -> tuple[keys_pb2.Key, str]:
        """Make a key; return it and its secret, which is kept nowhere.

        At the limit it takes the place of the oldest key that has ended.

        Raises:
            Failure: QUOTA_EXCEEDED, STORE_UNAVAILABLE.
        """
        async with self._making:
            return await self._make(user, display_name, ttl)

    async def _make(
        self, user: UserName, display_name: str, ttl: timedelta
    ) -> tuple[keys_pb2.Key, str]:
        now = await self._store.now()
        keys = await self._list(user)
        writes: list[Create | Delete] = []
        if len(keys) >= self._limit:
            ended = next((key for key in keys if key.ended(now)), None)
            if ended is None:
                raise self._full()
            writes = [Delete(str(ended.name)), Delete(f"keys/{ended.name.key}")]
        name = KeyName(user.user, "".join(secrets.choice(_KEY_ALPHABET) for _ in range(12)))
        secret = _new_secret(name.key)
        key = _Key(name, display_name, now, now + ttl, None)
        writes += [
            Create(str(name), key.fields(), key.gone_time),
            Create(f"keys/{name.key}", {"user": user.user, "hash": _hash(secret)}, key.gone_time),
        ]
        await self._store.commit(writes)
        if len(await self._list(user)) > self._limit:
            # Another process made one at the same time.
            await self._store.commit([Delete(str(name)), Delete(f"keys/{name.key}")])
            raise self._full()
        return key.message(), secret

    async def of(self, user: UserName) -> list[keys_pb2.Key]:
        """Return a user's keys, oldest first.

        Raises:
            Failure: STORE_UNAVAILABLE.
        """
        return [key.message() for key in await self._list(user)]

    async def revoke(self, name: KeyName) -> keys_pb2.Key:
        """Refuse a key from now on.

        Raises:
            Failure: RESOURCE_NOT_FOUND, STORE_UNAVAILABLE.
        """
        while True:
            document = await self._store.get(str(name))
            if document is None:
                raise not_found()
            key = _read(UserName(name.user), document)
            if key.revoke_time is not None:
                return key.message()
            now = document.read_time
            key = _Key(key.name, key.display_name, key.create_time, key.expire_time, now)
            update = Update(str(name), key.fields(), document.version, key.gone_time)
            noted = await self._revocations.writes(name, now)
            try:
                await self._store.commit([update, *noted])
            except StoreConflict:
                # Somebody else revokes it too; what is there now decides.
                await asyncio.sleep(0)
                continue
            return key.message()

    async def verify(self, secret: str) -> keys_pb2.Key:
        """Return the key that a secret belongs to.

        Raises:
            Failure: TOKEN_INVALID, always with the same words; STORE_UNAVAILABLE.
        """
        match = _SECRET.fullmatch(secret)
        # The checksum tells typing errors apart without asking the store.
        if match is None or _checksum(match[2]) != match[3]:
            raise _invalid()
        entry = await self._store.get(f"keys/{match[1]}")
        if entry is None or not hmac.compare_digest(entry.fields["hash"], _hash(secret)):
            raise _invalid()
        user = UserName(entry.fields["user"])
        document = await self._store.get(str(KeyName(user.user, match[1])))
        if document is None:
            raise _invalid()
        key = _read(user, document)
        if key.ended(document.read_time):
            raise _invalid()
        return key.message()

    def _full(self) -> Failure:
        return Failure(
            errors_pb2.ERROR_REASON_QUOTA_EXCEEDED,
            f"A user may have {self._limit} keys. Revoke one first.",
            limit=str(self._limit),
            limitName="keys",
        )

    async def _list(self, user: UserName) -> list[_Key]:
        documents = await self._store.read(f"{user}/keys")
        keys = [_read(user, document) for document in documents]
        keys.sort(key=lambda key: key.create_time)
        return keys


def _read(user: UserName, document: Document) -> _Key:
    fields = document.fields
    revoked = fields["revokeTime"]
    return _Key(
        name=KeyName(user.user, document.id),
        display_name=fields["displayName"],
        create_time=parse_time(fields["createTime"]),
        expire_time=parse_time(fields["expireTime"]),
        revoke_time=parse_time(revoked) if revoked else None,
    )


def _new_secret(key: str) -> str:
    random = "".join(secrets.choice(_BASE62) for _ in range(32))
    return f"moorline_{key}_{random}{_checksum(random)}"


def _checksum(random: str) -> str:
    """Return a CRC-32 in base 62, so that scanners recognise a secret surely."""
    rest, digits = zlib.crc32(random.encode()), ""
    for _ in range(6):
        rest, digit = divmod(rest, 62)
        digits = _BASE62[digit] + digits
    return digits


def _hash(secret: str) -> str:
    # Unsalted and fast on purpose: a secret has 190 random bits, nobody guesses it.
    return hashlib.sha256(secret.encode()).hexdigest()


def _invalid() -> Failure:
    return Failure(
        errors_pb2.ERROR_REASON_TOKEN_INVALID, "The key is not valid, has expired or was revoked."
    )
