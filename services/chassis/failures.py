"""Failures, and their two wire forms: a gRPC status and an `errors.v1.Error`.

Everything below a door raises `Failure`; `interceptors.py` turns it into a
status, `client.py` turns a status back. Does not know who fails or why.
"""

from __future__ import annotations

from datetime import timedelta

import grpc
from google.protobuf import any_pb2
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

from moorline.errors.v1 import errors_pb2

DOMAIN = "moorline"
"""`ErrorInfo.domain` of every status of this platform."""

_PREFIX = "ERROR_REASON_"
_RETRY_DELAY = timedelta(seconds=1)
_TOO_LARGE = "The request or its answer is too large, or the server is out of resources"

_CODES: dict[int, int] = {
    value.number: int(value.GetOptions().Extensions[errors_pb2.code])
    for value in errors_pb2.ErrorReason.DESCRIPTOR.values
}

# What a status that none of our servers made is taken for: the transport, a
# proxy and a newer peer all make some.
_FOREIGN: dict[int, errors_pb2.ErrorReason.ValueType] = {
    # By a server that stops: whoever cancels a call of his own does not get a status.
    1: errors_pb2.ERROR_REASON_SERVICE_UNAVAILABLE,
    4: errors_pb2.ERROR_REASON_CALL_TIMEOUT,
    8: errors_pb2.ERROR_REASON_QUOTA_EXCEEDED,
    12: errors_pb2.ERROR_REASON_METHOD_UNKNOWN,
    14: errors_pb2.ERROR_REASON_SERVICE_UNAVAILABLE,
}


class Failure(Exception):  # noqa: N818 - a turn fails too, which is no error
    """A failure the caller is told about; the only exception that crosses a door.

    Args:
        reason: The cause; it decides the gRPC code, see `errors.proto`.
        message: One English sentence for a developer: what failed, what to do.
        retry_delay: Set when the same call may succeed after waiting this long.
        **metadata: Facts, under the lowerCamelCase keys listed at the reason.
    """

    def __init__(
        self,
        reason: errors_pb2.ErrorReason.ValueType,
        message: str,
        *,
        retry_delay: timedelta | None = None,
        **metadata: str,
    ) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message
        self.retry_delay = retry_delay
        self.metadata = metadata

    def __repr__(self) -> str:
        return f"Failure({self.reason_name}, {self.message!r})"

    @property
    def code(self) -> int:
        """Canonical gRPC status code, 1 to 16."""
        return _CODES[self.reason]

    @property
    def reason_name(self) -> str:
        """The reason as `ErrorInfo` carries it, for example `RESOURCE_NOT_FOUND`."""
        return errors_pb2.ErrorReason.Name(self.reason).removeprefix(_PREFIX)

    def to_status(self) -> status_pb2.Status:
        """Return the failure as it travels in gRPC trailers."""
        status = status_pb2.Status(code=self.code, message=self.message)
        info = error_details_pb2.ErrorInfo(
            reason=self.reason_name, domain=DOMAIN, metadata=self.metadata
        )
        packed = any_pb2.Any()
        packed.Pack(info)
        status.details.append(packed)
        if self.retry_delay is not None:
            retry = error_details_pb2.RetryInfo()
            retry.retry_delay.FromTimedelta(self.retry_delay)
            packed = any_pb2.Any()
            packed.Pack(retry)
            status.details.append(packed)
        return status

    def to_error(self) -> errors_pb2.Error:
        """Return the failure as a plain message, for a stored outcome or a frame."""
        error = errors_pb2.Error(
            code=self.code, reason=self.reason, message=self.message, metadata=self.metadata
        )
        if self.retry_delay is not None:
            error.retry_delay.FromTimedelta(self.retry_delay)
        return error

    @classmethod
    def from_error(cls, error: errors_pb2.Error) -> Failure:
        """Build the failure a message describes.

        A reason that this release does not know becomes the closest one by code.
        """
        known = error.reason in _CODES and error.reason != errors_pb2.ERROR_REASON_UNSPECIFIED
        failure = cls(error.reason if known else _by_code(error.code), error.message)
        failure.metadata = dict(error.metadata)
        if error.HasField("retry_delay"):
            failure.retry_delay = error.retry_delay.ToTimedelta()
        return failure

    @classmethod
    def from_rpc_error(cls, error: grpc.aio.AioRpcError) -> Failure:
        """Build the failure a call ended with.

        A status without our `ErrorInfo`, as the transport or a proxy makes, gets
        the closest reason; UNAVAILABLE then comes with a retry delay of 1 s.
        RESOURCE_EXHAUSTED is no rate limit then: a message was too large, mostly.
        """
        code = int(error.code().value[0])
        message = error.details() or error.code().name
        info = error_details_pb2.ErrorInfo()
        retry = error_details_pb2.RetryInfo()
        for detail in _details(error):
            _ = detail.Unpack(info) or detail.Unpack(retry)
        if info.domain != DOMAIN:
            if code == grpc.StatusCode.RESOURCE_EXHAUSTED.value[0]:
                message = f"{_TOO_LARGE}: {message}"
            foreign = cls(_by_code(code), message)
            if foreign.reason == errors_pb2.ERROR_REASON_SERVICE_UNAVAILABLE:
                foreign.retry_delay = _RETRY_DELAY
            return foreign
        name = _PREFIX + info.reason
        known = name in errors_pb2.ErrorReason.DESCRIPTOR.values_by_name
        failure = cls(errors_pb2.ErrorReason.Value(name) if known else _by_code(code), message)
        failure.metadata = dict(info.metadata)
        if retry.HasField("retry_delay"):
            failure.retry_delay = retry.retry_delay.ToTimedelta()
        return failure


def field_invalid(field: str, rule: str) -> Failure:
    """Return the failure for a malformed field.

    Args:
        field: Path of the field in the request, for example `agent.name`.
        rule: What it must be or have, the end of the sentence "`field` must ...".
    """
    rule = rule.removeprefix("must ")
    return Failure(
        errors_pb2.ERROR_REASON_FIELD_INVALID, f"{field} must {rule}.", field=field, rule=rule
    )


def not_found() -> Failure:
    """Return the one answer for a resource that is missing or is somebody else's.

    It never varies, so that existence does not leak.
    """
    return Failure(
        errors_pb2.ERROR_REASON_RESOURCE_NOT_FOUND,
        "The resource does not exist, or is not yours. Check its name.",
    )


def _by_code(code: int) -> errors_pb2.ErrorReason.ValueType:
    return _FOREIGN.get(code, errors_pb2.ERROR_REASON_INTERNAL)


def _details(error: grpc.aio.AioRpcError) -> list[any_pb2.Any]:
    try:
        status = rpc_status.from_call(error)
    except ValueError:
        # A trailer whose code or message contradicts the call's: some proxy's.
        return []
    return list(status.details) if status is not None else []
