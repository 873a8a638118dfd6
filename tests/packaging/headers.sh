#!/bin/sh
# Every installed header compiles alone, without a warning:
#
#   headers.sh INCLUDE_FOLDER
set -eu
folder=$1

headers=0
for header in "$folder"/hsmseal/*.hpp; do
  echo "#include <hsmseal/${header##*/}>" |
    ${CXX:-c++} -std=c++20 -Wall -Wextra -Wconversion -Wshadow -Werror -fsyntax-only -I "$folder" -x c++ - ||
    { echo "packaging: $header does not compile alone" >&2; exit 1; }
  headers=$((headers + 1))
done
[ "$headers" -gt 20 ] || { echo "packaging: only $headers headers are in $folder/hsmseal" >&2; exit 1; }
echo "$headers headers compile alone"
