"""Generates Python from the protos: a build hook, and `python protos/generate.py`.

Nothing generated is committed. The generator writes a minimum runtime version
into every file, so generated code belongs to an environment, not to a commit.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Any

try:
    from hatchling.builders.hooks.plugin.interface import BuildHookInterface
except ImportError:  # run as a script, where the build system is not installed
    BuildHookInterface = object  # type: ignore[assignment,misc]

ROOT = Path(__file__).resolve().parent.parent
PROTOS = ROOT / "protos"
BUILT_IN = ("python", "grpc_python")
PLUGINS = ("mypy", "mypy_grpc")


def generate() -> None:
    """Replace every `moorline/*/v1/` by code generated from `protos/`.

    Raises:
        SystemExit: `protoc` refused a file; it has said why on stderr.
    """
    import grpc_tools  # noqa: PLC0415 - absent where hatchling only asks what it needs
    from grpc_tools import protoc  # noqa: PLC0415

    sources = sorted(path.relative_to(PROTOS) for path in PROTOS.rglob("*.proto"))
    for folder in {source.parent for source in sources}:
        shutil.rmtree(ROOT / folder, ignore_errors=True)
    arguments = [
        "protoc",
        f"--proto_path={PROTOS}",
        f"--proto_path={Path(grpc_tools.__file__).parent / '_proto'}",
        *(f"--plugin=protoc-gen-{name}={_executable(name)}" for name in PLUGINS),
        *(f"--{name}_out=quiet:{ROOT}" for name in PLUGINS),
        *(f"--{name}_out={ROOT}" for name in BUILT_IN),
        *map(str, sources),
    ]
    if protoc.main(arguments) != 0:
        sys.exit("protoc failed")
    for folder in {source.parent for source in sources}:
        # A package like any other, so that the rules of imports see what is in it.
        (ROOT / folder / "__init__.py").touch()


def _executable(name: str) -> str:
    """Where a plugin is: beside this Python, else on the path of an isolated build."""
    beside = Path(sys.executable).with_name(f"protoc-gen-{name}")
    return str(beside) if beside.exists() else shutil.which(beside.name) or beside.name


class CustomBuildHook(BuildHookInterface):  # type: ignore[type-arg]
    """Runs `generate` before a wheel or an editable install is made."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:  # noqa: ARG002
        """Called by hatchling; its arguments are not used."""
        generate()


if __name__ == "__main__":
    generate()
