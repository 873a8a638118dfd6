#!/bin/sh
# Runs a program beside two new SoftHSM tokens, which are gone when it ends:
#
#   sh examples/with_tokens.sh COMMAND [ARGUMENT...]
#
# The tokens are labelled hsm1 and hsm2. COMMAND runs in their private directory, so that a program finds the PINs in
# the files `hsm1.pin` and `hsm2.pin`; SOFTHSM2_CONF tells SoftHSM where the tokens are. Returns COMMAND's exit code.
set -eu
umask 077

die() {
  echo "with_tokens.sh: $*" >&2
  exit 2
}

[ $# -gt 0 ] || die "usage: sh examples/with_tokens.sh COMMAND [ARGUMENT...]"
command -v softhsm2-util >/dev/null || die "softhsm2-util is missing: sh cmake/setup.sh deps installs it"

# The command must be found before the directory is changed.
case $1 in
  /*) program=$1 ;;
  */*) program=$PWD/$1 ;;
  *) program=$(command -v "$1") || die "no such command: $1" ;;
esac
[ -x "$program" ] || die "not a program: $1"
shift

# SoftHSM writes each key through to the disk; in memory that costs 1.5 ms instead of 50 ms and more.
base=/dev/shm
if [ ! -d $base ] || [ ! -w $base ] || [ ! -x $base ]; then
  base=${TMPDIR:-/tmp}
fi

child=
dir=$(mktemp -d "$base/hsmseal-tokens-XXXXXX")
clean_up() {
  trap - EXIT HUP INT QUIT PIPE TERM
  cd /
  rm -rf "$dir"
}
# The command is told to stop first: it would otherwise go on without its tokens.
stop() {
  if [ -n "$child" ]; then
    kill -TERM "$child" 2>/dev/null || :
    wait "$child" || :
  fi
  exit "$1"
}
trap clean_up EXIT
trap 'stop 129' HUP
trap 'stop 130' INT
trap 'stop 131' QUIT
trap 'stop 141' PIPE
trap 'stop 143' TERM

SOFTHSM2_CONF=$dir/softhsm2.conf
export SOFTHSM2_CONF
mkdir "$dir/tokens"
cat >"$SOFTHSM2_CONF" <<END
directories.tokendir = $dir/tokens
objectstore.backend = file
log.level = ERROR
slots.removable = false
END

new_pin() {
  dd if=/dev/urandom bs=4096 count=1 2>/dev/null | LC_ALL=C tr -cd '0-9' | cut -c 1-12
}

# softhsm2-util takes PINs on its command line, where other users of this machine can read them, and in no other way.
# It is bearable here alone: SoftHSM is a token for tests, and these two live only as long as COMMAND.
for label in hsm1 hsm2; do
  new_pin >"$dir/$label.pin"
  softhsm2-util --init-token --free --label "$label" --so-pin "$(new_pin)" --pin "$(cat "$dir/$label.pin")" \
    >"$dir/$label.log" 2>&1 || { cat "$dir/$label.log" >&2; die "softhsm2-util could not make the token $label"; }
  rm "$dir/$label.log"
done

# In the background, because a shell that waits for a program in the foreground does not see signals.
cd "$dir"
exec 3<&0
"$program" "$@" <&3 3<&- &
child=$!
exec 3<&-
code=0
wait "$child" || code=$?
exit "$code"
