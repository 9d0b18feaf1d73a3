#!/usr/bin/env bash
# No object file of lib/ or of a process has writable globals, so that a second loop or shard needs
# nothing but a second struct. lib/base/fault.c counts hits of crash points, in test builds only.
# usage: globals.sh BUILD-DIR
set -uo pipefail
build=$1
mapfile -t objects < <(cd "$build" && find lib origin orchestrator executor test-endpoints clients \
  -name '*.o' ! -name 'fault.c.o' 2>/dev/null)
if [ ${#objects[@]} -lt 10 ]; then
  echo "only ${#objects[@]} object files in $build: built?" >&2
  exit 1
fi
# Constant tables of pointers live in .data.rel.ro, which is read-only once the program runs.
found=$(cd "$build" && nm -A --format=sysv "${objects[@]}" |
  grep -E '\|(\.data|\.bss|\.tdata|\.tbss)(\.[^|]*)?$' | grep -vE '\|\.data\.rel\.ro(\.[^|]*)?$' |
  grep -E '\| *OBJECT|\| *TLS|COMMON')
if [ -n "$found" ]; then
  echo "writable globals:" >&2
  echo "$found" >&2
  exit 1
fi
echo "no writable globals in ${#objects[@]} object files"
