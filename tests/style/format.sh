#!/usr/bin/env bash
# clang-format decides the layout, so that nobody has to: `clang-format -i FILE` mends a file.
set -uo pipefail
found=$(git ls-files -z '*.c' '*.h' | xargs -0 -n 8 -P 2 clang-format --dry-run -Werror 2>&1 |
  sed -nE 's/^([^:]+):[0-9]+:[0-9]+: error: .*/\1/p' | sort -u)
if [ -n "$found" ]; then
  echo "not formatted:" $found >&2
  exit 1
fi
echo "all files are formatted"
