#!/bin/sh
# What the target lint runs: clang-format 14 over everything, clang-tidy 14 over all sources but those of Windows and the
# tests.
#
#   sh cmake/lint.sh BUILD   a configured build, which knows how each source is compiled
#   sh cmake/lint.sh         clang-format alone
set -eu
build=${1:+$(cd "$1" && pwd)}
cd "$(dirname "$0")/.."

for tool in clang-format-14 ${build:+clang-tidy-14}; do
  command -v $tool >/dev/null || { echo "lint: $tool is missing, install the package $tool" >&2; exit 1; }
done

# From here on $@ is what is looked at. No file's name has a blank in it.
# shellcheck disable=SC2046
set -- $(find include src tests examples -name '*.[ch]pp' -o -name '*.[ch]')
[ $# -gt 0 ] || { echo "lint: no file to look at" >&2; exit 1; }
clang-format-14 --dry-run -Werror "$@"
echo "lint: clang-format looked at $# files"
[ -n "$build" ] || exit 0

# shellcheck disable=SC2046
set -- $(find src examples -name '*.cpp' ! -name 'windows*')
for source in "$@"; do # clang-tidy would take the flags of another one
  grep -q "\"file\": \".*/$source\"" "$build/compile_commands.json" || {
    echo "lint: $source is not compiled in $build" >&2
    exit 1
  }
done
looked_at=$(mktemp)
commands=$(mktemp -d)
trap 'rm -rf "$looked_at" "$commands"' EXIT
# clang cannot read what g++ has precompiled. Every source includes by itself what it needs.
sed 's/-include [^ "]*cmake_pch\.hxx//' "$build/compile_commands.json" >"$commands/compile_commands.json"
found=0
# shellcheck disable=SC2016 # for the inner shell
printf '%s\n' "$@" | xargs -P "$(nproc)" -n 1 sh -c '
  output=$(clang-tidy-14 -p "$0" --quiet --extra-arg=-Wno-unknown-warning-option "$2" 2>&1) && echo "$2" >>"$1" && exit
  printf "%s\n" "$output"
  exit 1' "$commands" "$looked_at" || found=$?
echo "lint: clang-tidy found nothing in $(wc -l <"$looked_at") of $# files"
[ $found -eq 0 ] && [ "$(wc -l <"$looked_at")" -eq $# ]
