"""Runs Google's Firestore emulator on this machine, and keeps its data in a folder.

The emulator has everything in memory. Its own way of writing it down when it ends
fails as often as not, so it is asked before; a crash loses what came after the start.
"""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from services.local.errors import StartError
from services.local.folder import DataFolder
from services.local.ports import LOOPBACK
from services.local.programs import Program

NAME = "firestore"
PROJECT = "moorline"
"""Of the emulator's data, when GOOGLE_CLOUD_PROJECT names no other; no cloud is involved."""
SAVE_SECONDS = 10
"""Saving takes well under a second for thousands of events."""
WARM_SECONDS = 10
"""A start waits no longer for that; nothing but a slower end depends on it."""
PAUSE_SECONDS = 0.1

_MAIN = "com.google.cloud.datastore.emulator.firestore.CloudFirestore"
# Ready a third sooner than with the machine's defaults, and one process of modest size.
_JVM = ("-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Duser.language=en")
_EXPORT = "data"
_METADATA = f"{_EXPORT}/{_EXPORT}.overall_export_metadata"


class SaveError(Exception):
    """Raised when the emulator's data could not be written down; the text says why."""


class Emulator:
    """The emulator of one run, to be started as `program` and saved before its end.

    Args:
        folder: Where its data and its log are.
        port: Where it listens, on the loopback interface.
        project: Google Cloud project its data is in.
        environ: This process's environment, to find Java and the emulator by.

    Raises:
        StartError: It is not installed.
    """

    def __init__(
        self, *, folder: DataFolder, port: int, project: str, environ: Mapping[str, str]
    ) -> None:
        self.port = port
        self._project = project
        self._data = folder.path / "firestore"
        java, archive = find(environ)
        options = [f"--host={LOOPBACK}", f"--port={self.port}", "--database-mode=firestore-native"]
        saved = self._data / _METADATA
        if saved.exists():
            options.append(f"--import-data={saved}")
        self.program = Program(
            name=NAME,
            command=start_command(java, archive, options),
            environment={
                name: environ[name] for name in ("PATH", "HOME", "JAVA_HOME") if name in environ
            },
            log=folder.log(NAME),
        )

    @property
    def address(self) -> str:
        """Where it listens, as FIRESTORE_EMULATOR_HOST has it."""
        return f"{LOOPBACK}:{self.port}"

    async def warm_up(self) -> None:
        """Write down what is in it for nothing, as soon as that works.

        The first time takes it up to two seconds, any later one a tenth; and at the
        end there are only three for everything.
        """
        scratch = self._data.with_name("firestore.first")
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(WARM_SECONDS):
                # Polled: another program's state has no event to wait for.
                while not await asyncio.to_thread(self._try_export, scratch):  # noqa: ASYNC110
                    await asyncio.sleep(PAUSE_SECONDS)
        shutil.rmtree(scratch, ignore_errors=True)

    async def save(self) -> None:
        """Write down everything in it, for the next run's start.

        What was saved before stays until all is written.

        Raises:
            SaveError: That did not succeed.
        """
        fresh, old = (self._data.with_name(f"firestore.{word}") for word in ("new", "old"))
        try:
            await asyncio.to_thread(self._export, fresh)
            if self._data.exists():
                self._data.rename(old)
            fresh.rename(self._data)
            shutil.rmtree(old, ignore_errors=True)
        except (OSError, http.client.HTTPException) as error:
            raise SaveError(str(error) or type(error).__name__) from error

    def _try_export(self, folder: Path) -> bool:
        try:
            self._export(folder)
        except (OSError, http.client.HTTPException):
            return False
        return True

    def _export(self, folder: Path) -> None:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(mode=0o700)
        request = {
            "database": f"projects/{self._project}/databases/(default)",
            "export_directory": str(folder),
            "export_name": _EXPORT,
        }
        connection = http.client.HTTPConnection(LOOPBACK, self.port, timeout=SAVE_SECONDS)
        try:
            connection.request(
                "POST",
                f"/emulator/v1/projects/{self._project}:export",
                body=json.dumps(request),
                headers={"Content-Type": "application/json"},
            )
            answer = connection.getresponse()
            words = answer.read().decode(errors="replace")
        finally:
            connection.close()
        if answer.status != http.HTTPStatus.OK or not (folder / _METADATA).exists():
            raise OSError(f"{answer.status} {words[:200]}")


def start_command(
    java: str, archive: Path, options: Sequence[str], *, heap: str = "1g"
) -> tuple[str, ...]:
    """Return the command that runs the emulator.

    Args:
        java: The program `java`.
        archive: The emulator's archive.
        options: For the emulator, each like `--port=8080`.
        heap: Memory it may take, as Java has it.
    """
    return (java, *_JVM, f"-Xmx{heap}", "-cp", str(archive), _MAIN, "start", *options)


def find(environ: Mapping[str, str]) -> tuple[str, Path]:
    """Return Java and the emulator's archive.

    Raises:
        StartError: One of them is not on this machine.
    """
    path = environ.get("PATH", "")
    gcloud = shutil.which("gcloud", path=path)
    archive = Path()
    if gcloud is not None:
        platform = Path(gcloud).resolve().parent.parent / "platform"
        archive = platform / "cloud-firestore-emulator" / "cloud-firestore-emulator.jar"
    if not archive.is_file():
        raise StartError(
            "STORE=firestore needs the Firestore emulator. Install the gcloud command line, then"
            " run:  gcloud components install cloud-firestore-emulator"
            "  (Debian: apt-get install google-cloud-cli-firestore-emulator)"
        )
    java = shutil.which("java", path=path)
    if java is None:
        raise StartError(
            "STORE=firestore needs Java for the Firestore emulator. Install it, for example:"
            "  apt-get install default-jre-headless"
        )
    return java, archive
