"""Writes the measured figures into both READMEs: `python -m tests.load.readme`.

What stands between the two markers comes from `docs/benchmarks.json` and from nowhere else;
a test compares.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from tests.load.figures import (
    DELETE_PRICE,
    READ_PRICE,
    WRITE_PRICE,
    Agents,
    Figures,
    Shared,
    parse,
)
from tests.load.goals import judge
from tests.load.report import (
    LATENCIES,
    agent_rows,
    growth_rows,
    latency_rows,
    markdown,
    memory_rows,
    operation_rows,
    ratio,
)
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
        shared: One paragraph about the shared database.
        latencies: Header of the table of its latencies.
        latency_names: What they are called; see `latency_rows`.
        operations: Header of the table of its operations.
        turn_names: What the turns are called; see `operation_rows`.
        prices: One sentence about prices.
        agents: One paragraph about agents.
        agent_costs: Header of the table of what they cost.
        names: Goals in this language, by name; English where there is none.
    """

    machine: str
    goals: tuple[str, ...]
    met: str
    missed: str
    growth: tuple[str, ...]
    memory: tuple[str, ...]
    replay: str
    shared: str
    latencies: tuple[str, ...]
    latency_names: tuple[str, ...]
    operations: tuple[str, ...]
    turn_names: tuple[str, ...]
    prices: str
    agents: str
    agent_costs: tuple[str, ...]
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
    shared=(
        "On a database that they share, the Firestore emulator on the same cores, with two of"
        " each service:"
    ),
    latencies=("on the emulator", "p50", "p99"),
    latency_names=LATENCIES,
    operations=("documents a turn", "written", "read", "deleted", "price of 1,000 turns"),
    turn_names=("short turn", "a minute of streaming, ten tool calls"),
    prices=(
        "Everything that both session services do meanwhile is counted, renewals of leases"
        " included. The tools of simulated agents answer at once; the result of one that takes"
        " longer is a write of its own. The price follows from ${write:.2f} for 100,000 documents"
        " written, ${read:.2f} read and ${delete:.2f} deleted: list prices of Firestore that nobody"
        " here has been billed, so look up those of your region."
    ),
    agents=(
        "What agents cost on each backend, beside a stand-in of the model provider that answers at"
        " once. Awake is the memory that an agent has for itself; what several share is not"
        " counted."
    ),
    agent_costs=(
        "backend",
        "start until ready",
        "short turn",
        "the program alone",
        "waking up",
        "memory awake",
        "asleep",
        "in a GiB",
        "words/s",
    ),
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
    shared=(
        "서비스마다 두 개씩 띄우고, 같은 코어에서 도는 Firestore 에뮬레이터를 함께 쓸 때의"
        " 값입니다."
    ),
    latencies=("에뮬레이터에서", "p50", "p99"),
    latency_names=("턴 접수", "첫 조각", "항목 완성에서 이벤트 도착까지"),
    operations=("턴 하나의 문서", "쓰기", "읽기", "삭제", "1,000턴 가격"),
    turn_names=("짧은 턴", "1분 스트리밍, 도구 호출 10번"),
    prices=(
        "그동안 세션 서비스 둘이 한 모든 작업을 셌고, 임대 갱신도 들어 있습니다. 시뮬레이션"
        " 에이전트의 도구는 바로 답하며, 더 오래 걸리는 도구라면 결과마다 쓰기가 하나 더 듭니다."
        " 가격은 문서"
        " 100,000개당 쓰기 ${write:.2f}, 읽기 ${read:.2f}, 삭제 ${delete:.2f}로 계산한 Firestore"
        " 정가이며 실제 청구서로 확인한 값이 아니므로, 쓰는 지역의 가격을 확인하세요."
    ),
    agents=(
        "바로 답하는 모델 제공자의 대역을 두고 잰, 백엔드별 에이전트의 비용입니다. 깨어 있을 때의"
        " 메모리는 에이전트 혼자 쓰는 몫이며, 여럿이 나눠 쓰는 것은 세지 않았습니다."
    ),
    agent_costs=(
        "백엔드",
        "시작해서 준비까지",
        "짧은 턴",
        "프로그램만",
        "깨우기",
        "깨어 있을 때 메모리",
        "잠들었을 때",
        "1 GiB에",
        "단어/초",
    ),
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
        "takeover_sigkill": "세션 서비스를 SIGKILL로 끝냄: 20 s 안에 스트림이 이어짐",
        "takeover_sigterm": "세션 서비스를 SIGTERM으로 끝냄: 2 s 안에 스트림이 이어짐",
        "resume_restarted": "죽은 게이트웨이의 접속자 1,000명이 다시 뜬 그곳으로: 10 s 안에 모두",
        "resume_other": "죽은 게이트웨이의 접속자 1,000명이 다른 곳으로: 10 s 안에 모두",
        "resume_refused": "그중 거절된 접속 없음",
        "streamed_writes": "1분 스트리밍과 도구 호출 10번: 쓰기 40번 이하",
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
        *(_shared(figures.shared, wording) if figures.shared is not None else ()),
        *(_agents(figures.agents, wording) if figures.agents else ()),
    ]
    return "\n" + "\n".join(parts)


def _shared(shared: Shared, wording: Wording) -> list[str]:
    prices = {"write": WRITE_PRICE, "read": READ_PRICE, "delete": DELETE_PRICE}
    of_100_000 = {name: price * 100_000 for name, price in prices.items()}
    return [
        wording.shared + "\n",
        markdown(wording.latencies, latency_rows(shared, wording.latency_names)),
        markdown(wording.operations, operation_rows(shared, wording.turn_names)),
        wording.prices.format(**of_100_000) + "\n",
    ]


def _agents(agents: Sequence[Agents], wording: Wording) -> list[str]:
    return [wording.agents + "\n", markdown(wording.agent_costs, _bold(agent_rows(agents)))]


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
