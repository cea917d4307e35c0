# Completion for bash. It asks the program, so it knows what the program knows: commands, options, and the keys of a configuration.
_jevons() {
  local program=${COMP_WORDS[0]} word=${COMP_WORDS[COMP_CWORD]} words=() help candidates i
  for ((i = 1; i < COMP_CWORD; i++)); do
    [[ ${COMP_WORDS[i]} == -* ]] || words+=("${COMP_WORDS[i]}")
  done
  help=$("$program" "${words[@]:0:2}" --help 2>/dev/null) || help=$("$program" "${words[@]:0:1}" --help 2>/dev/null) || return
  COMPREPLY=()
  if [[ $word == -* ]]; then
    candidates=$(sed -n 's/^  \(-[a-z],\)\{0,1\}\(--[a-z-]*\).*/\2/p' <<<"$help")
  elif [[ $help == *$'\nSubcommands:'* ]]; then
    candidates=$(sed -n '/^Subcommands:/,/^$/s/^  \([a-z][a-z-]*\) .*/\1/p' <<<"$help")
  elif [[ $help == *KEY=VALUE* && $word == *[a-z]* && ! -e $word ]]; then
    candidates=$("$program" config schema 2>/dev/null | sed -n 's/^\([a-z][a-zA-Z0-9_.]*\): .*/\1=/p')
  fi
  mapfile -t COMPREPLY < <(compgen -W "${candidates:-}" -- "$word")
  if [[ ${COMPREPLY[0]:-} == *= ]]; then compopt -o nospace 2>/dev/null || :; fi
}
complete -o default -F _jevons jevons
