"""Reads what a run left behind: logs through the API and from the store, services' logs.

Reads the store without the product's code. Judges nothing.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, Protocol
from urllib.parse import quote

from tests.emulator import DATABASE, PROJECT, FirestoreEmulator
from tests.nemesis.clients import Device
from tests.nemesis.connection import AnswerError, Frame
from tests.nemesis.evidence import AgentEvidence, Fields
from tests.nemesis.pods import Pod

_PAGE = 200
_SECONDS = 60.0
"""How long one read may take at the end of a long run."""
_PAUSE_SECONDS = 0.2
_ALARMS = re.compile(r"Traceback|unexpected error|never retrieved|never awaited|was destroyed but")
_SEVERE = {"ERROR", "CRITICAL"}


class Documents(Protocol):
    """Reads collections of the database."""

    async def __call__(self, collection: str) -> list[tuple[str, Fields]]:
        """Return every document directly in a collection, ordered by id."""
        ...


def emulator_documents(emulator: FirestoreEmulator) -> Documents:
    """Return what reads an emulator by its REST interface."""

    def whole(document: Mapping[str, Any]) -> Fields:
        text = document["fields"]["json"]["stringValue"]
        _, _, parts = document["fields"]["write"]["stringValue"].partition("~")
        for number in range(1, int(parts) + 1):
            more = emulator.request(
                "GET", f"/v1/{document['name']}/more/{number}", seconds=_SECONDS
            )
            text += more["fields"]["json"]["stringValue"]
        fields: Fields = json.loads(text)
        return fields

    def read(collection: str) -> list[tuple[str, Fields]]:
        documents: list[tuple[str, Fields]] = []
        token = ""
        while True:
            query = f"pageSize={_PAGE}&pageToken={quote(token)}"
            path = f"/v1/projects/{PROJECT}/databases/{DATABASE}/documents/{collection}?{query}"
            page = emulator.request("GET", path, seconds=_SECONDS)
            documents += [
                (document["name"].rpartition("/")[2], whole(document))
                for document in page.get("documents", [])
            ]
            token = page.get("nextPageToken", "")
            if not token:
                return sorted(documents, key=lambda document: document[0])

    # Long histories of many agents at once take the emulator a minute.
    turns = asyncio.Semaphore(2)

    async def read_in_thread(collection: str) -> list[tuple[str, Fields]]:
        async with turns:
            return await asyncio.to_thread(read, collection)

    return read_in_thread


async def read_agent(
    device: Device, name: str, documents: Documents | None, *, seconds: float
) -> AgentEvidence:
    """Read everything there is about an agent.

    Args:
        device: Whose calls are made; it must be connected.
        name: The agent's name.
        documents: Reads the store; None when it cannot be read directly.
        seconds: How long the platform may take for a page of its lists; then only
            what is stored is known.
    """
    stored = await _stored(name, documents) if documents is not None else None
    try:
        events = await _events(device, name, seconds)
        turns = await _turns(device, name, seconds)
    except TimeoutError:
        if stored is None:
            raise
        events = [event for _, fields in stored.segments for event in fields["events"]]
        turns = [
            {"name": f"{name}/turns/{turn}", "state": fields["state"]}
            for turn, fields in stored.documents.items()
        ]
        return dataclasses.replace(stored, events=events, turns=turns, listed=False)
    if stored is None:
        known = {turn["name"].rpartition("/")[2]: turn for turn in turns}
        return AgentEvidence(name=name, events=events, turns=turns, documents=known)
    return dataclasses.replace(stored, events=events, turns=turns)


async def _events(device: Device, name: str, seconds: float) -> list[Fields]:
    events: list[Fields] = []
    after = -1
    while (head := events[-1]["sequence"] if events else 0) > after:
        after = head
        request = {"parent": name, "pageSize": _PAGE, "afterSequence": after}
        async with asyncio.timeout(seconds):
            events += (await _insist(device, "listEvents", request)).get("events", [])
    return events


async def _turns(device: Device, name: str, seconds: float) -> list[Fields]:
    turns: list[Fields] = []
    token = ""
    while True:
        request = {"parent": name, "pageSize": _PAGE, "pageToken": token}
        async with asyncio.timeout(seconds):
            reply = await _insist(device, "listTurns", request)
        turns += reply.get("turns", [])
        token = reply.get("nextPageToken", "")
        if not token:
            return turns


async def _stored(name: str, documents: Documents) -> AgentEvidence:
    _, user, _, agent = name.split("/")
    mine = f"{user}~{agent}~"
    log = str(dict(await documents(f"users/{user}/agents")).get(agent, {}).get("log", ""))
    # What other logs of that name have left behind is nobody's history.
    prefix = f"{log}-"
    return AgentEvidence(
        name=name,
        log_id=log,
        segments=[
            (segment.removeprefix(prefix), fields)
            for segment, fields in await documents(f"{name}/log")
            if segment.startswith(prefix)
        ],
        documents=dict(await documents(f"{name}/turns")),
        transcript=[
            (piece.removeprefix(prefix), fields)
            for piece, fields in await documents(f"{name}/transcript")
            if piece.startswith(prefix)
        ],
        work=[
            entry.removeprefix(mine)
            for entry, _ in await documents("work")
            if entry.startswith(mine)
        ],
    )


async def _insist(device: Device, method: str, request: Frame) -> Frame:
    while True:
        try:
            return await device.call(method, request)
        except AnswerError as error:
            if error.reason == "RESOURCE_NOT_FOUND":
                return {}
        await asyncio.sleep(_PAUSE_SECONDS)


def alarms(pods: Sequence[Pod]) -> list[str]:
    """Lines of the pods' logs that tell of a bug: tracebacks, errors, forgotten tasks."""
    found = []
    for pod in pods:
        lines = pod.log.read_text(errors="replace").splitlines() if pod.log.exists() else []
        found += [f"{pod.name}: {line:.1500}" for line in lines if _is_alarm(line)]
    return found


def _is_alarm(line: str) -> bool:
    fields: Mapping[str, Any] = {}
    if line.startswith("{"):
        try:
            fields = json.loads(line)
        except ValueError:
            # Cut in two by a SIGKILL.
            return False
    return fields.get("severity") in _SEVERE or bool(_ALARMS.search(line))
