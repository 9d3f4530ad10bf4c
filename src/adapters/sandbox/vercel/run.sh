#!/bin/sh
# Starts one command of a sandbox, in the project folder:
#   run NAME TIMEOUT_MS STDIN STDOUT PROGRAM [ARGUMENT...]
# The service reads NAME and TIMEOUT_MS in the list of commands; STDOUT is a file, or - for none.
stdin=$3 stdout=$4
shift 4
HOME=$(cd ../home && pwd) || exit 126
PATH="$HOME/.local/bin:$PATH"
LANG=C.UTF-8
TMPDIR=/tmp
export HOME PATH LANG TMPDIR
if [ "$stdout" != - ]; then
  # Never through a link that somebody has put there.
  rm -f -- "$stdout"
  exec >"$stdout" || exit 126
fi
exec "$@" <"$stdin"
