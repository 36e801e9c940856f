"""`moorline doctor`: whether everything is there that agents need, and how to mend it.

Does not know what is looked at, nor how.
"""

from __future__ import annotations

from collections.abc import Sequence

import moorline
from moorline.cli.exits import Exit, exit_of_error
from moorline.cli.invocation import Invocation, Output
from moorline.cli.language import Texts

_MARKS = {
    moorline.Finding.GOOD: "✓",
    moorline.Finding.WARNING: "!",
    moorline.Finding.FAILED: "✗",
    moorline.Finding.UNUSED: "·",
}


async def examine(invocation: Invocation) -> Exit:
    """Connect, ask every service, and tell what was found; that nobody answers is a finding."""
    try:
        async with invocation.client() as client:
            detail = invocation.texts("doctor.connected", url=client.target.url, user=client.user)
            _tell(invocation, f"✓ {invocation.texts('doctor.gateway')}: {detail}")
            checks = await client.diagnose()
    except moorline.MoorlineError as error:
        why = invocation.texts.error(error)
        _tell(invocation, f"✗ {invocation.texts('doctor.gateway')}: {why}")
        if isinstance(error, moorline.ConnectionLostError):
            _tell(invocation, f"    → {invocation.texts('doctor.mend.gateway')}")
        return exit_of_error(error)
    _write(invocation, checks)
    failed = any(check.finding is moorline.Finding.FAILED for check in checks)
    return Exit.FAILED if failed else Exit.OK


def _tell(invocation: Invocation, line: str) -> None:
    """A finding is an answer, except to a program, which asked the services."""
    if invocation.output is Output.TEXT:
        invocation.write(f"{line}\n")
    else:
        invocation.tell(line)


def _write(invocation: Invocation, checks: Sequence[moorline.Check]) -> None:
    if invocation.output is not Output.TEXT:
        rows = [
            {
                "subject": check.subject.value,
                "state": check.finding.value,
                "detail": check.detail,
                "remedy": check.remedy,
                "address": check.address,
            }
            for check in checks
        ]
        invocation.write_rows((), rows)
        return
    for check in checks:
        invocation.write(_line(check, invocation.texts))


def _line(check: moorline.Check, texts: Texts) -> str:
    subject = check.subject.value
    known = check.subject is not moorline.Subject.UNKNOWN
    name = texts(f"doctor.{subject}") if known else subject
    where = f" ({check.address})" if check.address else ""
    state = texts(f"doctor.{check.finding.value}")
    line = f"{_MARKS.get(check.finding, '?')} {name}{where}: {state}. {check.detail}\n"
    if not check.remedy:
        return line
    # The service's sentence is English and knows more; the catalogue's is the person's.
    own = texts(f"doctor.mend.{subject}") if known and texts.language != "en" else ""
    return f"{line}    → {own} {check.remedy}\n" if own else f"{line}    → {check.remedy}\n"
