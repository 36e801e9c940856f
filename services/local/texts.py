"""What the person at the terminal reads, in English and Korean."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Texts:
    """The sentences of one language.

    Attributes:
        banner: With `url`, `data`, `logs`, and `terminal`, the path of the command line.
        died: With `name`, `how`, `pause` in seconds.
        signalled: With `number`.
        exited: With `status`.
        no_context: With `reason`.
        stopping: When asked to stop.
    """

    banner: str
    died: str
    signalled: str
    exited: str
    no_context: str
    stopping: str


ENGLISH = Texts(
    banner="""
  Moorline is running. Open

    {url}

  Data     {data}
  Logs     {logs}
  Terminal {terminal}
  Stop     Ctrl-C
""",
    died="{name} {how}; starting it again in {pause:g} s.",
    signalled="was ended by signal {number}",
    exited="ended with status {status}",
    no_context="The `moorline` command was not set up for this server: {reason}",
    stopping="Stopping ... (Ctrl-C again ends everything at once)",
)

KOREAN = Texts(
    banner="""
  Moorline이 실행 중입니다. 브라우저에서 여세요.

    {url}

  데이터   {data}
  로그     {logs}
  터미널   {terminal}
  종료     Ctrl-C
""",
    died="{name}: {how}. {pause:g}초 뒤에 다시 시작합니다.",
    signalled="시그널 {number}로 종료됨",
    exited="상태 {status}로 종료됨",
    no_context="이 서버를 `moorline` 명령에 등록하지 못했습니다: {reason}",
    stopping="종료하는 중입니다 ... (Ctrl-C를 다시 누르면 즉시 끝납니다)",
)


def texts_for(environ: Mapping[str, str]) -> Texts:
    """Choose the language that the locale asks for; Korean or else English."""
    locale = environ.get("LC_ALL") or environ.get("LC_MESSAGES") or environ.get("LANG") or ""
    return KOREAN if locale.lower().startswith("ko") else ENGLISH
