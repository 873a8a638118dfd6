#!/bin/sh
# What the libraries show and what they call:
#
#   libraries.sh static|shared
#
# Only names of hsmseal, of shared libraries not its private ones; nothing that ends the process or prints.
# shellcheck source=tests/packaging/common.sh
. "$(dirname "$0")/common.sh"
kind=$1
needs nm binutils

suffix=a
[ "$kind" = static ] || suffix=so
ours='((typeinfo|typeinfo name|vtable|VTT|guard variable) for )?hsmseal::'
banned='abort|exit|_exit|_Exit|quick_exit|__assert_fail|puts|putchar|fputs|perror|syslog|v?f?d?printf|__v?f?d?printf_chk'
banned="$banned|stdout|stderr|fwrite|fputc|putc|_ZSt[45]w?(cout|cerr|clog)"
banned="$banned|_ZN3fmt.*[0-9]v?print(f|_mojibake)?E.*"

for library in hsmseal hsmseal_sql; do
  file=$work/$kind/lib/lib$library.$suffix
  [ -f "$file" ] || fail "there is no $file to look at"
  # Weak names in an archive are what every program that uses the same templates has, too.
  case $kind in
    static) nm -g --defined-only "$file" | sed -n 's/^[0-9a-f]* [TDBRGSC] //p' ;;
    shared) nm -D --defined-only "$file" | sed -n 's/^[0-9a-f]* . //p' ;;
  esac | sed 's/@.*//' | LC_ALL=C sort -u | c++filt >"$work/$library.$kind.shown"
  shown=$(wc -l <"$work/$library.$kind.shown")
  [ "$shown" -gt 0 ] || fail "$file shows no name: nothing was looked at"
  if grep -vE "^$ours" "$work/$library.$kind.shown" >&2; then
    fail "$file shows names that are not hsmseal's"
  fi
  # Public names are directly in hsmseal:: or in a class; a namespace within is private.
  if [ "$kind" = shared ] && grep -E "^${ours}[a-z_0-9]+::" "$work/$library.$kind.shown" >&2; then
    fail "$file shows private names"
  fi

  nm -u "$file" | sed -n 's/^ *[Uw] //p' | sed 's/@.*//' | sort -u >"$work/$library.$kind.called"
  grep -q '^_Znwm$' "$work/$library.$kind.called" || fail "$file does not call operator new: nothing was looked at"
  if grep -xE "$banned" "$work/$library.$kind.called" >&2; then
    fail "$file calls what ends the process or prints"
  fi
  echo "$file: $shown names shown, $(wc -l <"$work/$library.$kind.called") called"
done
