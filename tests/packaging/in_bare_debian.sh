#!/bin/sh
# Runs in the bare Debian that debian.sh makes: /repository is the repository, /exchange holds the packages. They are
# installed, each public header is compiled alone, an application is built in both ways and run, the tool is used, and
# everything is removed again.
set -eu

fail() {
  echo "packaging, in a bare Debian: $*" >&2
  exit 1
}

apt() {
  DEBIAN_FRONTEND=noninteractive apt-get -q -y -o Dpkg::Use-Pty=0 "$@" >/tmp/apt.log 2>&1 ||
    { cat /tmp/apt.log >&2; fail "apt-get $* failed"; }
}

# What a run that failed left behind.
before=$(dpkg-query -W -f '${Package} ' '*hsmseal*' 2>/dev/null || :)
# shellcheck disable=SC2086 # a list of words
[ -z "$before" ] || apt purge --autoremove $before
[ -z "$(find /usr -name '*hsmseal*')" ] || fail "hsmseal is here already"
for foreign in fmt botan-2/botan p11-kit-1 soci nlohmann; do
  [ ! -e "/usr/include/$foreign" ] || fail "/usr/include/$foreign is here: this Debian is not bare"
done
apt install --no-install-recommends /exchange/*.deb

sh /repository/tests/packaging/headers.sh /usr/include

cd /tmp
rm -rf consumer
cmake -S /repository/tests/packaging/consumer -B consumer -DWAY=find_package -DCOMPONENT=sql -DHSMSEAL_SOURCE=/repository \
  >/tmp/cmake.log 2>&1 || { cat /tmp/cmake.log >&2; fail "find_package does not find hsmseal"; }
cmake --build consumer >/tmp/cmake.log 2>&1 || { cat /tmp/cmake.log >&2; fail "the application does not build"; }
# shellcheck disable=SC2046 # lists of words
g++ -std=c++20 /repository/examples/quickstart.cpp -o quickstart $(pkg-config --cflags --libs hsmseal-sql)
for program in consumer/consumer ./quickstart; do
  sh /repository/examples/with_tokens.sh $program >/tmp/output || fail "$program failed"
  cat /tmp/output
  sed -n 's/^sealed: //p' /tmp/output >/tmp/envelope
  [ -s /tmp/envelope ] || fail "$program shows no envelope"
done

hsmseal --version
hsmseal drivers | grep '^softhsm2: /usr/lib' || fail "the tool does not find SoftHSM"
sh /repository/examples/with_tokens.sh hsmseal tokens softhsm2 | grep "^token: 'hsm1'" || fail "the tool shows no token"
hsmseal inspect /tmp/envelope | grep '^credential set: 1$' || fail "the tool does not read the envelope"
[ -f /usr/share/bash-completion/completions/hsmseal ] || fail "the tool's completion for bash is not installed"
cat >/tmp/with_ring <<'END'
#!/bin/sh
set -e
printf '{"tokens": {"hsm1": {"driver": "softhsm2", "select": {"label": "hsm1"}, "pin": {"file": "hsm1.pin"}}},
 "store": "sqlite:ring.db", "ring_pin": "ring.pin"}' >hsmseal.json
hsmseal ring create --token hsm1
printf hunter2 | hsmseal seal --text --no-context >sealed
hsmseal doctor
hsmseal open --no-context sealed
END
chmod 755 /tmp/with_ring
sh /repository/examples/with_tokens.sh /tmp/with_ring | grep '^hunter2$' || fail "the tool does not open what it sealed"

apt purge --autoremove 'libhsmseal*' hsmseal-tools
left=$(find /usr /etc -name '*hsmseal*' 2>/dev/null)
[ -z "$left" ] || fail "left after removal: $left"
