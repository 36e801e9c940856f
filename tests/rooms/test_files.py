"""Which files there are, and what none of them may hold."""

from __future__ import annotations

import ast
import re

import pytest

from tests.rooms.tracked import ROOT, modules, tracked

TOP_LEVEL = {
    ".ci",
    ".gitignore",
    ".npmrc",
    "CHANGELOG.md",
    "LICENSE",
    "Makefile",
    "README.ko.md",
    "README.md",
    "buf.yaml",
    "docs",
    "examples",
    "moorline",
    "package-lock.json",
    "package.json",
    "protos",
    "pyproject.toml",
    "requirements",
    "services",
    "tests",
}

GENERATED = re.compile(r"_pb2(_grpc)?\.pyi?$|node_modules/|/vendor/|\.egg-info")

# Written with classes of one letter, so that the patterns do not find themselves.
MACHINE = re.compile(
    rb"(?<![\w.-])/(wor[k]|far[m])/(main|steering|in|shared|\.)|bash_job[s]"
    rb"|://[a-z.-]*(py[p]i|np[m]js|pythonhoste[d]|debia[n]|golan[g])"
)

LINES = 400

READS_ENVIRONMENT = (
    "__main__.py",
    "moorline/cli/main.py",
    "moorline/contexts.py",
    # Sets what gRPC reads, and has no other place to.
    "services/__init__.py",
)


def test_the_top_level_is_the_required_list() -> None:
    """A newcomer sees the same few names, and no notes of whoever worked here."""
    assert set() == {path.parts[0] for path in tracked()} - TOP_LEVEL


def test_nothing_generated_is_tracked() -> None:
    """Generated and third-party files come from the build."""
    assert [] == [path for path in tracked() if GENERATED.search(path.as_posix())]


def test_no_file_names_a_registry_or_a_machine() -> None:
    """The repository can be moved to any machine and any mirror."""
    found = [
        f"{path}: {match.group().decode()}"
        for path in tracked()
        for match in [MACHINE.search((ROOT / path).read_bytes())]
        if match
    ]

    assert [] == found


@pytest.mark.parametrize("text", [b"/wor" + b"k/main/x", b"https://py" + b"pi.org/simple"])
def test_the_check_for_machines_would_find_one(text: bytes) -> None:
    """The pattern of the test above is not empty."""
    assert MACHINE.search(text)


def test_modules_are_short_enough_to_read() -> None:
    """A file has one job; one that grows beyond this has two."""
    scripts = [path for path in tracked() if path.suffix in (".py", ".js")]
    lengths = {path: len((ROOT / path).read_text().splitlines()) for path in scripts}

    assert {} == {str(path): length for path, length in lengths.items() if length > LINES}


def test_every_module_postpones_its_annotations() -> None:
    """Classes of grpc cannot be subscripted at run time."""
    wanted = "from __future__ import annotations"
    missing = [
        str(path)
        for path in modules()
        if path.name != "__init__.py" and wanted not in (ROOT / path).read_text()
    ]

    assert [] == missing


def test_only_programs_read_the_environment() -> None:
    """Everything else is told what it needs by its constructor."""
    readers = [
        str(path)
        for path in modules()
        if path.parts[0] in ("services", "moorline")
        and not path.as_posix().endswith(READS_ENVIRONMENT)
        and _reads_environment((ROOT / path).read_text())
    ]

    assert [] == readers


def _reads_environment(source: str) -> bool:
    return any(
        isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and node.value.id == "os"
        and node.attr in ("environ", "environb", "getenv")
        for node in ast.walk(ast.parse(source))
    )
