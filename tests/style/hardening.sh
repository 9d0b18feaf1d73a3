#!/usr/bin/env bash
# Each program is loaded at a random address, has its tables of pointers read-only before it runs, and
# checks its stack.
# usage: hardening.sh BUILD-DIR
set -uo pipefail
build=$1 bad=0
programs=("$build"/bin/proxyfetch "$build"/bin/proxyfetch-{origin,orchestrator,executor,test-endpoints})
for program in "${programs[@]}"; do
  facts=$(readelf --wide --file-header --program-headers --dynamic --dyn-syms "$program") || exit 1
  for fact in 'Type: +DYN' 'GNU_RELRO' 'FLAGS_1.* NOW' '__stack_chk_fail'; do
    grep -qE "$fact" <<<"$facts" && continue
    echo "$program: no $fact" >&2
    bad=1
  done
  if grep -E 'GNU_STACK' <<<"$facts" | grep -q 'RWE'; then
    echo "$program: its stack can be executed" >&2
    bad=1
  fi
done
[ $bad -eq 0 ] && echo "${#programs[@]} programs"
exit $bad
