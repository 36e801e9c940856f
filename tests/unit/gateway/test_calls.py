"""Tests of `services.gateway.calls`."""

from __future__ import annotations

from moorline.executor.v1 import backends_pb2
from moorline.session.v1 import agents_pb2, events_pb2
from services.gateway.calls import CALLS, Service


def test_every_call_has_a_method_and_a_reply() -> None:
    """The table holds each member of the client's frame except the two about the connection."""
    assert 24 == len(CALLS)
    assert "/moorline.session.v1.TurnService/CreateTurn" == CALLS["create_turn"].method
    assert "create_turn_response" == CALLS["create_turn"].reply
    assert not {"authenticate", "cancel"} & set(CALLS)


def test_backends_and_files_are_the_executors() -> None:
    """The session service answers everything else, but for the diagnosis: everybody does."""
    executors = {name for name, call in CALLS.items() if call.service is Service.EXECUTOR}
    files = {"list_files", "read_file", "write_file", "delete_file", "diff_files"}

    assert {"list_backends", "diagnose", *files} == executors
    assert backends_pb2.ListBackendsResponse is CALLS["list_backends"].response


def test_the_streams_are_those_that_delivery_knows() -> None:
    """Delivery serves these two requests; a third needs work there."""
    streams = {call.request for call in CALLS.values() if call.streams}

    assert {agents_pb2.WatchAgentsRequest, events_pb2.WatchEventsRequest} == streams


def test_keys_are_never_verified_for_clients() -> None:
    """A client cannot ask whose a secret is."""
    assert "verify_key" not in CALLS
