"""Two users: what is another's answers exactly like what does not exist."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import grpc
import pytest
from google.protobuf import json_format
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message_factory import GetMessageClass

from moorline.gateway.v1 import frames_pb2
from moorline.session.v1 import (
    agents_pb2,
    events_pb2,
    events_pb2_grpc,
    feed_pb2,
    feed_pb2_grpc,
    keys_pb2,
    sessions_pb2,
    turns_pb2,
    usage_pb2,
)
from services.chassis.identity import METADATA_KEY, Identity, Signer
from tests.system.conftest import key_for
from tests.system.stack import Stack
from tests.system.wire import Frame, Transcript, Wire, follow, open_wire

CALLS = {
    "createAgent": {"parent": "{user}", "agentId": "fresh", "agent": {}},
    "getAgent": {"name": "{agent}"},
    "listAgents": {"parent": "{user}"},
    "updateAgent": {"agent": {"name": "{agent}", "displayName": "x"}, "updateMask": "displayName"},
    "deleteAgent": {"name": "{agent}"},
    "watchAgents": {"parent": "{user}"},
    "createTurn": {"parent": "{agent}", "turnId": "t9", "turn": {"prompt": {"text": "x"}}},
    "getTurn": {"name": "{turn}"},
    "listTurns": {"parent": "{agent}"},
    "cancelTurn": {"name": "{turn}"},
    "resolvePermission": {"name": "{turn}", "decision": {"permissionId": "{permission}"}},
    "listEvents": {"parent": "{agent}"},
    "watchEvents": {"parent": "{agent}", "includeDeltas": True},
    "createKey": {"parent": "{user}"},
    "listKeys": {"parent": "{user}"},
    "revokeKey": {"name": "{user}/keys/{key}"},
    "listFiles": {"parent": "{agent}"},
    "readFile": {"parent": "{agent}", "path": "a.txt"},
    "writeFile": {"parent": "{agent}", "path": "a.txt", "content": "eA=="},
    "deleteFile": {"parent": "{agent}", "path": "a.txt"},
    "diffFiles": {"parent": "{agent}"},
    "getUsage": {"name": "{user}/usage/2026-11"},
}
"""Every call of the WebSocket protocol that names a resource."""

UNNAMED = {"authenticate", "cancel", "diagnose", "listBackends"}
"""Calls that name none."""

INSIDE = {"locateWorkspace": {"name": "{agent}"}}
"""Calls that are no part of that protocol, which gateways make for a user."""

FOR_SERVICES = frozenset({"VerifyKey", "ListRevocations", "RedeemTicket", "ReleaseSession"})


@dataclass(frozen=True)
class Names:
    """One set of names to try.

    Attributes:
        user: `users/{user}`, and so on.
    """

    user: str
    agent: str
    turn: str
    permission: str
    key: str

    def fill(self, request: object) -> Frame:
        """The request with these names in it."""
        text = json.dumps(request)
        for name in ("user", "agent", "turn", "permission", "key"):
            text = text.replace("{" + name + "}", getattr(self, name))
        filled: Frame = json.loads(text)
        return filled


@dataclass(frozen=True)
class Tenants:
    """Ada, who asks, and the names she tries."""

    ada: Wire
    foreign: Names
    missing: list[Names]


@pytest.fixture
async def tenants(stack: Stack, wire: Wire) -> AsyncIterator[Tenants]:
    """Ada's connection, Bob's real names, and names that do not exist."""
    bob_key = await key_for(wire, "bob")
    ada_key = await key_for(wire, "ada")
    async with open_wire(stack.url, bob_key) as bob:
        agent = await bob.agent()
        turn = await bob.prompt(agent, "/sim ask Bash x")
        seen = Transcript()
        async for update in bob.watch(agent):
            seen.apply(update)
            if seen.items("permissionRequest"):
                break
        permission = str(seen.items("permissionRequest")[0]["permissionId"])
        key = bob_key.split("_")[1]
        foreign = Names("users/bob", agent, turn, permission, key)
        agents = [f"users/{user}/agents/nothere" for user in ("bob", "nobody", "ada")]
        missing = [
            Names(name.rsplit("/", 2)[0], name, f"{name}/turns/none", "none", "a" * len(key))
            for name in agents
        ]
        async with open_wire(stack.url, ada_key) as ada:
            yield Tenants(ada, foreign, missing)
        await bob.call("cancelTurn", {"name": turn})
        await follow(bob, agent, Transcript(), turn)


async def answer(wire: Wire, call: str, request: Frame) -> str:
    """The first frame a call is answered with, without its number."""
    number = await wire.send(call, request)
    frame = await wire.reply(number)
    frame.pop("id")
    return json.dumps(frame)


def test_every_call_is_tried() -> None:
    """A call added to the protocol is added to this matrix."""
    calls = {
        field.json_name for field in frames_pb2.ClientFrame.DESCRIPTOR.oneofs_by_name["call"].fields
    }

    assert calls - UNNAMED == set(CALLS)


@pytest.mark.parametrize("call", CALLS)
async def test_a_foreign_name_answers_like_one_that_does_not_exist(
    tenants: Tenants, call: str
) -> None:
    """With Bob's names Ada gets the bytes she gets for names nobody has."""
    foreign = await answer(tenants.ada, call, tenants.foreign.fill(CALLS[call]))
    own = "users/ada"
    names = [
        names
        for names in tenants.missing
        if names.user != own or "{user}" not in json.dumps(CALLS[call])
    ]

    assert "error" in json.loads(foreign)
    for missing in names:
        assert foreign == await answer(tenants.ada, call, missing.fill(CALLS[call]))


async def test_the_grpc_api_tells_foreign_and_missing_alike_too(
    stack: Stack, tenants: Tenants
) -> None:
    """An internal caller that acts for Ada gets the same trailers, byte for byte."""
    signer = Signer(key=(stack.data / "identity.key").read_text().strip())
    token = signer.token(Identity(user="users/ada"))
    services = [
        file.services_by_name[name]
        for file in (
            agents_pb2.DESCRIPTOR,
            turns_pb2.DESCRIPTOR,
            events_pb2.DESCRIPTOR,
            sessions_pb2.DESCRIPTOR,
            usage_pb2.DESCRIPTOR,
        )
        for name in file.services_by_name
    ] + [keys_pb2.DESCRIPTOR.services_by_name["KeyService"]]
    async with grpc.aio.insecure_channel(f"127.0.0.1:{stack.run['ports']['session']}") as channel:

        async def failure(method: MethodDescriptor, names: Names) -> tuple[object, ...]:
            call = method.name[0].lower() + method.name[1:]
            request = json_format.ParseDict(
                names.fill({**CALLS, **INSIDE}[call]), GetMessageClass(method.input_type)()
            )
            path = f"/{method.containing_service.full_name}/{method.name}"
            # A unary call is a stream of one response to the client.
            stub: Any = channel.unary_stream(
                path, request_serializer=lambda message: message.SerializeToString()
            )
            try:
                async for _ in stub(request, timeout=5, metadata=((METADATA_KEY, token),)):
                    raise AssertionError(path)
            except grpc.aio.AioRpcError as error:
                return error.code(), error.details(), tuple(error.trailing_metadata() or ())
            raise AssertionError(path)

        for service in services:
            for method in service.methods:
                if method.name in FOR_SERVICES:
                    # They name nobody's resource, and answer no user at all.
                    continue
                foreign = await failure(method, tenants.foreign)
                assert grpc.StatusCode.NOT_FOUND is foreign[0], method.full_name
                for missing in tenants.missing[:2]:
                    assert foreign == await failure(method, missing), method.full_name


async def test_only_an_administrator_is_told_of_the_surroundings(tenants: Tenants) -> None:
    """Machines, images and keys are no user's business; nobody's resource is named."""
    assert "ERROR_REASON_FORBIDDEN" in await answer(tenants.ada, "diagnose", {})


async def test_a_feed_cannot_follow_anothers_agent(stack: Stack, tenants: Tenants) -> None:
    """Subscribing as Ada to Bob's agent is answered like a missing agent."""
    signer = Signer(key=(stack.data / "identity.key").read_text().strip())
    gateway = ((METADATA_KEY, signer.token(Identity(user="services/gateway"))),)
    ada = ((METADATA_KEY, signer.token(Identity(user="users/ada"))),)
    async with grpc.aio.insecure_channel(f"127.0.0.1:{stack.run['ports']['session']}") as channel:
        stub = feed_pb2_grpc.SessionFeedServiceStub(channel)
        feed = stub.OpenFeed(feed_pb2.OpenFeedRequest(feed_id="f1"), metadata=gateway)
        await feed.read()
        answers = []
        for number, agent in enumerate(
            [tenants.foreign.agent, *(names.agent for names in tenants.missing)], 1
        ):
            try:
                await stub.Subscribe(
                    feed_pb2.SubscribeRequest(
                        feed_id="f1",
                        subscription=number,
                        encoding=feed_pb2.ENCODING_JSON,
                        watch_events=events_pb2.WatchEventsRequest(parent=agent),
                    ),
                    metadata=ada,
                    timeout=timedelta(seconds=5).total_seconds(),
                )
            except grpc.aio.AioRpcError as error:
                answers.append((error.code(), error.details(), error.trailing_metadata()))
        feed.cancel()

    assert len(answers) == 4
    assert len({repr(answer) for answer in answers}) == 1


async def test_grpc_calls_without_an_identity_are_refused(stack: Stack) -> None:
    """Session and executor refuse a call that does not say who the caller is."""
    for service in ("session", "executor"):
        async with grpc.aio.insecure_channel(f"127.0.0.1:{stack.run['ports'][service]}") as channel:
            stub = events_pb2_grpc.EventServiceStub(channel)
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await stub.ListEvents(
                    events_pb2.ListEventsRequest(parent="users/dev/agents/a"), timeout=5
                )
            assert caught.value.code() in {
                grpc.StatusCode.UNAUTHENTICATED,
                grpc.StatusCode.UNIMPLEMENTED,
            }
