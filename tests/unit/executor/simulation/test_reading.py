"""Tests of `services.executor.channels.simulation.reading`."""

from __future__ import annotations

import pytest

from services.executor.channels.simulation import script
from services.executor.channels.simulation.reading import steps_of


def test_plain_prompt_is_answered_in_english() -> None:
    """The answer repeats the prompt."""
    expected = (
        "The Claude Code CLI is running in the Kubernetes environment.\n\nUser message: hi you"
    )

    assert [script.Say(expected)] == steps_of("hi you")


@pytest.mark.parametrize("prompt", ["안녕 world", "ㅋㅋ", "\u1112\u1161"])
def test_prompt_with_hangul_is_answered_in_korean(prompt: str) -> None:
    """Whole syllables, single letters and decomposed ones count."""
    expected = "Claude Code CLI가 Kubernetes 환경에서 실행 중입니다.\n\n사용자 메시지: " + prompt

    assert [script.Say(expected)] == steps_of(prompt)


@pytest.mark.parametrize("prompt", ["/simulate", "/sim", "say /sim say x", " /sim say x"])
def test_what_only_looks_like_a_script_is_a_prompt(prompt: str) -> None:
    """A line of a script starts with the prefix."""
    (step,) = steps_of(prompt)

    assert isinstance(step, script.Say)
    assert prompt in step.text
    assert "The steps are" not in step.text


def test_every_step_is_understood() -> None:
    """In order; other lines are remarks."""
    lines = [
        "a remark",
        "/sim say one  two",
        "/sim stream 3 10",
        "/sim clock 2 0",
        "/sim think hm",
        "/sim write a/b.txt the text",
        "/sim read a/b.txt",
        "/sim ask Bash rm it",
        "/sim sleep 5",
        "/sim usage 1 2 3",
        "/sim retract bad",
        "/sim fail auth",
        "/sim crash",
        "/sim hang \r",
        "/sim bash npm test && echo ok",
        "/sim edit a/b.txt one\\n=>two=>three",
        "/sim fill big 2000000",
        "/sim question Which one? the first| second",
        "/sim plan # Plan\\n- all",
        "/sim task read a.txt ;; say found it",
        "/sim background 300 all built",
        "/sim parallel 2",
        "/sim retry 2 529",
        "/sim silence",
        "/sim error half a",
        "/sim refuse half a",
        "/sim refuse",
        "/sim unstreamed whole",
        "/sim fallback",
        "/sim compact",
        "/sim recall",
    ]
    expected = [
        script.Say("one  two"),
        script.Stream(3, 10, clock=False),
        script.Stream(2, 0, clock=True),
        script.Think("hm"),
        script.Write("a/b.txt", "the text"),
        script.Read("a/b.txt"),
        script.Ask("Bash", "rm it"),
        script.Sleep(5),
        script.Usage(1, 2, 3),
        script.Retract("bad"),
        script.Fail("auth"),
        script.Crash(),
        script.Hang(),
        script.Bash("npm test && echo ok"),
        script.Edit("a/b.txt", "one\n", "two=>three"),
        script.Fill("big", 2_000_000),
        script.Question("Which one?", ("the first", "second")),
        script.Plan("# Plan\n- all"),
        script.Task("/sim read a.txt\n/sim say found it"),
        script.Background(300, "all built"),
        script.Parallel(2),
        script.Retry(2, 529),
        script.Silence(),
        script.Error("half a"),
        script.Refuse("half a"),
        script.Refuse(""),
        script.Unstreamed("whole"),
        script.Fallback(),
        script.Compact(),
        script.Recall(),
    ]

    assert expected == steps_of("\n".join(lines))


@pytest.mark.parametrize(
    "line",
    [
        "/sim dance",
        "/sim  ",
        "/sim say",
        "/sim stream 3",
        "/sim stream 0 1",
        "/sim stream 3 -1",
        "/sim stream ٣ 1",
        "/sim stream 99999999 1",
        "/sim stream 3 1 2",
        "/sim write a.txt",
        "/sim ask Bash",
        "/sim read",
        "/sim sleep soon",
        "/sim usage 1 2",
        "/sim usage 1 2 99999999999",
        "/sim fail badly",
        "/sim crash now",
        "/sim bash",
        "/sim edit a.txt one",
        "/sim edit a.txt one=>one",
        "/sim fill a.txt 99999999",
        "/sim question Which?",
        "/sim question Which? one",
        "/sim question Which? one|one",
        "/sim question a|b",
        "/sim task",
        "/sim task dance",
        "/sim task plan x",
        "/sim task say a ;; task say b",
        "/sim background soon x",
        "/sim parallel 0",
        "/sim retry 2 404",
        "/sim retry 0 500",
        "/sim silence now",
    ],
)
def test_bad_script_is_explained(line: str) -> None:
    """Nothing of it runs; the answer says what is wrong and lists the steps."""
    (step,) = steps_of(f"/sim say fine\n{line}")

    assert isinstance(step, script.Say)
    assert "The steps are:" in step.text
    assert "`/sim stream N MS`" in step.text
    assert line.rsplit(maxsplit=1)[-1] in step.text or "A step is missing." in step.text
