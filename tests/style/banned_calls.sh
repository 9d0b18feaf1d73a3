#!/usr/bin/env bash
# Calls that overflow, cannot report an error, or keep hidden state have better relatives.
set -uo pipefail
banned='strcpy|strcat|strncpy|sprintf|vsprintf|gets|atoi|atol|atoll|atof|strtok|gmtime|localtime|ctime|asctime|system|popen|tmpnam|rand|srand'
if git ls-files -z '*.c' '*.h' | xargs -0 grep -nE "(^|[^A-Za-z0-9_>.])($banned) *\(" | grep -vE ':[0-9]+: *(/\*|\*|//)'; then
  echo "banned calls: use snprintf, strtol, strsep, gmtime_r, pf_rand, ... instead" >&2
  exit 1
fi
echo "no banned call"
