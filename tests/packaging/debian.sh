#!/bin/sh
# The packages for Debian, made by CPack and installed into a bare Debian of the host's release, where nothing of what
# hsmseal is built with is present; in_bare_debian.sh says what happens there.
# shellcheck source=tests/packaging/common.sh
. "$(dirname "$0")/common.sh"
[ "$(id -u)" = 0 ] || fail "this needs root, to make a bare Debian: run ctest -L debian as root"
needs debootstrap debootstrap
needs dpkg-shlibdeps dpkg-dev
needs file file
# shellcheck source=/dev/null
suite=$(. /etc/os-release && echo "${VERSION_CODENAME:-}")
[ -n "$suite" ] || fail "/etc/os-release does not name a release of Debian"

quietly cmake -S "$source" -B "$work/debian" -G Ninja -DCMAKE_BUILD_TYPE=Release -DBUILD_SHARED_LIBS=ON \
  -DCMAKE_INSTALL_PREFIX=/usr -DCMAKE_SKIP_INSTALL_RPATH=ON -DHSMSEAL_BUILD_TESTS=OFF -DHSMSEAL_WERROR=ON
quietly cmake --build "$work/debian"
rm -rf "$work/packages"
mkdir "$work/packages"
quietly cpack --config "$work/debian/CPackConfig.cmake" -B "$work/packages"
rm -rf "$work/packages/_CPack_Packages"
for package in "libhsmseal$minor" libhsmseal-dev hsmseal-tools; do
  set -- "$work/packages/${package}"_*.deb
  [ -f "$1" ] || fail "cpack made no package $package"
  dpkg-deb --field "$1" Package Version Architecture Depends Installed-Size
done

sh "$source/cmake/debian_root.sh" make "$suite" "$work/root" g++ cmake make pkg-config softhsm2 >"$work/root.log" 2>&1 ||
  { tail -n 40 "$work/root.log" >&2; fail "no bare Debian could be made"; }
HSMSEAL_SOURCE=$source HSMSEAL_EXCHANGE=$work/packages \
  sh "$source/cmake/debian_root.sh" run "$work/root" sh /repository/tests/packaging/in_bare_debian.sh
