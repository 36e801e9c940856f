"""What is in the repository: the files that git tracks or would track."""

from __future__ import annotations

import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def tracked() -> list[Path]:
    """Files that are tracked, or new and not ignored, relative to the root."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, check=True).stdout
    paths = [Path(name.decode()) for name in listed.split(b"\0") if name]
    return [path for path in paths if (ROOT / path).is_file()]


def modules() -> list[Path]:
    """Python modules among them."""
    return [path for path in tracked() if path.suffix == ".py"]
