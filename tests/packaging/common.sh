# Read by the scripts beside it, which CTest runs with
#   HSMSEAL_SOURCE   the repository
#   HSMSEAL_WORK     where the packaging tests of this build work
#   CXX              the compiler of this build
# shellcheck shell=sh
set -eu
source=$HSMSEAL_SOURCE
work=$HSMSEAL_WORK
mkdir -p "$work"

fail() {
  echo "packaging: $*" >&2
  exit 1
}

needs() {
  command -v "$1" >/dev/null || fail "$1 is missing; on Debian and Ubuntu it is in the package $2"
}

# Runs a command whose output matters only if it fails.
quietly() {
  output=$("$@" 2>&1) || { echo "$output" >&2; fail "this failed: $*"; }
}

# The version, and its first two numbers, which are also the SONAME's.
version=$(sed -n 's/^#define HSMSEAL_VERSION_[A-Z]* \([0-9]*\)$/\1/p' "$source/include/hsmseal/version.hpp" | paste -s -d .)
# shellcheck disable=SC2034 # for those who read this file
minor=${version%.*}
