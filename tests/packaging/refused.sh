#!/bin/sh
# find_package must fail, and say why:
#
#   refused.sh static|shared|core  MESSAGE  CMAKE_ARGUMENT...
#
# A consumer that is found under the same conditions but one is built by consume.sh.
# shellcheck source=tests/packaging/common.sh
. "$(dirname "$0")/common.sh"
kind=$1 message=$2
shift 2

folder=$(mktemp -d "$work/refused-XXXXXX")
trap 'rm -rf "$folder"' EXIT
if output=$(cmake -S "$source/tests/packaging/consumer" -B "$folder" -G Ninja -DWAY=find_package \
  -DHSMSEAL_SOURCE="$source" -DCMAKE_PREFIX_PATH="$work/$kind" "$@" 2>&1); then
  echo "$output" >&2
  fail "hsmseal was found"
fi
echo "$output"
echo "$output" | tr -s '\n ' ' ' | grep -qF "$message" || fail "the error does not say: $message"
