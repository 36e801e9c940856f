"""What `make run` starts, with the real services."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import stat
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from services.local.ports import is_free
from services.local.texts import ENGLISH
from tests.emulator import EmulatorMissingError, find_emulator

ROOT = Path(__file__).resolve().parents[2]
SERVICES = ("gateway", "session", "executor")

pytestmark = [pytest.mark.alone, pytest.mark.timeout(120)]

USUAL = ("-m", "services.local")
_PATIENT = """
import sys
from datetime import timedelta
from services.local import __main__, run
run.GRACE = timedelta(seconds=600)
sys.exit(__main__.main())
"""
PATIENT = ("-c", _PATIENT)
"""The same, except that nobody is forced to end within a test's time."""
END_SECONDS = 15
"""An end that is on its way has come by then on any machine."""


@dataclass
class Running:
    """A supervisor, started as `make run` starts it."""

    process: subprocess.Popen[str]
    data: Path
    banner: str

    @property
    def told(self) -> str:
        """What it has said beside the banner."""
        return _told(self.data).read_text()

    @property
    def record(self) -> dict[str, Any]:
        """What `run.json` says."""
        record: dict[str, Any] = json.loads((self.data / "run.json").read_text())
        return record

    @property
    def pids(self) -> list[int]:
        """The three services' processes."""
        return [self.record["pids"][name] for name in SERVICES]

    def url(self, path: str) -> str:
        """An address at the gateway."""
        return f"http://127.0.0.1:{self.record['ports']['gateway']}{path}"


def _told(data: Path) -> Path:
    return data.parent / "told"


@contextmanager
def running(
    data: Path,
    environment: Mapping[str, str] | None = None,
    wrapper: tuple[str, ...] = (),
    program: tuple[str, ...] = USUAL,
    arguments: tuple[str, ...] = (),
) -> Iterator[Running]:
    """Start everything, wait for the banner, and end what is left."""
    with _told(data).open("w") as stderr:
        process = subprocess.Popen(
            [*wrapper, sys.executable, *program, "--port=0", f"--data={data}", *arguments],
            cwd=ROOT,
            env={
                "PATH": os.defpath,
                "HOME": str(data.parent),
                "AWS_SECRET_ACCESS_KEY": "must-not-leak",
                **(environment or {}),
            },
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
        )
    assert process.stdout is not None
    try:
        banner = ""
        for line in process.stdout:
            banner += line
            if "Ctrl-C" in line:
                break
        assert "?token=" in banner, _told(data).read_text()
        yield Running(process, data, banner)
    finally:
        process.kill()
        process.stdout.close()
        process.wait()


def alive(pid: int) -> bool:
    """True for a process that runs, false for one that is gone or a zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def wait_until_gone(*pids: int) -> None:
    """Wait for other processes' ends."""
    deadline = time.monotonic() + END_SECONDS
    while any(map(alive, pids)):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def ready(run: Running) -> bool:
    """True when the gateway answers 200 to `/readyz`."""
    try:
        with urllib.request.urlopen(run.url("/readyz"), timeout=2) as response:
            return bool(response.status == 200)
    except (urllib.error.URLError, OSError):
        return False


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A run for the tests that only look, at a Korean terminal."""
    environment = {"DISABLE_DOCKER": "true", "LC_ALL": "ko_KR.UTF-8"}
    with running(tmp_path_factory.mktemp("shared") / "data", environment) as run:
        yield run


def test_it_is_ready_when_the_banner_shows(shared: Running) -> None:
    """The address in the banner works at once, and what is kept is the owner's alone."""
    token = (shared.data / "token").read_text().strip()

    assert shared.url(f"/?token={token}") in shared.banner
    assert str(shared.data) in shared.banner
    assert ready(shared)
    for private in (shared.data, *shared.data.rglob("*")):
        # The services work meanwhile, and what they no longer need is gone.
        with contextlib.suppress(FileNotFoundError):
            assert 0 == stat.S_IMODE(private.stat().st_mode) & 0o077, private


def test_it_listens_on_the_loopback_interface_only(shared: Running) -> None:
    """No service of the three can be reached from another machine."""
    inodes = {link for pid in shared.pids for link in links(Path(f"/proc/{pid}/fd"))}
    listening = [
        fields[1]
        for table in ("tcp", "tcp6")
        for fields in map(str.split, Path(f"/proc/net/{table}").read_text().splitlines()[1:])
        if fields[3] == "0A" and f"socket:[{fields[9]}]" in inodes
    ]

    assert len(listening) >= len(SERVICES)
    # 127.0.0.1, by itself or as IPv6 writes it.
    assert [] == [each for each in listening if not each.split(":")[0].endswith("0100007F")]


def links(folder: Path) -> Iterator[str]:
    """Where the links in a folder lead that changes meanwhile."""
    for link in folder.iterdir():
        with contextlib.suppress(FileNotFoundError):
            yield str(link.readlink())


def test_services_see_nothing_of_the_environment(shared: Running) -> None:
    """A secret in the shell that runs `make run` does not reach a service."""
    for pid in shared.pids:
        environment = Path(f"/proc/{pid}/environ").read_bytes()

        assert b"must-not-leak" not in environment
        assert b"DISABLE_DOCKER=true" in environment


def test_a_dead_service_comes_back(tmp_path: Path) -> None:
    """Each service that is killed is started again on its port, and all is ready again."""
    with running(tmp_path / "data") as run:
        for name in SERVICES:
            revive(run, name)


def revive(run: Running, name: str) -> None:
    """Kill a service, and wait until another is at work on its port."""
    before = run.record
    os.kill(before["pids"][name], signal.SIGKILL)
    deadline = time.monotonic() + 30
    while run.record["pids"][name] == before["pids"][name] or not ready(run):
        assert time.monotonic() < deadline
        time.sleep(0.02)

    assert before["ports"] == run.record["ports"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_one_signal_stops_everything(tmp_path: Path, number: signal.Signals) -> None:
    """One Ctrl-C is enough, is no failure, and every service ends without being forced."""
    with running(tmp_path / "data", program=PATIENT) as run:
        pids = run.pids
        run.process.send_signal(number)

        assert 0 == run.process.wait(END_SECONDS)
        assert not any(map(alive, pids))
        assert not (run.data / "run.json").exists()


def test_nohup_keeps_it_running(tmp_path: Path) -> None:
    """Who starts it with `nohup` may close the terminal."""
    with running(tmp_path / "data", wrapper=("nohup",)) as run:
        run.process.send_signal(signal.SIGHUP)
        # It still does its work, which a supervisor that stops does not.
        revive(run, "executor")


def test_a_service_that_hangs_does_not_hold_up_the_stop(tmp_path: Path) -> None:
    """A service that does not react is forced when it has had its time."""
    with running(tmp_path / "data") as run:
        pids = run.pids
        os.kill(run.record["pids"]["session"], signal.SIGSTOP)
        begin = time.monotonic()
        run.process.send_signal(signal.SIGINT)

        assert 0 == run.process.wait(END_SECONDS)
        assert time.monotonic() - begin > 2
        assert not any(map(alive, pids))


def test_a_second_signal_does_not_wait(tmp_path: Path) -> None:
    """Ctrl-C twice ends everything, also what had much more time after the first."""
    with running(tmp_path / "data", program=PATIENT) as run:
        pids = run.record["pids"]
        os.kill(pids["session"], signal.SIGSTOP)
        run.process.send_signal(signal.SIGINT)
        wait_until_gone(pids["gateway"], pids["executor"])
        assert alive(pids["session"])
        run.process.send_signal(signal.SIGINT)

        assert 0 == run.process.wait(END_SECONDS)
        assert not alive(pids["session"])


def test_a_service_that_cannot_start_is_told(tmp_path: Path) -> None:
    """A wrong setting ends the run with the service's own words, not with endless attempts."""
    done = subprocess.run(
        [sys.executable, "-m", "services.local", "--port", "0", "--data", str(tmp_path / "data")],
        cwd=ROOT,
        env={"PATH": os.defpath, "HOME": str(tmp_path), "DISABLE_DOCKER": "perhaps"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert 1 == done.returncode
    assert "executor does not start" in done.stderr
    assert "DISABLE_DOCKER" in done.stderr
    assert "" == done.stdout


def test_a_killed_supervisor_leaves_no_service(tmp_path: Path) -> None:
    """Even SIGKILL leaves no orphans, and the folder can be used again at once."""
    with running(tmp_path / "data") as run:
        pids = run.pids
        run.process.kill()
        wait_until_gone(*pids)

    with running(tmp_path / "data") as run:
        assert ready(run)


@pytest.mark.firestore
def test_an_emulator_that_died_is_told_at_once_and_at_the_end(tmp_path: Path) -> None:
    """The one that is started in its place is saved without what was written before."""
    try:
        find_emulator()
    except EmulatorMissingError as error:
        pytest.skip(str(error))
    machine = {"PATH": os.environ["PATH"]}  # noqa: TID251 - where this machine's programs are
    with running(tmp_path / "data", machine, arguments=("--store", "firestore")) as run:
        revive(run, "firestore")
        assert ENGLISH.lost in run.told.splitlines()
        assert ENGLISH.saved_in_part not in run.told
        wait_until_listening(run.record["ports"]["firestore"])
        run.process.send_signal(signal.SIGINT)

        assert 0 == run.process.wait(END_SECONDS)
        assert ENGLISH.saved_in_part in run.told.splitlines()


def wait_until_listening(port: int) -> None:
    """Wait until a port takes connections."""
    deadline = time.monotonic() + 30
    while is_free(port):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_the_token_survives_a_restart(tmp_path: Path) -> None:
    """A program that has read the token need not read it again after a restart."""
    with running(tmp_path / "data") as run:
        first = (run.data / "token").read_text()
        run.process.send_signal(signal.SIGINT)
        run.process.wait(END_SECONDS)
    with running(tmp_path / "data") as run:
        assert first == (run.data / "token").read_text()


def test_the_banner_speaks_korean(shared: Running) -> None:
    """The language of the terminal is the language of the banner."""
    assert "실행 중" in shared.banner
