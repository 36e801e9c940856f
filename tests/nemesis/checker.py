"""Finds out whether a run kept the promises. Pure: reads evidence, touches nothing."""

from __future__ import annotations

from collections.abc import Iterator

from tests.nemesis.check_logs import check_logs
from tests.nemesis.check_transcripts import check_transcripts
from tests.nemesis.check_turns import check_turns
from tests.nemesis.check_views import check_views
from tests.nemesis.evidence import Evidence, Violation
from tests.nemesis.history import SILENCE, Entry, Kind

SLACK_SECONDS = 2.0
"""How much later than its deadline a call may end."""

PASSING = frozenset(
    {
        "",
        "CLOSED",
        "SERVICE_UNAVAILABLE",
        "STORE_UNAVAILABLE",
        "SESSION_CAPACITY",
        "DRAINING",
        "CALL_TIMEOUT",
        "FENCED",
        "RATE_LIMITED",
    }
)
"""Answers that a fault may bring about; a client tries again after them."""

_EXPECTED = {
    "createTurn": {"RESOURCE_EXISTS", "QUEUE_FULL"},
    "resolvePermission": {"PERMISSION_RESOLVED", "TURN_FINISHED", "RESOURCE_NOT_FOUND"},
}
"""Answers that a call may get without any fault."""


def check(evidence: Evidence) -> list[Violation]:
    """Every violation; none means that the run kept all promises."""
    return [
        *check_turns(evidence),
        *check_logs(evidence),
        *check_transcripts(evidence),
        *check_views(evidence),
        *_check_privacy(evidence),
        *_check_answers(evidence),
        *(Violation("log", "services", line) for line in evidence.alarms),
    ]


def _check_privacy(evidence: Evidence) -> Iterator[Violation]:
    """P6: no client ever received a word of another user."""
    for entry in evidence.history.of(Kind.FRAME):
        user, text = evidence.users[entry.client], entry.detail["text"]
        for other, word in evidence.canaries.items():
            if other != user and word in text:
                yield Violation("P6", entry.client, f"received {word} of {other}: {text:.200}")


def _check_answers(evidence: Evidence) -> Iterator[Violation]:
    pauses = list(_gateway_pauses(evidence))
    prying = {call.detail["number"] for call, _ in evidence.calls("listEvents") if _pries(call)}
    for entry in evidence.history.of(Kind.ANSWER):
        method, reason = entry.detail["method"], entry.detail["reason"]
        seconds, deadline = entry.detail["seconds"], entry.detail["deadline"]
        about = f"{entry.client} {method} {entry.detail['number']}"
        if reason == SILENCE or seconds > deadline + SLACK_SECONDS:
            if not any(_overlaps(entry, *pause) for pause in pauses):
                yield Violation("deadline", about, f"{seconds:.1f} s for {deadline:.1f} s allowed")
        elif entry.detail["number"] in prying:
            if not reason:
                yield Violation("P6", about, "was shown an agent of another user's")
        elif reason not in PASSING | _EXPECTED.get(method, set()) and not evidence.emptied:
            yield Violation("answer", about, f"was answered {reason}")


def _pries(call: Entry) -> bool:
    """Tell whether a call asks for what is somebody else's; a client is named after its user."""
    user = str(call.detail["request"]["parent"]).split("/")[1]
    return user != call.client.rpartition("-")[0]


def _gateway_pauses(evidence: Evidence) -> Iterator[tuple[str, float, float]]:
    """When each gateway was stopped: whoever is connected to it hears nothing then."""
    ends = {e.detail["number"]: e.time for e in evidence.history.of(Kind.HEALED)}
    for entry in evidence.history.of(Kind.FAULT):
        target = entry.detail["target"]
        if entry.detail["fault"] == "pause" and target.startswith("gateway"):
            yield target, entry.time, ends.get(entry.detail["number"], float("inf"))


def _overlaps(entry: Entry, gateway: str, began: float, ended: float) -> bool:
    asked = entry.time - float(entry.detail["seconds"])
    return entry.detail["gateway"] == gateway and began <= entry.time and asked <= ended
