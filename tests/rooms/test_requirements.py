"""What is installed is pinned, by hash, and is what `pyproject.toml` asks for."""

from __future__ import annotations

import ast
import json
import re
import sys
import tomllib
from importlib.metadata import packages_distributions

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from services.executor.claude_code.frames import CLI_VERSION
from tests.rooms.tracked import ROOT, modules

FILES = ("run", "dev", "build", "node")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
ASKED = {
    "run": PROJECT["project"]["dependencies"],
    "dev": [*PROJECT["project"]["dependencies"], *PROJECT["dependency-groups"]["dev"]],
    "build": PROJECT["build-system"]["requires"],
}

SHARED = {
    "google.api_core": "google-api-core",
    "google.auth": "google-auth",
    "google.cloud.firestore_v1": "google-cloud-firestore",
    "google.protobuf": "protobuf",
    "google.rpc": "googleapis-common-protos",
}
"""Whose the modules are that lie under a name which many packages share."""


def entries(name: str) -> list[str]:
    """The requirements of a file, each with its hashes on one line."""
    text = (ROOT / "requirements" / f"{name}.txt").read_text()
    return [line for line in text.replace("\\\n", " ").splitlines() if line.strip()]


def pins(name: str) -> dict[str, str]:
    """Version of each package."""
    found: dict[str, str] = {}
    for entry in entries(name):
        match = re.match(r"([A-Za-z0-9._-]+)(?:\[[^]]*\])?==(\S+)", entry)
        assert match is not None, entry
        found[canonicalize_name(match[1])] = match[2]
    return found


@pytest.mark.parametrize("name", FILES)
def test_every_pin_has_hashes_and_no_address(name: str) -> None:
    """A package cannot be replaced unnoticed, and any mirror will do."""
    assert entries(name)
    for entry in entries(name):
        assert " --hash=sha256:" in entry
        assert "://" not in entry


@pytest.mark.parametrize("name", ASKED)
def test_what_is_asked_for_is_pinned(name: str) -> None:
    """A dependency that was added or raised is resolved anew with `make pins`."""
    pinned = pins(name)
    for requirement in map(Requirement, ASKED[name]):
        version = pinned[canonicalize_name(requirement.name)]

        assert requirement.specifier.contains(version), requirement


def test_all_files_agree() -> None:
    """The same package has the same version wherever it is pinned."""
    versions: dict[str, str] = {}
    for name in FILES:
        for package, version in pins(name).items():
            assert version == versions.setdefault(package, version), package


def test_what_the_product_imports_is_what_it_asks_for() -> None:
    """No dependency is used without being asked for, and none is asked for without use."""
    asked = {canonicalize_name(Requirement(each).name) for each in ASKED["run"]}
    provider = packages_distributions()
    used = {
        canonicalize_name(SHARED.get(module) or provider[module][0])
        for path in modules()
        if path.parts[0] in ("services", "moorline")
        for module in _imported((ROOT / path).read_text())
        if module not in sys.stdlib_module_names and module not in ("moorline", "services")
    }

    # What the generated API needs, and what `google.rpc` comes with.
    assert asked == used - {"googleapis-common-protos"} | {"protobuf"}


def test_the_agents_program_is_the_version_the_adapter_is_written_for() -> None:
    """By its exact version and by hash, from any mirror."""
    folder = ROOT / "services/executor/agent"
    asked = json.loads((folder / "package.json").read_text())["dependencies"]
    packages = json.loads((folder / "package-lock.json").read_text())["packages"]
    locked = {name: package for name, package in packages.items() if name}

    assert {"@anthropic-ai/claude-code": CLI_VERSION} == asked
    assert {CLI_VERSION} == {package["version"] for package in locked.values()}
    assert all(package["integrity"].startswith("sha512-") for package in locked.values())
    assert not any("resolved" in package for package in locked.values())


def _imported(source: str) -> set[str]:
    names = [
        name
        for node in ast.walk(ast.parse(source))
        for name in (
            [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else [node.module or ""]
            if isinstance(node, ast.ImportFrom)
            else []
        )
    ]
    return {_shared(name) or name.partition(".")[0] for name in names}


def _shared(name: str) -> str | None:
    """Return which part of a name that many packages share a module is in."""
    return next((part for part in SHARED if f"{name}.".startswith(f"{part}.")), None)
