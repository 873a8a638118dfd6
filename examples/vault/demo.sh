#!/bin/sh
# The vault's four rules, one by one, over two new SoftHSM tokens that are gone afterwards:
#
#   sh examples/vault/demo.sh VAULT [DATABASE]
#
# VAULT is the program, build/examples/vault. DATABASE is an SQLite file of the demonstration's own unless one is given,
# as postgresql:host=... dbname=... , in which there is no vault yet. Fails if anything goes another way than it should.
set -eu

if [ "${1:-}" != --beside-tokens ]; then
  [ $# -ge 1 ] && [ -x "$1" ] || { echo "usage: sh examples/vault/demo.sh VAULT [DATABASE]" >&2; exit 2; }
  here=$(cd "$(dirname "$0")" && pwd)
  program=$(cd "$(dirname "$1")" && pwd)/$(basename "$1")
  exec sh "$here/../with_tokens.sh" sh "$here/demo.sh" --beside-tokens "$program" "${2:-sqlite:vault.db}"
fi
program=$2
VAULT_DATABASE=$3
export VAULT_DATABASE

vault() { "$program" "$@"; }
tell() { echo; printf '%s\n' "$@"; }

# Shows a command and runs it.
run() {
  echo "  \$ $1"
  eval "$1" >output 2>&1 || { sed 's/^/  /' output; tell "the demonstration went wrong"; exit 1; }
  sed 's/^/  /' output
}

# The same with one that must be refused.
refused() {
  echo "  \$ $1"
  ! eval "$1" >output 2>&1 || { sed 's/^/  /' output; tell "the demonstration went wrong: it was not refused"; exit 1; }
  sed 's/^/  /' output
}

# Runs a command that must show this.
shows() {
  run "$2"
  grep -qF -- "$1" output || { tell "the demonstration went wrong: it should show '$1'"; exit 1; }
}

# 300 more passwords, so that there is something to move.
more_passwords() {
  number=0
  while [ $number -lt 300 ]; do
    number=$((number + 1))
    echo "site-$number password-of-site-$number"
  done
}

echo "A password vault. Its database holds envelopes; their keys are made and stay in two HSMs, the tokens hsm1 and hsm2."
run "vault create --token hsm1 --quick"
run "echo 'correct horse' | vault add mail"
run "echo 'battery staple' | vault add bank"
run "more_passwords | vault import"

tell "RULE 1. One credential set encrypts at a time, always the latest: for what is new, and for what is edited."
run "vault rotate --token hsm2 --description 'the HSM we bought'"
run "echo 'new and shiny' | vault add shop"
run "echo 'staple of 2026' | vault edit bank"
shows "set 2" "vault list shop"
shows "set 2" "vault list bank"

tell "RULE 2. Older sets still decrypt what they encrypted. Nobody has edited this one, so it is under set 1."
shows "set 1" "vault list mail"
shows "correct horse" "vault get mail"

tell "RULE 3. Archived sets stay in the database until somebody removes them by hand." \
  "A set that passwords still need cannot be removed:"
run "vault census"
refused "vault remove-set 1"
tell "So they are moved to the latest set. No password is changed by that, and the vault can be used meanwhile."
shows "done: no password is left under an older set" "vault rewrap"
run "vault census"
tell "Set 1 is still there, since nobody has removed it. Now somebody does, and everything opens without it."
shows "set 1  archived" "vault sets"
shows "set 1  deleted" "vault remove-set 1"
shows "correct horse" "vault get mail"
shows "password-of-site-300" "vault get site-300"
tell "Its key is still in the HSM, so that a mistake can be undone:"
shows "set 1  archived" "vault restore-set 1"

tell "RULE 4. An HSM group in high availability is one token: its vendor's client shows all members as one, and the" \
  "vault knows no others. Here a copy of hsm2 stands in for a second member; the first one is switched off."
cp -R tokens second-member
sed "s|/tokens\$|/second-member|" softhsm2.conf >second-member.conf
mv tokens switched-off
SOFTHSM2_CONF=$PWD/second-member.conf
shows "correct horse" "vault get mail"
run "echo 'from the second member' | vault add phone"
shows "from the second member" "vault get phone"

tell "That was all of it. examples/vault/vault.cpp is where hsmseal is used."
