#!/bin/sh
# What is installed is what installed_files.txt lists, no more and no less, and no file knows where it was built:
#
#   files.sh static|shared|core
# shellcheck source=tests/packaging/common.sh
. "$(dirname "$0")/common.sh"
kind=$1

sed -n "s/^\([a-z,]*,\)*$kind\(,[a-z]*\)*  *//p" "$source/tests/packaging/installed_files.txt" |
  sed "s/@version@/$version/; s/@minor@/$minor/" | LC_ALL=C sort >"$work/$kind.expected"
(cd "$work/$kind" && find . ! -type d) | sed 's,^\./,,' | LC_ALL=C sort >"$work/$kind.found"
[ -s "$work/$kind.expected" ] || fail "installed_files.txt lists nothing for $kind"
for header in "$source"/include/hsmseal/*.hpp; do
  grep -q " include/hsmseal/${header##*/}$" "$source/tests/packaging/installed_files.txt" ||
    fail "installed_files.txt does not list ${header##*/}"
done
diff "$work/$kind.expected" "$work/$kind.found" >&2 || fail "other files are installed (>) than listed (<)"

text=$(grep -rlI . "$work/$kind" | wc -l)
[ "$text" -gt 20 ] || fail "only $text text files to look at"
if grep -rnIF -e "$work" -e "$source/include" -e "$source/src" -e "$source/cmake" "$work/$kind" >&2; then
  fail "an installed file names a folder of the build"
fi
