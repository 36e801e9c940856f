#!/bin/bash
# Runs one shell command of an agent with a limit on processes, so that a fork bomb ends as a
# failed command. The limit counts everything of this user, and the kernel tells no cheaper
# bound of that than how many there are at all. It does not bind root.
if read -r _ _ _ tasks _ 2>/dev/null </proc/loadavg; then
  ulimit -S -u $((${tasks#*/} + ${MOORLINE_SHELL_PROCESSES:-200})) 2>/dev/null
fi
exec /bin/bash -c "$1"
