#!/bin/sh
# From a bare machine to a running hsmseal:
#
#   sh cmake/setup.sh demo       builds a password vault, and shows its four rules over two SoftHSM tokens
#   sh cmake/setup.sh tool       builds the operator's tool, build/examples/hsmseal
#   sh cmake/setup.sh test       builds, then runs the tests
#   sh cmake/setup.sh build      builds only
#   sh cmake/setup.sh deps       installs what test needs, and nothing else
#
# and for those who change it, each in a build of its own:
#
#   sh cmake/setup.sh soak       test's long ones at full length: hundreds of kills, an hour of faults, a million rows
#   sh cmake/setup.sh bench      how fast hsmseal is against token and cipher, and how it scales; no test
#   sh cmake/setup.sh docs       the reference of the public headers, where a warning is an error
#   sh cmake/setup.sh lint       clang-format and clang-tidy
#   sh cmake/setup.sh asan       clang with AddressSanitizer and UndefinedBehaviorSanitizer
#   sh cmake/setup.sh tsan       ThreadSanitizer
#   sh cmake/setup.sh clang      what clang builds is installed, and consumed by other projects
#   sh cmake/setup.sh debian13   g++ 14, Botan 3, Catch2 3 in a Debian 13 made for it; needs root
#   sh cmake/setup.sh packages   Debian's packages, installed into a bare Debian made for it; needs root
#   sh cmake/setup.sh format     clang-format alone
#   sh cmake/setup.sh matrix13   of debian13 the matrix of tokens alone, with openCryptoki 3.23; needs root
#   sh cmake/setup.sh ci         what CI runs before a change lands: test, docs, format and matrix13
#   sh cmake/setup.sh all        test and all of these but soak and bench
#
# On Debian and Ubuntu it installs the packages that are missing, as root or with sudo; apt-get is not called when none
# is, so that it works without a network then. Elsewhere it says what is needed and goes on if the tools are there.
#
#   HSMSEAL_BUILD_DIR=build     where to build, seen from the repository
#   HSMSEAL_REQUIRE_ALL=1       a compiler warning fails the build, too (for CI); no test is ever skipped
set -eu

# The goals as the lines above tell them.
usage() {
  echo "usage:"
  sed -n 's/^#   sh cmake/  sh cmake/p' "$0"
}

goal=${1:-}
[ $# -le 1 ] || goal=
case $goal in
  demo) stages="deps configure build demo" ;;
  tool) stages="deps configure build" ;;
  test) stages="deps configure build test" ;;
  build) stages="deps configure build" ;;
  deps) stages="deps" ;;
  soak) stages="deps configure build soak" ;;
  bench) stages="deps bench" ;;
  docs | lint) stages="deps configure $goal" ;;
  debian13 | matrix13 | packages) stages="deps configure $goal" ;;
  asan | tsan | clang) stages="deps $goal" ;;
  format) stages="deps format" ;;
  ci) stages="deps configure build test docs format matrix13" ;;
  all) stages="deps configure build test docs lint asan tsan clang debian13 packages" ;;
  -h | --help) usage; exit 0 ;;
  *) usage >&2; exit 2 ;;
esac

cd "$(dirname "$0")/.."
build=${HSMSEAL_BUILD_DIR:-build}
cores=$(nproc 2>/dev/null || getconf _NPROCESSORS_ONLN 2>/dev/null || echo 2)
if [ "${HSMSEAL_REQUIRE_ALL:-}" = 1 ]; then strict=ON; else strict=OFF; fi

# ---- stages: what runs now, and at the end how long each took ------------------------------------------------------

now=none
times=

stage() {
  now=$1
  begin=$(date +%s)
  echo "== $now"
  "stage_$now"
  times="$times
stage $now $(($(date +%s) - begin)) s"
  now=none
}

report() {
  code=$?
  trap - EXIT
  with_cluster || echo "could not take back $cluster_conf" >&2
  [ -z "$log" ] || rm -f "$log"
  echo "$times"
  [ "$now" = none ] || echo "stage $now failed after $(($(date +%s) - begin)) s"
  exit "$code"
}

# Runs a command whose output matters only if it fails.
quietly() {
  "$@" >"$log" 2>&1 && return
  tail -n 40 "$log" >&2
  echo "failed: $*" >&2
  exit 1
}

# ---- packages ------------------------------------------------------------------------------------------------------

library_packages="g++ cmake ninja-build pkg-config libfmt-dev libp11-kit-dev nlohmann-json3-dev libcli11-dev softhsm2
  libsoci-dev libboost-dev libpq-dev libsqlite3-dev unixodbc-dev"
test_packages="catch2 opensc python3 python3-cryptography"
packages=$library_packages
case $goal in demo | tool) tested= ;; *) tested=yes ;; esac
[ -z "$tested" ] || packages="$packages $test_packages opencryptoki git postgresql odbc-postgresql libsqliteodbc"
for one in $stages; do
  case $one in
    docs) packages="$packages doxygen" ;;
    format) packages="$packages clang-format-14" ;;
    lint) packages="$packages clang-format-14 clang-tidy-14" ;;
    asan) packages="$packages clang-14 libclang-rt-14-dev" ;;
    clang) packages="$packages clang-14" ;;
    debian13 | matrix13) packages="$packages debootstrap" ;;
    packages) packages="$packages debootstrap dpkg-dev file" ;;
  esac
done

has_package() {
  [ "$(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null)" = installed ]
}

stage_deps() {
  if ! command -v dpkg-query >/dev/null || ! command -v apt-get >/dev/null; then
    check_tools
    return
  fi
  missing=
  for package in $packages; do
    has_package "$package" || missing="$missing $package"
  done
  if ! has_package libbotan-2-dev && ! has_package libbotan-3-dev; then
    missing="$missing libbotan-dev"
  fi
  if [ -z "$missing" ]; then
    echo "nothing is missing"
    return
  fi
  sudo=
  if [ "$(id -u)" -ne 0 ]; then
    sudo=sudo
    command -v sudo >/dev/null || {
      echo "missing:$missing" >&2
      echo "Installing needs root, and there is no sudo. As root, run: sh cmake/setup.sh deps" >&2
      exit 1
    }
  fi
  quietly $sudo apt-get -q update
  case $missing in
    *" libbotan-dev")
      botan=libbotan-2-dev
      [ -n "$(apt-cache show $botan 2>/dev/null)" ] || botan=libbotan-3-dev
      missing="${missing% libbotan-dev} $botan"
      ;;
  esac
  echo "installing$missing"
  case "$missing " in *" postgresql "*) without_cluster ;; esac
  # shellcheck disable=SC2086 # a list of words
  quietly $sudo env DEBIAN_FRONTEND=noninteractive UCF_FORCE_CONFFOLD=1 \
    apt-get -q install -y --no-install-recommends $missing
  with_cluster
}

# PostgreSQL's package makes a database cluster and starts it. The tests start servers of their own, so it is told not
# to for this one time, whether installing succeeds or not; what is there already is left alone.
cluster_conf=/etc/postgresql-common/createcluster.conf
cluster_conf_of_package=/usr/share/postgresql-common/createcluster.conf
cluster_conf_is_ours=

without_cluster() {
  [ ! -e $cluster_conf ] || return 0
  cluster_conf_is_ours=yes
  # shellcheck disable=SC2086 # sudo, or nothing
  quietly $sudo sh -c "mkdir -p ${cluster_conf%/*} && echo 'create_main_cluster = false' > $cluster_conf"
}

with_cluster() {
  [ -n "$cluster_conf_is_ours" ] || return 0
  cluster_conf_is_ours=
  if [ -e $cluster_conf_of_package ]; then
    $sudo cp $cluster_conf_of_package $cluster_conf
  else # the package did not come
    $sudo rm -f $cluster_conf
    $sudo rmdir "${cluster_conf%/*}" 2>/dev/null || :
  fi
}

check_tools() {
  echo "This is neither Debian nor Ubuntu, so nothing is installed. hsmseal needs a C++20 compiler, CMake 3.24, Ninja,"
  echo "pkg-config, the development files of Botan 2.19 or 3, fmt, p11-kit, nlohmann-json, CLI11, SOCI 4.0, Boost, libpq,"
  echo "SQLite and unixODBC, and SoftHSM 2;"
  [ -z "$tested" ] || echo "its tests also Catch2, OpenSC's pkcs11-tool, Python 3 with cryptography, git, PostgreSQL"
  [ -z "$tested" ] || echo "below /usr/lib/postgresql, and the ODBC drivers of PostgreSQL and SQLite."
  tools="cmake ninja pkg-config softhsm2-util"
  [ -z "$tested" ] || tools="$tools pkcs11-tool python3 git"
  for tool in $tools; do
    command -v "$tool" >/dev/null || { echo "missing: $tool" >&2; exit 1; }
  done
}

# ---- build and run -------------------------------------------------------------------------------------------------

# Configures a build: configure FOLDER CMAKE_ARGUMENT...
configure() {
  folder=$1
  shift
  quietly cmake -S . -B "$folder" -G Ninja -DHSMSEAL_WERROR=$strict "$@"
}

stage_configure() {
  set -- -DCMAKE_BUILD_TYPE=Release
  if [ -n "$tested" ]; then
    set -- "$@" -DHSMSEAL_BUILD_TESTS=ON
  elif [ ! -f "$build/CMakeCache.txt" ]; then
    set -- "$@" -DHSMSEAL_BUILD_TESTS=OFF
  fi
  configure "$build" "$@"
}

stage_build() {
  case $goal in
    demo) cmake --build "$build" --parallel "$cores" --target vault ;;
    tool) cmake --build "$build" --parallel "$cores" --target hsmseal_tool ;;
    *) cmake --build "$build" --parallel "$cores" ;;
  esac
}

# Runs tests of a build: tests FOLDER CTEST_ARGUMENT...
# They start databases and daemons, on a machine that others may be using: one that fails is run once more, and both runs
# are shown.
tests() {
  folder=$1
  shift
  ctest --test-dir "$folder" --output-on-failure --repeat until-pass:2 --no-tests=error -j "$cores" "$@"
}

stage_demo() { sh examples/vault/demo.sh "$build/examples/vault"; }
# The matrix of tokens has a table to show.
stage_test() {
  tests "$build" -LE "debian|matrix|long"
  ctest --test-dir "$build" --verbose --no-tests=error -L matrix
}
stage_soak() { HSMSEAL_SOAK=1 ctest --test-dir "$build" --verbose --no-tests=error -L "soak|long"; }

# Ratios of one run: times on a shared machine say little by themselves.
stage_bench() {
  configure "$build/bench" -DCMAKE_BUILD_TYPE=Release -DHSMSEAL_BUILD_BENCHMARKS=ON
  cmake --build "$build/bench" --parallel "$cores" --target speed_bench stream_bench growth_bench
  figures=$(cd "$build" && pwd)/bench.json
  rm -f "$figures"
  for program in speed_bench stream_bench; do
    sh examples/with_tokens.sh "$build/bench/tests/$program" "$figures"
  done
  "$build/bench/tests/growth_bench" "$figures"
  echo "$figures"
}

stage_docs() { cmake --build "$build" --target docs; }
stage_format() { sh cmake/lint.sh; }
stage_lint() { cmake --build "$build" --target lint; }

# The sanitizers leave out what would take them minutes: three hundred stories of hosts, and, for threads, tests that
# change one thing after another, with no thread beside them that matters.
long="whatever hosts do in whatever order"
single_threaded="in which any one thing was changed|whatever was changed|altered ring record|cut anywhere|with a hole"
single_threaded="$single_threaded|beginning is lost|no byte of an exported|beginnings of many sets|very many former keys"
single_threaded="$single_threaded|exchanged, dropped or altered|knows an old key|counts as UTF-8|64 MiB|damaged pin file"
single_threaded="$single_threaded|history has the last|would not have written is read|body comes back|put into the database"
single_threaded="$single_threaded|first record may have|database would change|connection breaks|killed leaves the old"

# Other processes than the one that is looked at, or a driver that brings its own.
other_processes="processes that start at once|openCryptoki"

# The programs of the labels unit, token and fault.
test_programs="hsmseal_unit_tests hsmseal_token_tests hsmseal_fault_tests interchange quickstart custom_key_wrapper
  pkcs11_session vault"

# Builds with a sanitizer and runs unit, token, fault and store: sanitized FOLDER LEFT_OUT CMAKE_ARGUMENT...
sanitized() {
  folder=$1
  left_out=$2
  shift 2
  configure "$folder" -DCMAKE_BUILD_TYPE=Debug -DCMAKE_CXX_FLAGS_DEBUG=-g1 "$@"
  # shellcheck disable=SC2086 # a list of words
  cmake --build "$folder" --parallel "$cores" --target $test_programs hsmseal_store_tests hsmseal_postgres_fixture
  tests "$folder" -L "unit|token|fault|store" -E "$left_out|$other_processes"
}

stage_asan() { sanitized "$build/asan" "$long" -DCMAKE_CXX_COMPILER=clang++-14 -DHSMSEAL_SANITIZE=address; }
# ThreadSanitizer ends a child of a process with threads.
forks="F28|[Ff]ork|child"

stage_tsan() { sanitized "$build/tsan" "$long|$single_threaded|$forks" -DHSMSEAL_SANITIZE=thread; }

# The tests of packaging build what they need.
stage_clang() {
  configure "$build/clang" -DCMAKE_BUILD_TYPE=Release -DCMAKE_CXX_COMPILER=clang++-14
  tests "$build/clang" -L packaging
}

stage_packages() { tests "$build" -L debian; }

# Runs a command in the Debian 13: the repository is /repository there, and the build /build.
in_debian13() { HSMSEAL_SOURCE=. HSMSEAL_EXCHANGE="$build/exchange" sh cmake/debian_root.sh run "$build/debian13" "$@"; }

# Makes the Debian 13, configures hsmseal in it and builds targets: build_in_debian13 TARGET...
build_in_debian13() {
  # shellcheck disable=SC2086 # lists of words
  quietly sh cmake/debian_root.sh make trixie "$build/debian13" $library_packages $test_packages libbotan-3-dev \
    opencryptoki
  rm -rf "$build/exchange"
  mkdir "$build/exchange"
  quietly in_debian13 cmake -S /repository -B /build -G Ninja -DCMAKE_BUILD_TYPE=Release -DHSMSEAL_WERROR=$strict
  in_debian13 cmake --build /build --parallel "$cores" --target "$@"
}

stage_matrix13() {
  build_in_debian13 hsmseal_matrix_tests
  in_debian13 ctest --test-dir /build --verbose --no-tests=error -L matrix
}

# Besides building and testing there, the tool beside that openCryptoki: what one build made opens in the other, both ways.
stage_debian13() {
  # shellcheck disable=SC2086 # a list of words
  build_in_debian13 $test_programs hsmseal_matrix_tests hsmseal_cli_tests
  in_debian13 ctest --test-dir /build -L "unit|token|fault|packaging" -E "$long" --output-on-failure --no-tests=error \
    -j "$cores"
  in_debian13 ctest --test-dir /build -L cli -R openCryptoki --output-on-failure --no-tests=error
  in_debian13 ctest --test-dir /build --verbose --no-tests=error -L matrix

  cmake --build "$build" --parallel "$cores" --target interchange
  program=tests/packaging/interchange/interchange
  "$build/$program" make "$build/exchange/from-here"
  in_debian13 "/build/$program" check /exchange/from-here
  in_debian13 "/build/$program" make /exchange/from-13
  "$build/$program" check "$build/exchange/from-13"
}

log=
trap report EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
log=$(mktemp)

for one in $stages; do
  stage "$one"
done
