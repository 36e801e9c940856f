"""Which agents a run has by default, and what the executor needs for real ones.

Does not know agents, nor the provider.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

from services.local.errors import StartError
from services.local.folder import DataFolder

Backend: TypeAlias = Literal["simulation", "process", "docker"]
"""Ways of running agents that a run can have by default."""

VARIABLE = "ANTHROPIC_API_KEY"
KEY = "model.key"
"""File of the data folder that holds the model provider's key."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Agents:
    """Which agents were asked for.

    Attributes:
        backend: How those run that name no backend.
        key_file: File with the model provider's key; None for none.
        upstream: Where the Messages API is; empty for the provider's own.
    """

    backend: Backend = "simulation"
    key_file: Path | None = None
    upstream: str = ""


def variables(agents: Agents, *, folder: DataFolder, environ: Mapping[str, str]) -> dict[str, str]:
    """Return what the executor is told; a key goes into the data folder, and nowhere else.

    Args:
        agents: Which ones were asked for.
        folder: Keeps the key; that of an earlier run is taken when there is no other.
        environ: This process's environment, which may hold a key.

    Raises:
        StartError: There is no key and one is needed, or its file cannot be read.
    """
    told: dict[str, str] = {"MOORLINE_DEFAULT_BACKEND": agents.backend}
    if agents.backend == "process":
        # Whoever chose it by name trusts the agents.
        told["MOORLINE_ALLOW_PROCESS"] = "true"
    if agents.upstream:
        told["MOORLINE_MODEL_UPSTREAM"] = agents.upstream
    real = agents.backend != "simulation"
    key = _read(agents.key_file) if agents.key_file else environ.get(VARIABLE, "").strip()
    # Nobody's key is taken for a run that does not ask for it.
    if key and (real or agents.key_file):
        folder.put(KEY, key + "\n")
    elif real and not folder.has(KEY):
        raise StartError(
            "Real agents need a key of the model provider. Try:"
            f"  {VARIABLE}=... make run BACKEND={agents.backend}"
            f"   or:  make run BACKEND={agents.backend} KEY_FILE=path"
        )
    if folder.has(KEY):
        told["MOORLINE_MODEL_KEY_FILE"] = str(folder.path / KEY)
    return told


def _read(file: Path) -> str:
    """Read a key.

    Raises:
        StartError: It cannot be read, or is empty.
    """
    try:
        key = file.read_text(errors="replace").strip()
    except OSError as error:
        raise StartError(f"The key file {file} cannot be read: {error.strerror}.") from error
    if not key:
        raise StartError(f"The key file {file} is empty.")
    return key
