#!/bin/sh
# A small Debian of another release in a folder, to build and test hsmseal in. Needs root, debootstrap and unshare:
#
#   sh cmake/debian_root.sh make SUITE FOLDER [PACKAGE...]     makes it: bookworm or trixie, with these packages
#   sh cmake/debian_root.sh run FOLDER COMMAND [ARGUMENT...]   runs a command in it, and returns its exit code
#
# `make` does nothing if FOLDER holds just that, and starts anew if it was interrupted or the packages are others. The
# mirrors, proxies and certificates are the host's. `run` gives the command a clean environment, in / of the root, with
#
#   HSMSEAL_SOURCE=.           a folder that it sees as /repository and cannot write
#   HSMSEAL_EXCHANGE=folder    a folder that it sees as /exchange, to read and write
#   HSMSEAL_...                all others as they are
#
# The host's own view of its files has none of the mounts, and what the command started ends with it.
set -eu
umask 022

die() {
  echo "debian_root.sh: $*" >&2
  exit 1
}

usage() {
  echo "usage:"
  sed -n 's/^#   sh cmake/  sh cmake/p' "$0"
}

# ---- mounts and processes of its own -------------------------------------------------------------------------------

# Goes on with another goal where mounts and processes end with the first process, and returns its exit code.
apart() {
  # In the background, because a shell that waits for a program in the foreground does not see signals. What is ignored
  # in the background is not to be ignored by the command.
  exec 3<&0
  env --default-signal=INT,QUIT unshare --mount --pid --fork --kill-child --mount-proc sh "$0" "$@" <&3 3<&- &
  child=$!
  exec 3<&-
  trap 'stop 129' HUP
  trap 'stop 130' INT
  trap 'stop 131' QUIT
  trap 'stop 143' TERM
  code=0
  wait "$child" || code=$?
  exit "$code"
}

stop() {
  kill -KILL "$child" 2>/dev/null || :
  wait "$child" || :
  exit "$1"
}

# What programs expect to find. The root is a mount itself, or unshare --mount would fail in it.
mount_basics() {
  mount --bind "$root" "$root"
  mount -t proc proc "$root/proc"
  mount -t tmpfs -o mode=755,nosuid tmpfs "$root/dev"
  for device in null zero full random urandom tty; do
    : >"$root/dev/$device"
    mount --bind "/dev/$device" "$root/dev/$device"
  done
  mkdir "$root/dev/pts" "$root/dev/shm"
  mount -t devpts -o newinstance,mode=620,ptmxmode=666 devpts "$root/dev/pts"
  mount -t tmpfs -o mode=1777,nosuid,nodev tmpfs "$root/dev/shm"
  ln -s pts/ptmx "$root/dev/ptmx"
  ln -s /proc/self/fd "$root/dev/fd"
  ln -s fd/0 "$root/dev/stdin"
  ln -s fd/1 "$root/dev/stdout"
  ln -s fd/2 "$root/dev/stderr"
}

# Runs [NAME=VALUE...] COMMAND... in the root. Not with exec: the first process has to wait for what others leave
# behind, as a shell does.
inside() {
  env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root TERM=dumb LC_ALL=C.UTF-8 \
    chroot "$root" /usr/bin/env "$@"
}

# ---- make ----------------------------------------------------------------------------------------------------------

# The host's mirrors of Debian as lines for the sources of this suite; none on other systems.
host_sources() {
  command -v apt-get >/dev/null || return 0
  # shellcheck disable=SC2016 # apt's variables
  apt-get indextargets --no-release-info --format '$(REPO_URI) $(RELEASE) $(COMPONENT)' 'Created-By: Packages' |
    sed -nE "s#^(https?://.*/debian(-security)?/) [a-z]+(-updates|-security)? main\$#deb \1 $suite\3 main#p" | uniq
}

# How the host reaches them, and whom it trusts.
copy_network() {
  for file in /etc/resolv.conf /etc/ssl/certs/ca-certificates.crt /usr/local/share/ca-certificates/*.crt; do
    [ -f "$file" ] || continue
    mkdir -p "$root${file%/*}"
    cp "$file" "$root$file"
  done
  [ -e "$root/etc/hosts" ] || echo "127.0.0.1 localhost" >"$root/etc/hosts"
  command -v apt-config >/dev/null || return 0
  apt-config dump --no-empty | sed -nE '/^Acquire::(https?::|ftp::|Check-|Languages|Retries)/p' \
    >"$root/etc/apt/apt.conf.d/10host"
}

make_within() {
  sources=$(host_sources)
  mirror=$(echo "$sources" | sed -n "s/^deb \(.*\) $suite main\$/\1/p" | head -n 1)
  if command -v apt-config >/dev/null; then
    eval "$(apt-config shell http_proxy Acquire::http::Proxy)"
  fi
  [ -z "${http_proxy:-}" ] || export http_proxy
  debootstrap --variant=minbase "$suite" "$root" ${mirror:+"$mirror"}
  [ -z "$mirror" ] || echo "$sources" >"$root/etc/apt/sources.list"
  copy_network
  # What nobody would miss after a power failure need not wait for the disk.
  echo force-unsafe-io >"$root/etc/dpkg/dpkg.cfg.d/unsafe-io"
  mount_basics
  set -- apt-get -q -y -o Dpkg::Use-Pty=0 --no-install-recommends install "$@"
  for name in http_proxy https_proxy no_proxy; do
    eval "value=\${$name:-}"
    [ -z "$value" ] || set -- "$name=$value" "$@"
  done
  inside apt-get -q update
  inside DEBIAN_FRONTEND=noninteractive "$@"
  inside apt-get clean
  echo "$wanted" >"$stamp"
}

# ---- run -----------------------------------------------------------------------------------------------------------

run_within() {
  mount_basics
  if [ -n "${HSMSEAL_SOURCE:-}" ]; then
    mkdir -p "$root/repository"
    mount -o bind,ro "$HSMSEAL_SOURCE" "$root/repository"
  fi
  if [ -n "${HSMSEAL_EXCHANGE:-}" ]; then
    mkdir -p "$root/exchange"
    mount --bind "$HSMSEAL_EXCHANGE" "$root/exchange"
  fi
  for name in $(env | sed -n 's/^\(HSMSEAL_[A-Z0-9_]*\)=.*/\1/p'); do
    case $name in HSMSEAL_SOURCE | HSMSEAL_EXCHANGE) continue ;; esac
    set -- "$name=$(printenv "$name")" "$@"
  done
  code=0
  inside "$@" || code=$?
  exit "$code"
}

# ---- goals ---------------------------------------------------------------------------------------------------------

check_privilege() {
  [ "$(id -u)" = 0 ] || die "this needs root: run it as root or with sudo"
  command -v unshare >/dev/null || die "unshare is missing: install the package util-linux"
}

# A root bears the mark of this script from its first moment, and names suite and packages when it is complete.
root_is() {
  root=$1
  stamp=$root/debian-root
}

goal=${1:-}
case $goal:$# in
  make:[3-9] | make:[1-9][0-9]* | within-make:*)
    suite=$2
    root_is "$3"
    shift 3
    wanted="$suite $*"
    ;;
  run:[3-9] | run:[1-9][0-9]* | within-run:*)
    root_is "$2"
    shift 2
    ;;
  *)
    usage >&2
    exit 2
    ;;
esac

case $goal in
  make)
    case $suite in bookworm | trixie) ;; *) die "no such suite: $suite; there are bookworm and trixie" ;; esac
    check_privilege
    mkdir -p "$root"
    root_is "$(cd "$root" && pwd)"
    if [ "$(cat "$stamp" 2>/dev/null)" = "$wanted" ]; then
      echo "$root is complete"
      exit 0
    fi
    [ -f "$stamp" ] || rmdir "$root" 2>/dev/null || die "$root holds something else: choose another folder"
    command -v debootstrap >/dev/null || die "debootstrap is missing: install the package debootstrap"
    rm -rf --one-file-system "$root"
    mkdir -p "$root"
    : >"$stamp"
    apart within-make "$suite" "$root" "$@"
    ;;
  run)
    check_privilege
    [ -s "$stamp" ] || die "no complete root in $root: make it with sh cmake/debian_root.sh make"
    apart within-run "$root" "$@"
    ;;
  within-make) make_within "$@" ;;
  within-run) run_within "$@" ;;
esac
