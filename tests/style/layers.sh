#!/usr/bin/env bash
# Each foreign header is visible in one layer only, and arrows between our layers point downwards.
set -uo pipefail
bad=0

# only HEADER PATTERN: files that may include <HEADER> match the pattern.
only() {
  local found
  found=$(git ls-files '*.c' '*.h' | xargs grep -lE "^ *# *include *[<\"]$1[>\"]" | grep -vE "^tests/|^bench/" | grep -vE "$2")
  if [ -n "$found" ]; then
    echo "<$1> belongs to ($2), but is included by:" $found >&2
    bad=1
  fi
}
only 'curl/.*'          '^lib/http/|^executor/'
only 'libwebsockets\.h' '^lib/web/(server|socket)\.c$'
only '(cjson/)?cJSON\.h' '^lib/wire/json\.c$'
only 'sqlite3\.h'       '^lib/store/|_(db|rows)\.[ch]$'

# no_uv FOLDER: pure layers know no loop.
for folder in lib/base lib/wire; do
  found=$(git ls-files "$folder" | grep -E '\.[ch]$' | xargs -r grep -lE '^ *# *include *<uv\.h>')
  [ -z "$found" ] || { echo "$folder is pure, but uv.h is included by:" $found >&2; bad=1; }
done

# What decides includes nothing of what acts.
found=$(git ls-files orchestrator | grep -E '/(queue|job|ready|lease|origins|effects|load|stats|retry|tombstone)\.[ch]$' |
  xargs -r grep -lE '^ *# *include *(<uv\.h>|"(http|loop|store|web)/)')
[ -z "$found" ] || { echo "the queue is pure, but a layer that acts is included by:" $found >&2; bad=1; }

# Layers of lib, lowest first; the number is the height.
declare -A height=([base]=0 [loop]=1 [wire]=1 [store]=2 [http]=2 [web]=2)
for folder in lib/*/; do
  layer=$(basename "$folder")
  own=${height[$layer]-}
  [ -n "$own" ] || { echo "lib/$layer has no place in the layers (tests/style/layers.sh)" >&2; bad=1; continue; }
  while IFS=: read -r file include; do
    used=${include%%/*}
    [ "$used" = "$layer" ] && continue
    if [ -z "${height[$used]-}" ] || [ "${height[$used]}" -ge "$own" ]; then
      echo "$file: lib/$layer may not include $include" >&2
      bad=1
    fi
  done < <(git ls-files "$folder" | grep -E '\.[ch]$' | xargs -r grep -HoE '^ *# *include *"[a-z_]+/[^"]+"' | sed -E 's/:[^"]*"/:/; s/"$//')
done

# Processes share lib/, nothing else.
for role in origin orchestrator executor test-endpoints clients; do
  others=$(printf '%s\n' origin orchestrator executor test-endpoints clients | grep -vx "$role" | paste -sd'|')
  found=$(git ls-files "$role" | grep -E '\.[ch]$' | xargs -r grep -nE "^ *# *include *\"($others)/")
  [ -z "$found" ] || { echo "$role includes another process: $found" >&2; bad=1; }
done

# The clients in C, lowest first.
lower=none
for folder in ws measure cli; do
  found=$(git ls-files "clients/$folder" | grep -E '\.[ch]$' | xargs -r grep -nE '^ *# *include *"clients/' |
    grep -vE "include *\"clients/($lower|$folder)/")
  [ -z "$found" ] || { echo "clients/$folder includes what is not below it: $found" >&2; bad=1; }
  lower="$lower|$folder"
done

[ $bad = 0 ] && echo "all includes respect the layers"
exit $bad
