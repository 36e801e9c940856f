"""Writes the measured figures into both READMEs: `python -m tests.load.readme`.

What stands between the two markers comes from `docs/benchmarks.json` and from nowhere else;
a test compares.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from tests.load.figures import Figures, parse
from tests.load.goals import judge
from tests.load.report import growth_rows, markdown, memory_rows, ratio
from tests.load.systems import ROOT

BEGIN = "<!-- bench:begin -->"
END = "<!-- bench:end -->"
FIGURES = ROOT / "docs" / "benchmarks.json"

GROWTH = (1, 10, 100, 600, 1000)
"""Numbers of streaming users in the README's table."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wording:
    """The words of one README.

    Attributes:
        machine: One sentence about where it was measured.
        goals: Header of the table of goals.
        met: A goal that is met.
        missed: A goal that is not.
        growth: Header of the table of growth.
        memory: Header of the table of memory.
        replay: One sentence about replay.
        names: Goals in this language, by name; English where there is none.
    """

    machine: str
    goals: tuple[str, ...]
    met: str
    missed: str
    growth: tuple[str, ...]
    memory: tuple[str, ...]
    replay: str
    names: Mapping[str, str] = field(default_factory=dict)


ENGLISH = Wording(
    machine=(
        "Measured by `make bench` on {cores} cores with Python {python}, load generator included, "
        "beside a FastAPI monolith that stores nothing, in the same run; load average before: "
        "{load:.1f}."
    ),
    goals=("goal", "measured", "", "monolith", "ratio"),
    met="met",
    missed="not met",
    growth=(
        "users streaming 40/s",
        "fragments/s",
        "CPU a fragment",
        "p50 / p99",
        "monolith: fragments/s",
        "CPU a fragment",
        "p50 / p99",
    ),
    memory=("idle users connected", "gateway", "session", "executor"),
    replay="Replay of {events:,} events: {milliseconds:.0f} ms.",
)

KOREAN = Wording(
    machine=(
        "`make bench`로 {cores}코어, Python {python}에서 부하 생성기까지 함께 돌려 쟀습니다. "
        "같은 실행에서 아무것도 저장하지 않는 FastAPI 단일 프로세스를 나란히 쟀습니다. "
        "시작 전 부하 평균은 {load:.1f}입니다."
    ),
    goals=("목표", "측정값", "", "단일 프로세스", "비율"),
    met="달성",
    missed="미달",
    growth=(
        "초당 40조각을 받는 사용자",
        "조각/초",
        "조각당 CPU",
        "p50 / p99",
        "단일 프로세스: 조각/초",
        "조각당 CPU",
        "p50 / p99",
    ),
    memory=("연결만 해 둔 사용자", "게이트웨이", "세션 서비스", "실행기"),
    replay="이벤트 {events:,}개 다시 받기: {milliseconds:.0f} ms.",
    names={
        "saturated": "포화: 초당 50,000조각 이상",
        "saturated_more": "포화: 단일 프로세스보다 많이",
        "p99_100": "턴 100개 × 40/s: 지연 p99 5 ms 이하",
        "held_600": "턴 600개 × 40/s: 속도 유지(10 % 이내)",
        "p99_600": "턴 600개 × 40/s: 지연 p99 20 ms 이하",
        "cpu_600": "턴 600개 × 40/s: 조각당 CPU 50 µs 이하",
        "held_1000": "턴 1,000개 × 40/s: 속도 유지(10 % 이내)",
        "nothing_lost": "잃거나 겹친 조각 없음",
        "cpu_falls": "25턴에서 600턴으로 갈수록 조각당 CPU 감소",
        "user_gateway": "쉬는 접속자 한 명: 게이트웨이 30 KB 이하",
        "user_session": "쉬는 접속자 한 명: 세션 서비스 60 KB 이하",
        "acknowledged": "턴 접수: p50 5 ms 이하",
        "first_fragment": "첫 조각: p50 10 ms 이하",
    },
)

READMES = {"README.md": ENGLISH, "README.ko.md": KOREAN}
"""The wording of each file."""


def section(figures: Figures, wording: Wording) -> str:
    """Render what stands between the markers, newlines at both ends included."""
    machine = figures.machine
    parts = [
        wording.machine.format(cores=machine.cores, python=machine.python, load=machine.load_before)
        + "\n",
        markdown(
            wording.goals,
            [
                [
                    wording.names.get(v.name, v.goal),
                    v.figure,
                    wording.met if v.met else wording.missed,
                    v.monolith,
                    ratio(v.ratio),
                ]
                for v in judge(figures)
            ],
        ),
        markdown(
            wording.growth,
            _bold(growth_rows([p for p in figures.paced if p.moorline.turns in GROWTH])),
        ),
        markdown(wording.memory, _bold(memory_rows(figures.memory))),
        *(
            wording.replay.format(events=replay.events, milliseconds=replay.duration.p50_ms) + "\n"
            for replay in figures.replay
        ),
    ]
    return "\n" + "\n".join(parts)


def _bold(rows: list[list[str]]) -> list[list[str]]:
    """Set off the first column, the number that grows, from the figures."""
    return [[f"**{first}**", *rest] for first, *rest in rows]


def replaced(text: str, section: str) -> str:
    """Put a section between the markers of a README.

    Raises:
        ValueError: The markers are not there.
    """
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        msg = f"no {BEGIN} and {END}"
        raise ValueError(msg)
    return f"{before}{BEGIN}{section}{END}{after}"


def rewrite(figures: Figures) -> None:
    """Rewrite the section of both READMEs."""
    for name, wording in READMES.items():
        path = ROOT / name
        path.write_text(replaced(path.read_text(), section(figures, wording)))


if __name__ == "__main__":
    rewrite(parse(FIGURES.read_bytes()))
