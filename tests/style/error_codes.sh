#!/usr/bin/env bash
# docs/errors.md has a row for each code with which a message or a call is refused, and no others.
# (The test endpoints fail on purpose and have a page of their own.)
set -uo pipefail
bad=0
sources=$(git ls-files 'origin/*.c' 'orchestrator/*.c' 'executor/*.c' 'lib/web/*.c' lib/wire/client.c)

# The literals in calls that refuse and in refusals, and those of functions and tables that choose a
# code.
answered=$({
  cat $sources | tr '\n' ' ' | grep -oE '((refuse|respond_error|queries_error|send_error)\(|struct refusal\)\{)[^;]*;'
  grep -hE 'return err == PF_E.*\?.*:' origin/classes/*.c
  sed -n '/^static const char bad_json/,/;/p' lib/wire/client.c
} | grep -oE '"[a-z]+(_[a-z]+)*"' | tr -d '"' | sort -u)
listed=$(sed '1,/^## What a client is told/d' docs/errors.md |
  sed -nE 's/^\| ([0-9]+ \| )?`([a-z_]+)`.*/\2/p' | sort -u)

for code in $(comm -23 <(echo "$answered") <(echo "$listed")); do
  echo "docs/errors.md lacks $code" >&2
  bad=1
done
for code in $(comm -13 <(echo "$answered") <(echo "$listed")); do
  echo "docs/errors.md lists $code, which nobody answers" >&2
  bad=1
done
[ "$(wc -w <<<"$answered")" -gt 30 ] || { echo "found too few codes in the sources" >&2; bad=1; }
exit $bad
