"""What the person at the terminal reads, in English and Korean."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from services.local.model import Backend


@dataclass(frozen=True, slots=True, kw_only=True)
class Texts:
    """The sentences of one language.

    Attributes:
        banner: With `urls`, `data`, `logs`, `terminal`, the path of the command line, `agents`,
            what runs by default, and `details`, lines about what differs from the usual run.
        agents: What runs by default, for each backend.
        emulated: The line about the store that is an emulator of this run.
        foreign: The same for an emulator that was running before, with `address`.
        processes: With `record`, the file that is kept up to date, and `table`.
        died: With `name`, `how`, `pause` in seconds.
        signalled: With `number`.
        exited: With `status`.
        no_context: With `reason`.
        not_saved: With `reason`.
        lost: When the emulator has ended by itself.
        saved_in_part: When it is saved, and has ended by itself before.
        stopping: When asked to stop.
    """

    banner: str
    agents: Mapping[Backend, str]
    emulated: str
    foreign: str
    processes: str
    died: str
    signalled: str
    exited: str
    no_context: str
    not_saved: str
    lost: str
    saved_in_part: str
    stopping: str


ENGLISH = Texts(
    banner="""
  Moorline is running. Open

    {urls}

  Data     {data}
  Logs     {logs}
  Terminal {terminal}
  Agents   {agents}
{details}  Stop     Ctrl-C
""",
    agents={
        "simulation": "simulated, without a model; BACKEND=docker runs real ones",
        "process": "Claude Code, as processes with all your rights (BACKEND=process)",
        "docker": "Claude Code, each in its own container (BACKEND=docker)",
    },
    emulated="""\
  Store    Firestore emulator; Ctrl-C saves its data, a crash loses all since this start
""",
    foreign="""\
  Store    Firestore emulator at {address}; whether its data lasts is up to it
""",
    processes="""
  Processes, as of now in {record}:

{table}

""",
    died="{name} {how}; starting it again in {pause:g} s.",
    signalled="was ended by signal {number}",
    exited="ended with status {status}",
    not_saved="The data of the Firestore emulator was not saved: {reason}",
    lost=(
        "The Firestore emulator had its data in memory: what was written since this start is lost,"
        " and it goes on from what the run before has saved."
    ),
    saved_in_part=(
        "The Firestore emulator ended by itself during this run, of which only what was written"
        " after that is saved."
    ),
    no_context="The `moorline` command was not set up for this server: {reason}",
    stopping="Stopping ... (Ctrl-C again ends everything at once)",
)

KOREAN = Texts(
    banner="""
  Moorline이 실행 중입니다. 브라우저에서 여세요.

    {urls}

  데이터   {data}
  로그     {logs}
  터미널   {terminal}
  에이전트 {agents}
{details}  종료     Ctrl-C
""",
    agents={
        "simulation": "모델 없는 시뮬레이션. 실제 에이전트는 BACKEND=docker",
        "process": "Claude Code. 사용자의 모든 권한을 가진 프로세스로 실행(BACKEND=process)",
        "docker": "Claude Code. 에이전트마다 별도 컨테이너(BACKEND=docker)",
    },
    emulated="""\
  저장소   Firestore 에뮬레이터. Ctrl-C로 끝내면 저장되고, 비정상 종료되면 이번 데이터는 사라집니다
""",
    foreign="""\
  저장소   Firestore 에뮬레이터({address}). 데이터 보존 여부는 그 에뮬레이터에 달려 있습니다
""",
    processes="""
  프로세스(최신 상태는 {record}):

{table}

""",
    died="{name}: {how}. {pause:g}초 뒤에 다시 시작합니다.",
    signalled="시그널 {number}로 종료됨",
    exited="상태 {status}로 종료됨",
    not_saved="Firestore 에뮬레이터의 데이터를 저장하지 못했습니다: {reason}",
    lost=(
        "Firestore 에뮬레이터의 데이터는 메모리에만 있었으므로 이번 실행에서 기록한 내용은"
        " 사라졌습니다. 지난 실행에서 저장된 데이터부터 이어집니다."
    ),
    saved_in_part=(
        "Firestore 에뮬레이터가 도중에 종료되어 이번 실행에서는 그 뒤에 기록한 내용만 저장했습니다."
    ),
    no_context="이 서버를 `moorline` 명령에 등록하지 못했습니다: {reason}",
    stopping="종료하는 중입니다 ... (Ctrl-C를 다시 누르면 즉시 끝납니다)",
)


def texts_for(environ: Mapping[str, str]) -> Texts:
    """Choose the language that the locale asks for; Korean or else English."""
    locale = environ.get("LC_ALL") or environ.get("LC_MESSAGES") or environ.get("LANG") or ""
    return KOREAN if locale.lower().startswith("ko") else ENGLISH
