"""The door of `KeyService`: checks requests and who may manage whose keys.

Does not know how keys and tickets are kept.
"""

from __future__ import annotations

import re
from datetime import UTC, timedelta
from typing import Any, TypeAlias

import grpc

from moorline.errors.v1 import errors_pb2
from moorline.session.v1 import keys_pb2, keys_pb2_grpc
from services.chassis.failures import Failure, field_invalid
from services.chassis.identity import caller
from services.session.checks import check_length
from services.session.encoding import timestamp
from services.session.keys import Keys
from services.session.limits import Limits
from services.session.names import KeyName, UserName, parse_key, parse_user, require_owner
from services.session.revocations import Revocations
from services.session.tickets import Tickets

Context: TypeAlias = grpc.aio.ServicerContext[Any, Any]

_LEAST_SECONDS = 1
_MOST_SECONDS = 366 * 24 * 3600
_DEFAULT_TTL = timedelta(days=90)
_SECRET_CHARACTERS = 200
_TICKET = re.compile(r"[0-9a-f]{64}")
_REDEMPTION_CHARACTERS = 64


class KeyApi(keys_pb2_grpc.KeyServiceServicer):
    """Makes, lists, revokes and checks API keys, and uses tickets up."""

    def __init__(
        self, *, keys: Keys, revocations: Revocations, tickets: Tickets, limits: Limits
    ) -> None:
        self._keys = keys
        self._revocations = revocations
        self._tickets = tickets
        self._limits = limits

    async def CreateKey(
        self, request: keys_pb2.CreateKeyRequest, context: Context
    ) -> keys_pb2.CreateKeyResponse:
        """Make a key; see `keys.proto`."""
        user = parse_user("parent", request.parent)
        check_length("display_name", request.display_name, most=self._limits.display_name)
        ttl = _ttl(request)
        # Else a stolen key could make itself a successor that outlives its revocation.
        if caller().keyed:
            raise _forbidden("A caller authenticated by a key may not make keys.")
        _require_manager(user)
        key, secret = await self._keys.create(user, display_name=request.display_name, ttl=ttl)
        return keys_pb2.CreateKeyResponse(key=key, secret=secret)

    async def ListKeys(
        self, request: keys_pb2.ListKeysRequest, context: Context
    ) -> keys_pb2.ListKeysResponse:
        """List a user's keys; see `keys.proto`."""
        user = parse_user("parent", request.parent)
        _require_manager(user)
        return keys_pb2.ListKeysResponse(keys=await self._keys.of(user))

    async def RevokeKey(
        self, request: keys_pb2.RevokeKeyRequest, context: Context
    ) -> keys_pb2.RevokeKeyResponse:
        """Revoke a key; see `keys.proto`."""
        name = parse_key("name", request.name)
        _require_manager(name)
        return keys_pb2.RevokeKeyResponse(key=await self._keys.revoke(name))

    async def VerifyKey(
        self, request: keys_pb2.VerifyKeyRequest, context: Context
    ) -> keys_pb2.VerifyKeyResponse:
        """Tell whose key a secret is; see `keys.proto`."""
        check_length("secret", request.secret, least=1, most=_SECRET_CHARACTERS)
        _require_service("Only a service may verify keys.")
        return keys_pb2.VerifyKeyResponse(key=await self._keys.verify(request.secret))

    async def ListRevocations(
        self, request: keys_pb2.ListRevocationsRequest, context: Context
    ) -> keys_pb2.ListRevocationsResponse:
        """Tell what was revoked lately; see `keys.proto`."""
        _require_service("Only a service may list revocations.")
        since = request.since_time.ToDatetime(UTC) if request.HasField("since_time") else None
        revoked = await self._revocations.since(since)
        return keys_pb2.ListRevocationsResponse(
            keys=revoked.keys, time=timestamp(revoked.time), incomplete=not revoked.complete
        )

    async def RedeemTicket(
        self, request: keys_pb2.RedeemTicketRequest, context: Context
    ) -> keys_pb2.RedeemTicketResponse:
        """Use a ticket up; see `keys.proto`."""
        if _TICKET.fullmatch(request.ticket) is None:
            raise field_invalid("ticket", "be 64 hexadecimal digits")
        check_length("redemption", request.redemption, least=1, most=_REDEMPTION_CHARACTERS)
        if request.expire_time.seconds <= 0:
            raise field_invalid("expire_time", "be set")
        _require_service("Only a service may redeem tickets.")
        end = request.expire_time.ToDatetime(UTC)
        await self._tickets.redeem(request.ticket, request.redemption, end)
        return keys_pb2.RedeemTicketResponse()


def _require_manager(name: UserName | KeyName) -> None:
    identity = caller()
    # A key has its user's rights, but not an administrator's over others: stolen,
    # it could revoke everybody's.
    require_owner(name, identity, or_administrator=not identity.keyed)


def _require_service(rule: str) -> None:
    if not caller().user.startswith("services/"):
        raise _forbidden(rule)


def _ttl(request: keys_pb2.CreateKeyRequest) -> timedelta:
    if not request.HasField("ttl"):
        return _DEFAULT_TTL
    # Compared as seconds: a hostile duration is more than a timedelta can hold.
    if not _LEAST_SECONDS <= request.ttl.seconds <= _MOST_SECONDS:
        raise field_invalid("ttl", "be 1 s to 366 days")
    return timedelta(seconds=request.ttl.seconds)


def _forbidden(rule: str) -> Failure:
    return Failure(errors_pb2.ERROR_REASON_FORBIDDEN, rule, rule=rule)
