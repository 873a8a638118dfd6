#!/bin/sh
# An application that uses hsmseal: found, compiled, linked as promised, and run beside two SoftHSM tokens.
#
#   consume.sh find_package|pkg_config|add_subdirectory|fetch_content  static|shared  core|sql
#
# It is one of the examples: custom_key_wrapper for the core, quickstart for the component sql.
# shellcheck source=tests/packaging/common.sh
. "$(dirname "$0")/common.sh"
way=$1 linkage=$2 component=$3
needs readelf binutils
prefix=$work/$linkage

example=custom_key_wrapper packages="hsmseal fmt"
[ "$component" = core ] || example=quickstart packages=hsmseal-sql

case $way in
  pkg_config)
    needs pkg-config pkg-config
    folder=$work/$way-$linkage-$component
    mkdir -p "$folder"
    PKG_CONFIG_PATH=$prefix/lib/pkgconfig
    export PKG_CONFIG_PATH
    # shellcheck disable=SC2086 # lists of words
    flags=$(pkg-config --print-errors --cflags --libs $packages) || fail "pkg-config found no way to link $packages"
    # shellcheck disable=SC2086
    quietly $CXX -std=c++20 "$source/examples/$example.cpp" -o "$folder/consumer" $flags
    if [ "$linkage" = shared ]; then
      LD_LIBRARY_PATH=$prefix/lib
      export LD_LIBRARY_PATH
    fi
    ;;
  *)
    # Where hsmseal is built as a part of the application, all its cells share one folder, and with it the objects.
    folder=$work/$way-$linkage-$component
    [ "$way" = find_package ] || folder=$work/built_in
    shared=OFF
    [ "$linkage" = static ] || shared=ON
    quietly cmake -S "$source/tests/packaging/consumer" -B "$folder" -G Ninja -DCMAKE_BUILD_TYPE=Release -DWAY="$way" \
      -DVERSION="$minor" -DCOMPONENT="$component" -DHSMSEAL_SOURCE="$source" -DCMAKE_PREFIX_PATH="$prefix" -DBUILD_SHARED_LIBS=$shared \
      -DHSMSEAL_WERROR=ON
    quietly cmake --build "$folder"
    ;;
esac

linked=$(readelf -d "$folder/consumer" | sed -n 's/.*(NEEDED).*\[\(.*\)\]/\1/p')
case $linked in *libstdc++*) ;; *) fail "readelf shows nothing that the program is linked with" ;; esac
case $linkage:$(echo "$linked" | grep libhsmseal | sort | paste -s -d ' ') in
  "static:") ;;
  "shared:libhsmseal.so.$minor") [ "$component" = core ] || fail "linked without libhsmseal_sql" ;;
  "shared:libhsmseal.so.$minor libhsmseal_sql.so.$minor")
    [ "$component" = sql ] || fail "linked with libhsmseal_sql"
    ;;
  *) fail "the program is not linked as it should be with $linkage libraries: $linked" ;;
esac
sh "$source/examples/with_tokens.sh" "$folder/consumer"
