"""Tests of `services.chassis.failures`."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

from moorline.errors.v1 import errors_pb2
from services.chassis.failures import Failure, field_invalid, not_found


def rpc_error(
    code: grpc.StatusCode, details: str = "", trailers: tuple[Any, ...] = ()
) -> grpc.aio.AioRpcError:
    """Return the exception a call raises."""
    return grpc.aio.AioRpcError(
        code, grpc.aio.Metadata(), grpc.aio.Metadata(*trailers), details=details
    )


def over_the_wire(status: status_pb2.Status) -> grpc.aio.AioRpcError:
    """Return what a caller gets when a server answers with a status."""
    sent = rpc_status.to_status(status)
    return rpc_error(sent.code, sent.details, tuple(sent.trailing_metadata))


def facts(failure: Failure) -> tuple[Any, ...]:
    """Return all that a failure says."""
    return failure.reason, failure.message, failure.retry_delay, failure.metadata


LIMITED = Failure(
    errors_pb2.ERROR_REASON_RATE_LIMITED,
    "Too fast.",
    retry_delay=timedelta(seconds=1.5),
    limit="20",
    limitName="frames",
)


@pytest.mark.parametrize("failure", [LIMITED, not_found(), field_invalid("name", "be short")])
def test_a_failure_survives_the_wire(failure: Failure) -> None:
    """Reason, message, delay and metadata arrive through gRPC trailers."""
    received = Failure.from_rpc_error(over_the_wire(failure.to_status()))

    assert facts(failure) == facts(received)


@pytest.mark.parametrize("failure", [LIMITED, not_found()])
def test_a_failure_survives_as_a_message(failure: Failure) -> None:
    """Reason, message, delay and metadata arrive through an `Error`."""
    error = failure.to_error()

    assert failure.code == error.code
    assert facts(failure) == facts(Failure.from_error(error))


def test_every_reason_has_a_code() -> None:
    """Each reason but the unset one declares the status it travels under."""
    reasons = errors_pb2.ErrorReason.values()

    codes = {Failure(reason, "").code for reason in reasons if reason}

    assert codes <= set(range(1, 17))


def test_the_reason_is_named_without_its_prefix() -> None:
    """ErrorInfo carries the short name, and so does `repr`."""
    assert not_found().reason_name == "RESOURCE_NOT_FOUND"
    assert repr(LIMITED) == "Failure(RATE_LIMITED, 'Too fast.')"


def test_not_found_never_varies() -> None:
    """A missing and a foreign resource get the same bytes."""
    assert not_found().to_status() == not_found().to_status()
    assert not_found().metadata == {}


def test_a_malformed_field_is_told_as_a_sentence() -> None:
    """The rule reads as the end of a sentence, whether it starts with "must" or not."""
    assert field_invalid("name", "be short").message == "name must be short."
    assert facts(field_invalid("name", "be short")) == facts(field_invalid("name", "must be short"))


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (grpc.StatusCode.UNAVAILABLE, "SERVICE_UNAVAILABLE"),
        (grpc.StatusCode.DEADLINE_EXCEEDED, "CALL_TIMEOUT"),
        (grpc.StatusCode.UNIMPLEMENTED, "METHOD_UNKNOWN"),
        (grpc.StatusCode.CANCELLED, "SERVICE_UNAVAILABLE"),
        (grpc.StatusCode.UNKNOWN, "INTERNAL"),
    ],
)
def test_a_foreign_status_gets_the_closest_reason(code: grpc.StatusCode, reason: str) -> None:
    """A status that no server of ours made is translated by its code."""
    failure = Failure.from_rpc_error(rpc_error(code, "from a proxy"))

    assert (reason, "from a proxy") == (failure.reason_name, failure.message)
    assert (failure.retry_delay is not None) == (reason == "SERVICE_UNAVAILABLE")


def test_a_message_too_large_for_the_transport_does_not_pass_by_waiting() -> None:
    """It is no rate that was exceeded; what the transport said is kept."""
    failure = Failure.from_rpc_error(
        rpc_error(grpc.StatusCode.RESOURCE_EXHAUSTED, "message larger than max")
    )

    assert ("QUOTA_EXCEEDED", None) == (failure.reason_name, failure.retry_delay)
    assert failure.message == (
        "The request or its answer is too large, or the server is out of resources: "
        "message larger than max"
    )


def test_a_status_without_text_is_named_by_its_code() -> None:
    """The message is never empty."""
    assert Failure.from_rpc_error(rpc_error(grpc.StatusCode.ABORTED)).message == "ABORTED"


def test_trailers_that_contradict_the_status_are_ignored() -> None:
    """A proxy that rewrote the status makes it a foreign one."""
    trailers = rpc_status.to_status(LIMITED.to_status()).trailing_metadata
    error = rpc_error(grpc.StatusCode.UNAVAILABLE, "rewritten", tuple(trailers))

    assert Failure.from_rpc_error(error).reason_name == "SERVICE_UNAVAILABLE"


def test_a_reason_of_a_newer_release_gets_the_closest_one() -> None:
    """An old caller acts on the code and keeps message and metadata."""
    info = error_details_pb2.ErrorInfo(reason="NEW", domain="moorline", metadata={"a": "b"})
    status = status_pb2.Status(code=14, message="New.")
    status.details.add().Pack(info)

    failure = Failure.from_rpc_error(over_the_wire(status))
    stored = Failure.from_error(errors_pb2.Error(code=4, reason=9999, message="New."))  # type: ignore[arg-type]

    assert (failure.reason_name, failure.metadata) == ("SERVICE_UNAVAILABLE", {"a": "b"})
    assert (stored.reason_name, stored.message) == ("CALL_TIMEOUT", "New.")
