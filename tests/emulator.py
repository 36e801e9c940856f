"""Starts a real Firestore emulator for tests, pauses it, kills it and brings it back."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import grpc

from services.local.emulator import start_command
from services.local.ports import free_port

PROJECT = "moorline-test"
DATABASE = "(default)"

_WAIT_SECONDS = 60.0


class EmulatorMissingError(Exception):
    """Raised when this machine has no emulator; the text says what to install."""


def find_emulator() -> tuple[str, Path]:
    """Return Java and the emulator's archive.

    Raises:
        EmulatorMissingError: One of them is not on this machine.
    """
    java = shutil.which("java")
    if java is None:
        raise EmulatorMissingError("no Java: install the package default-jre-headless")
    for archive in _archives():
        if archive.is_file():
            return java, archive
    raise EmulatorMissingError(
        "no Firestore emulator: install gcloud with its component cloud-firestore-emulator,"
        " or say where its jar is in FIRESTORE_EMULATOR_JAR"
    )


def _archives() -> Iterator[Path]:
    named = os.environ.get("FIRESTORE_EMULATOR_JAR")  # noqa: TID251 - a test's, not a service's
    if named:
        yield Path(named)
        return
    gcloud = shutil.which("gcloud")
    if gcloud is not None:
        root = Path(gcloud).resolve().parent.parent
        yield root / "platform" / "cloud-firestore-emulator" / "cloud-firestore-emulator.jar"
    # Where `firebase setup:emulators:firestore` puts it; the newest last.
    folder = Path.home() / ".cache" / "firebase" / "emulators"
    yield from sorted(folder.glob("cloud-firestore-emulator-v*.jar"), reverse=True)


class FirestoreEmulator:
    """One emulator process; a context manager that starts and stops it.

    It keeps everything in memory: stopping or killing it empties the database.

    Args:
        log: File for what it prints.
        port: Where it listens, also after a restart; 0 takes a free one.
        rules: Security rules to apply to callers that are no administrators.
        heap: Memory it may take, as Java has it. It keeps every version of every document, so
            that a long run in a small heap ends with an emulator that only collects garbage.
    """

    def __init__(
        self, *, log: Path, port: int = 0, rules: Path | None = None, heap: str = "1g"
    ) -> None:
        self._log = log
        self._rules = rules
        self._heap = heap
        self._process: subprocess.Popen[bytes] | None = None
        self.port = port or free_port()

    @property
    def host(self) -> str:
        """Its address, `host:port`, as FIRESTORE_EMULATOR_HOST has it."""
        return f"127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        """Number of its one process, the JVM."""
        if self._process is None:
            raise RuntimeError("the emulator is not running")
        return self._process.pid

    def __enter__(self) -> Self:
        """Start it and wait until it answers."""
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop it."""
        self.stop()

    def start(self) -> None:
        """Start it and wait until calls by gRPC and by REST are answered, for some seconds."""
        self.launch()
        deadline = time.monotonic() + _WAIT_SECONDS
        while True:
            try:
                self._try()
            except (grpc.RpcError, OSError):
                if self._process is None or self._process.poll() is not None:
                    raise RuntimeError(f"the emulator ended: {self._log.read_text()}") from None
                if time.monotonic() > deadline:
                    self.kill()
                    raise
                time.sleep(0.1)
            else:
                return

    def launch(self) -> None:
        """Start it without waiting."""
        java, archive = find_emulator()
        options = ["--host=127.0.0.1", f"--port={self.port}", "--database-mode=firestore-native"]
        if self._rules is not None:
            options.append(f"--rules={self._rules}")
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                start_command(java, archive, options, heap=self._heap),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def stop(self) -> None:
        """Stop it politely, by force after some seconds."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """Stop it by SIGKILL; its connections break at once."""
        self._end(signal.SIGKILL)

    def pause(self) -> None:
        """Hold it, as a machine that hangs: connections stay, nothing is answered."""
        os.kill(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on after a pause."""
        os.kill(self.pid, signal.SIGCONT)

    def clear(self, *, project: str = PROJECT, database: str = DATABASE) -> None:
        """Delete every document of a database."""
        self.request("DELETE", f"/emulator/v1/projects/{project}/databases/{database}/documents")

    def request(
        self,
        method: str,
        path: str,
        *,
        token: str = "owner",
        body: Any = None,
        seconds: float = 10,
    ) -> Any:
        """Return the JSON that a REST call is answered with.

        Args:
            method: HTTP method.
            path: Path with the leading slash.
            token: Bearer token; `owner` is an administrator, empty is nobody.
            body: Sent as JSON; None for none.
            seconds: How long the answer may take.

        Raises:
            urllib.error.HTTPError: The answer was no success.
        """
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"http://{self.host}{path}", data, method=method)
        request.add_header("Content-Type", "application/json")
        if token:
            request.add_header("Authorization", f"Bearer {token}")
        with urllib.request.urlopen(request, timeout=seconds) as answer:
            return json.load(answer)

    def _try(self) -> None:
        documents = f"projects/{PROJECT}/databases/{DATABASE}/documents"
        try:
            self.request("GET", f"/v1/{documents}/none/none")
        except urllib.error.HTTPError as error:
            if error.code != 404:
                raise
        # By hand, so that starting an emulator needs no client library: field 1, the name.
        name = f"{documents}/none/none".encode()
        with grpc.insecure_channel(self.host) as channel:
            get: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(
                "/google.firestore.v1.Firestore/GetDocument"
            )
            try:
                get(
                    b"\x0a" + bytes([len(name)]) + name,
                    timeout=10,
                    metadata=(("authorization", "Bearer owner"),),
                )
            except grpc.RpcError as error:
                if error.code() != grpc.StatusCode.NOT_FOUND:
                    raise

    def _end(self, number: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(number)
        # A paused one takes the signal when it goes on.
        process.send_signal(signal.SIGCONT)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextmanager
def emulator(folder: Path, *, rules: Path | None = None) -> Iterator[FirestoreEmulator]:
    """Run an emulator whose log is in a folder."""
    with FirestoreEmulator(log=folder / "firestore-emulator.log", rules=rules) as running:
        yield running
