"""The checker passes what is right, and finds each kind of wrong: a blind one proves nothing."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pytest

from tests.nemesis.checker import check
from tests.nemesis.evidence import Evidence
from tests.nemesis.history import SILENCE, Kind
from tests.nemesis.stories import AGENT, PROMPT, Story, delta, healthy, message

Spoil = Callable[[Story], None]


def test_a_healthy_run_has_no_violation() -> None:
    """What keeps all promises is let pass."""
    assert [] == check(healthy().evidence())


def test_what_is_allowed_is_let_pass() -> None:
    """Attempts, withdrawn text, a cancel, a failed turn with a reason are no violations."""
    story = Story()
    story.send("t1", "/sim retract a\n/sim say b")
    story.send("t1", "something else", "RESOURCE_EXISTS")
    story.send("t2", "hello")
    story.call("cancelTurn", {"name": f"{AGENT}/turns/t2"})
    story.send("t3", "hello")
    story.call("listEvents", {"parent": "users/bob/agents/a1"}, "RESOURCE_NOT_FOUND")
    story.log("t1", userMessage={"text": "/sim retract a\n/sim say b"})
    story.log("t1", toolCall={"toolCallId": "c1"})
    story.log("t1", permissionRequest={"permissionId": "p1", "toolCallId": "c1"})
    story.log("t1", turnAttempt={"attempt": 2})
    story.log("t1", agentMessage=message("b2", "b"))
    story.log("t1", turnOutcome={"state": "STATE_FINISHED"})
    story.log("t2", userMessage={"text": "hello"})
    story.log("t2", agentMessage=message("b3", "The", partial=True))
    story.log("t2", turnOutcome={"state": "STATE_CANCELLED"})
    story.log("t3", userMessage={"text": "hello"})
    lost = {"reason": "ERROR_REASON_EXECUTION_LOST"}
    story.log("t3", turnOutcome={"state": "STATE_LOST", "error": lost})
    story.effects["t1.0"] = 2
    story.epochs = dict.fromkeys(range(4, 12), 3)
    story.watch(1, 0)
    story.show(1, *story.events_from(1, 1), delta("b0", "lost", snapshot=True))
    story.show(1, *story.events_from(2, 2), delta("b1", "a", snapshot=True))
    story.show(1, {"messageDiscarded": {"blockId": "b1"}}, *story.events_from(3))

    assert [] == check(story.evidence())


def _accepted_and_gone(story: Story) -> None:
    story.send("t9", "hello")


def _accepted_after_all(story: Story) -> None:
    story.send("t1", "something else")


def _refused_although_the_same(story: Story) -> None:
    story.send("t1", PROMPT, "RESOURCE_EXISTS")


def _begun_twice(story: Story) -> None:
    story.log("t1", userMessage={"text": PROMPT})
    story.watch(3, 6)
    story.show(3, *story.events_from(7))


def _never_sent(story: Story) -> None:
    story.log("t7", userMessage={"text": "phantom"})
    story.log("t7", turnOutcome={"state": "STATE_FINISHED"})
    story.watch(3, 6)
    story.show(3, *story.events_from(7))


def _other_content(story: Story) -> None:
    story.events[0]["item"]["userMessage"]["text"] = "hijacked"


def _not_listed(story: Story) -> None:
    story.turns["t1"] = "MISSING"


def _two_outcomes(story: Story) -> None:
    story.log("t1", turnOutcome={"state": "STATE_FINISHED"})
    story.watch(3, 6)
    story.show(3, *story.events_from(7))


def _no_outcome(story: Story) -> None:
    story.events.pop()


def _outcome_without_reason(story: Story) -> None:
    story.events[-1]["item"]["turnOutcome"] = {"state": "STATE_FAILED"}


def _failed_by_a_bug(story: Story) -> None:
    error = {"reason": "ERROR_REASON_INTERNAL"}
    story.events[-1]["item"]["turnOutcome"] = {"state": "STATE_FAILED", "error": error}


def _cancelled_unasked(story: Story) -> None:
    story.events[-1]["item"]["turnOutcome"] = {"state": "STATE_CANCELLED"}


def _listed_otherwise(story: Story) -> None:
    story.turns["t1"] = "STATE_RUNNING"


def _still_on_the_work_list(story: Story) -> None:
    story.work.append("t1")


def _word_lost(story: Story) -> None:
    story.events[4]["item"]["agentMessage"]["text"] = "w1 w2"


def _attempt_after_a_tool_call(story: Story) -> None:
    story.events[4]["item"] = {"turnAttempt": {"attempt": 2}}


def _attempt_after_an_allowed_tool_call(story: Story) -> None:
    allowed = {"permissionId": "p1", "allowed": True}
    story.events[1]["item"] = {"permissionRequest": {"permissionId": "p1", "toolCallId": "c1"}}
    story.events[3]["item"] = {"permissionDecision": allowed}
    story.events[4]["item"] = {"turnAttempt": {"attempt": 2}}


def _tool_ran_twice(story: Story) -> None:
    story.effects["t1.0"] = 2


def _hole(story: Story) -> None:
    for event in story.events[3:]:
        event["sequence"] += 1


def _older_epoch(story: Story) -> None:
    story.epochs = {1: 1, 2: 2, 3: 1}


def _event_skipped(story: Story) -> None:
    story.watch(3, 0, "ada-2")
    story.show(3, *story.events_from(2), client="ada-2")


def _event_repeated(story: Story) -> None:
    story.watch(3, 0, "ada-2")
    story.show(3, *story.events_from(1, 3), *story.events_from(3), client="ada-2")


def _event_changed(story: Story) -> None:
    other = {**story.events[1], "item": {"agentMessage": message("b1", "goodbye")}}
    story.watch(3, 0, "ada-2")
    story.show(3, {"event": story.events[0]}, {"event": other}, client="ada-2")
    story.show(3, *story.events_from(3), client="ada-2")


def _event_never_stored(story: Story) -> None:
    story.watch(3, 0, "ada-2")
    phantom = {"sequence": 7, "turnId": "t1", "item": {"toolCall": {}}}
    story.show(3, *story.events_from(1), {"event": phantom}, client="ada-2")


def _never_shown_the_rest(story: Story) -> None:
    story.watch(3, 0, "ada-2")
    story.show(3, *story.events_from(1, 5), client="ada-2")


def _other_text_shown(story: Story) -> None:
    story.watch(3, 0, "ada-2")
    story.show(3, *story.events_from(1, 1), delta("b1", "hello?", snapshot=True), client="ada-2")
    story.show(3, *story.events_from(2), client="ada-2")


def _fragment_lost(story: Story) -> None:
    story.watch(3, 0, "ada-2")
    story.show(3, *story.events_from(1, 4), delta("b2", "w1", snapshot=True), client="ada-2")
    story.show(3, delta("b2", " w3"), *story.events_from(5), client="ada-2")


def _fragment_of_nothing(story: Story) -> None:
    story.watch(3, 0, "ada-2")
    story.show(3, *story.events_from(1, 1), delta("b1", "lo"), client="ada-2")


def _text_after_its_item(story: Story) -> None:
    story.watch(3, 0, "ada-2")
    story.show(3, *story.events_from(1, 2), delta("b1", "h", snapshot=True), client="ada-2")
    story.show(3, *story.events_from(3), client="ada-2")


def _text_after_the_end(story: Story) -> None:
    story.show(2, delta("b5", "zombie", snapshot=True))


def _told_to_forget(story: Story) -> None:
    story.history.add(Kind.RESET, "ada-1", AGENT)
    story.watch(3, 0)
    story.show(3, *story.events_from(1))


def _other_log(story: Story) -> None:
    story.show(2, {"checkpoint": {"sequence": 6, "logId": "one"}})
    story.show(2, {"checkpoint": {"sequence": 6, "logId": "two"}})


def _foreign_word(story: Story) -> None:
    story.history.add(Kind.FRAME, "ada-1", text='{"error": {"message": "canarybob"}}')


def _shown_to_a_stranger(story: Story) -> None:
    story.call("listEvents", {"parent": "users/bob/agents/a1"})


def _no_answer(story: Story) -> None:
    story.send("t1", PROMPT, SILENCE, 13)


def _late_answer(story: Story) -> None:
    story.send("t1", PROMPT, "STORE_UNAVAILABLE", 12.5)


def _wrong_answer(story: Story) -> None:
    story.call("getTurn", {"name": f"{AGENT}/turns/t1"}, "RESOURCE_NOT_FOUND")


def _alarm(story: Story) -> None:
    story.alarms.append("session-1: Traceback (most recent call last)")


@pytest.mark.parametrize(
    ("rule", "spoil", "text"),
    [
        ("P1", _accepted_and_gone, "not in the log"),
        ("P1", _not_listed, "not listed"),
        ("P2", _accepted_after_all, "two contents"),
        ("P2", _refused_although_the_same, "refused"),
        ("P2", _begun_twice, "begun 2 times"),
        ("P2", _never_sent, "nobody sent it"),
        ("P2", _other_content, "content that nobody sent"),
        ("P3", _word_lost, "finished, and says"),
        ("P3", _hole, "where 4 should be"),
        ("P3", _older_epoch, "of epoch 1, after 2"),
        ("P3", _event_skipped, "event 2 after 0"),
        ("P3", _event_repeated, "event 3 after 3"),
        ("P3", _event_changed, "in the log"),
        ("P3", _event_never_stored, "not in the log"),
        ("P3", _never_shown_the_rest, "stopped at 5"),
        ("P3", _other_text_shown, "shown was"),
        ("P3", _fragment_lost, "shown was"),
        ("P3", _fragment_of_nothing, "never began"),
        ("P3", _text_after_its_item, "whose item has come"),
        ("P3", _text_after_the_end, "no turn runs"),
        ("P3", _told_to_forget, "told to forget"),
        ("P3", _other_log, "the log is called two"),
        ("P4", _two_outcomes, "2 outcomes"),
        ("P4", _no_outcome, "0 outcomes"),
        ("P4", _outcome_without_reason, "without a reason"),
        ("P4", _failed_by_a_bug, "by a bug"),
        ("P4", _cancelled_unasked, "nobody asked"),
        ("P4", _listed_otherwise, "listed as"),
        ("P4", _still_on_the_work_list, "work list"),
        ("P5", _attempt_after_a_tool_call, "after a tool call"),
        ("P5", _attempt_after_an_allowed_tool_call, "after a tool call"),
        ("P5", _tool_ran_twice, "ran 2 times"),
        ("P6", _foreign_word, "canarybob of bob"),
        ("P6", _shown_to_a_stranger, "another user's"),
        ("deadline", _no_answer, "13.0 s"),
        ("deadline", _late_answer, "12.5 s"),
        ("answer", _wrong_answer, "RESOURCE_NOT_FOUND"),
        ("log", _alarm, "Traceback"),
    ],
)
def test_each_kind_of_wrong_is_found(rule: str, spoil: Spoil, text: str) -> None:
    """A healthy history that is spoilt in one way is told as that one violation."""
    story = healthy()
    spoil(story)
    found = check(story.evidence())

    assert [each for each in found if each.rule == rule and text in each.text], found


def test_a_segment_that_is_missing_is_found() -> None:
    """The stored log is judged by itself, not only by what the API lists."""
    evidence = healthy().evidence()
    agent = evidence.agents[AGENT]
    segments = [*agent.segments[:2], *agent.segments[3:]]

    assert "P3" in _rules(_with(evidence, segments=segments))


def test_a_segment_written_twice_is_found() -> None:
    """A commit that took effect twice is found although no number repeats."""
    evidence = healthy().evidence()
    agent = evidence.agents[AGENT]
    again = [(name, {**fields, "nonce": "same"}) for name, fields in agent.segments]

    assert "P3" in _rules(_with(evidence, segments=again))


def test_what_the_api_lists_must_be_what_is_stored() -> None:
    """A cache that says something else than the database is found."""
    evidence = healthy().evidence()
    agent = evidence.agents[AGENT]
    name, fields = agent.segments[1]
    other = {**agent.events[1], "turnId": "t5"}
    segments = [*agent.segments]
    segments[1] = (name, {**fields, "events": [other]})

    assert "P3" in _rules(_with(evidence, segments=segments))


def test_an_agent_that_cannot_be_listed_is_found() -> None:
    """When no fault is left the platform must answer."""
    assert "deadline" in _rules(_with(healthy().evidence(), listed=False))


def test_an_agent_that_is_gone_is_found() -> None:
    """An agent whose turns were accepted cannot vanish."""
    evidence = healthy().evidence()

    assert {"P1"} == _rules(_replaced(evidence, agents={}))


def test_silence_while_the_gateway_is_held_is_no_violation() -> None:
    """Nobody can hear a process that is stopped."""
    story = healthy()
    story.history.add(Kind.FAULT, number=1, fault="pause", target="gateway-1")
    story.send("t1", PROMPT, SILENCE, 13)
    story.history.add(Kind.HEALED, number=1)

    assert [] == check(story.evidence())


def test_a_reset_after_the_database_was_emptied_is_no_violation() -> None:
    """Who was told to forget everything shows the new log from its beginning."""
    story = _emptied()

    assert [] == check(story.evidence())


def test_a_mixture_after_the_database_was_emptied_is_found() -> None:
    """An event of the log that is gone may not be shown among those of the new one."""
    story = _emptied()
    old = {"sequence": 1, "turnId": "t1", "item": {"userMessage": {"text": "old"}}}
    story.watch(3, 0, "ada-2")
    story.show(3, {"event": old}, *story.events_from(2), client="ada-2")
    story.history.add(Kind.RESET, "ada-2", AGENT)
    story.watch(4, 0, "ada-2")
    story.show(4, {"event": old}, *story.events_from(2), client="ada-2")

    assert {"P3"} == _rules(story.evidence())


def _emptied() -> Story:
    story = Story(emptied=True)
    story.send("t1", "old")
    story.send("t2", "/sim sleep 1")
    story.log("t2", userMessage={"text": "/sim sleep 1"})
    story.log("t2", turnOutcome={"state": "STATE_FINISHED"})
    story.watch(1, 0)
    old = {"sequence": 1, "turnId": "t1", "item": {"userMessage": {"text": "old"}}}
    story.show(1, {"checkpoint": {"sequence": 0, "logId": "one"}}, {"event": old})
    story.history.add(Kind.RESET, "ada-1", AGENT)
    story.watch(2, 0)
    story.show(2, {"checkpoint": {"sequence": 2, "logId": "two"}}, *story.events_from(1))
    return story


def _rules(evidence: Evidence) -> set[str]:
    return {violation.rule for violation in check(evidence)}


def _replaced(evidence: Evidence, **changes: object) -> Evidence:
    return dataclasses.replace(evidence, **changes)  # type: ignore[arg-type]


def _with(evidence: Evidence, **changes: object) -> Evidence:
    agent = dataclasses.replace(evidence.agents[AGENT], **changes)  # type: ignore[arg-type]
    return _replaced(evidence, agents={AGENT: agent})
