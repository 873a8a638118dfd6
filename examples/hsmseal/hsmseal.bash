# Completion of hsmseal for bash. What can be completed is what the tool's own help names.

_hsmseal() {
  local current=${COMP_WORDS[COMP_CWORD]} word
  local -a commands=()
  for word in "${COMP_WORDS[@]:1:COMP_CWORD-1}"; do
    case $word in
      -*) ;;
      *) [[ ${#commands[@]} -lt 2 && (${#commands[@]} -eq 0 || ${commands[0]} == ring) ]] && commands+=("$word") ;;
    esac
  done
  local help
  help=$(hsmseal "${commands[@]}" --help 2>/dev/null) || return
  COMPREPLY=()
  if [[ $current == -* ]]; then
    mapfile -t COMPREPLY < <(compgen -W "$(grep -oE -- '--[a-z][-a-z]*' <<<"$help") --json --host" -- "$current")
    return
  fi
  local below
  below=$(sed -n '/^Subcommands:/,/^$/s/^  \([a-z][-a-z]*\).*/\1/p' <<<"$help")
  if [[ -n $below ]]; then
    mapfile -t COMPREPLY < <(compgen -W "$below" -- "$current")
  else
    mapfile -t COMPREPLY < <(compgen -f -- "$current")
  fi
}
complete -o filenames -F _hsmseal hsmseal
