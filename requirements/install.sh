#!/bin/sh
# Puts pinned requirements into the virtual environment $VENV, making it first:
#   VENV=.venv sh requirements/install.sh run build
# With uv when it is on the path, else with the newest Python >= 3.11 and pip.
# Exit 2 says that this machine lacks something, and how to get it.
set -eu
here=$(dirname "$0")
python=$VENV/bin/python

tell() { echo "Setting up $VENV (once, about half a minute) ..." >&2; }
stop() { printf '%s\n' "$@" >&2; exit 2; }

# Prints the newest Python that is new enough. A name on the path is no proof: a
# version switcher's shim is there for versions it then refuses to run.
newest_python() {
  for name in ${PYTHON:-python3.15 python3.14 python3.13 python3.12 python3.11 python3}; do
    if "$name" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then
      command -v "$name"
      return
    fi
  done
  stop "Moorline needs Python 3.11 or newer; found: $(python3 --version 2>&1 || echo none)." \
    '  Debian, Ubuntu:  sudo apt-get install -y python3 python3-venv' \
    '  macOS:           brew install python' \
    '  Another place:   make run PYTHON=/path/to/python3.12' \
    '  Or install uv, which brings its own Python.'
}

make_with_pip() {
  found=$(newest_python)
  "$found" -c 'import venv, ensurepip' 2>/dev/null || stop "$found has no venv module." \
    "  Debian, Ubuntu:  sudo apt-get install -y $("$found" -c 'import sys; print("python3.%d-venv" % sys.version_info[1])')"
  tell
  "$found" -m venv --clear "$VENV"
}

if ! "$python" -c '' 2>/dev/null; then
  if command -v uv >/dev/null 2>&1; then
    tell
    uv venv --quiet --clear --seed --python "${PYTHON:->=3.11}" "$VENV"
  else
    make_with_pip
  fi
fi

for name in "$@"; do
  if [ "$name" = . ]; then
    set -- --no-deps --no-build-isolation --editable .
  else
    set -- --require-hashes --requirement "$here/$name.txt"
  fi
  if command -v uv >/dev/null 2>&1; then
    uv pip install --quiet --python "$python" "$@"
  else
    "$python" -m pip install -qq --disable-pip-version-check "$@"
  fi
done
