"""Which method each client frame calls, read from the protos.

Adding a method to the WebSocket protocol is a member of `ClientFrame` and one of
`ServerFrame`; nothing here changes. Does not know how frames are encoded.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from typing import cast

from google.protobuf.descriptor import Descriptor, FieldDescriptor, MethodDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from moorline.diagnosis.v1 import diagnosis_pb2
from moorline.executor.v1 import backends_pb2, workspaces_pb2
from moorline.gateway.v1 import frames_pb2
from moorline.session.v1 import agents_pb2, events_pb2, keys_pb2, turns_pb2, usage_pb2


class Service(Enum):
    """The peer that answers a call."""

    SESSION = "session"
    EXECUTOR = "executor"


@dataclass(frozen=True, slots=True)
class Call:
    """One row of the translation: frame member to gRPC method and back.

    Attributes:
        name: Member of `ClientFrame`, for example `create_turn`.
        method: For example `/moorline.session.v1.TurnService/CreateTurn`.
        service: Who answers.
        request: Class of the member and of the method's request.
        response: Class of the method's response.
        streams: True when the method answers with a stream.
        reply: Member of `ServerFrame` that holds a response.
    """

    name: str
    method: str
    service: Service
    request: type[Message]
    response: type[Message]
    streams: bool
    reply: str


AUTHENTICATE = "authenticate"
"""Member of `ClientFrame` that this service answers by itself."""
CANCEL = "cancel"
"""Member of `ClientFrame` that ends another call."""

_FILES = {
    Service.SESSION: (agents_pb2, turns_pb2, events_pb2, keys_pb2, usage_pb2),
    Service.EXECUTOR: (backends_pb2, workspaces_pb2, diagnosis_pb2),
}


def message_of(field: FieldDescriptor) -> Descriptor:
    """Return what a member of a frame holds; every one holds a message."""
    return cast("Descriptor", field.message_type)


def _methods() -> Iterator[tuple[Service, MethodDescriptor]]:
    for service, files in _FILES.items():
        for file in files:
            for descriptor in file.DESCRIPTOR.services_by_name.values():
                for method in descriptor.methods:
                    yield service, method


def _calls() -> dict[str, Call]:
    methods = {method.input_type.full_name: (service, method) for service, method in _methods()}
    replies = {
        message_of(field).full_name: field.name
        for field in frames_pb2.ServerFrame.DESCRIPTOR.oneofs_by_name["reply"].fields
    }
    calls = {}
    for field in frames_pb2.ClientFrame.DESCRIPTOR.oneofs_by_name["call"].fields:
        if field.name in (AUTHENTICATE, CANCEL):
            continue
        service, method = methods[message_of(field).full_name]
        calls[field.name] = Call(
            name=field.name,
            method=f"/{method.containing_service.full_name}/{method.name}",
            service=service,
            request=GetMessageClass(method.input_type),
            response=GetMessageClass(method.output_type),
            streams=method.server_streaming,
            reply=replies[method.output_type.full_name],
        )
    return calls


CALLS = _calls()
"""Every call by its member of `ClientFrame`."""
