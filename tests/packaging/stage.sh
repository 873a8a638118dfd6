#!/bin/sh
# Builds and installs hsmseal as a packager does, then moves what was installed, as everything must work elsewhere too:
#
#   stage.sh static|shared|core    core is shared, without the component sql; the operator's tool comes with shared alone
#
# The objects are the same for all three, so that one build folder serves them.
# shellcheck source=tests/packaging/common.sh
. "$(dirname "$0")/common.sh"
kind=$1

shared=ON sql=ON tool=OFF
case $kind in
  static) shared=OFF ;;
  shared) tool=ON ;;
  core) sql=OFF ;;
esac

rm -rf "${work:?}/$kind" "$work/made"
quietly cmake -S "$source" -B "$work/staged" -G Ninja -DCMAKE_BUILD_TYPE=Release -DBUILD_SHARED_LIBS=$shared \
  -DHSMSEAL_WITH_SQL=$sql -DHSMSEAL_BUILD_TESTS=OFF -DHSMSEAL_BUILD_EXAMPLES=$tool -DHSMSEAL_WERROR=ON \
  -DCMAKE_INSTALL_PREFIX="$work/made" -DCMAKE_INSTALL_LIBDIR=lib
quietly cmake --build "$work/staged"
quietly cmake --install "$work/staged"
mv "$work/made" "$work/$kind"
