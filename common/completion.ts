/** The shells for which there are completion scripts. */
export const SHELLS = ['bash', 'zsh', 'fish'] as const
export type Shell = (typeof SHELLS)[number]

/**
 * The script that makes a shell complete a program's command lines. For each it calls the program's own `complete`, which
 * prints the words that may come next, one a line.
 * @param program its name, letters only
 */
export function completionScript(shell: Shell, program: string): string {
  if (shell === 'bash') {
    return `_${program}() {
  local IFS=$'\\n'
  COMPREPLY=($(${program} complete -- "\${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null))
}
complete -o bashdefault -o default -F _${program} ${program}
`
  }
  if (shell === 'zsh') {
    return `#compdef ${program}
_${program}() {
  local -a found
  found=("\${(@f)$(${program} complete -- "\${(@)words[2,CURRENT]}" 2>/dev/null)}")
  found=(\${found:#})
  if (( \${#found} )); then compadd -a found; else _files; fi
}
compdef _${program} ${program}
`
  }
  return `function __${program}_complete
  set -l words (commandline -opc)
  set -e words[1]
  set -l current (commandline -ct)
  ${program} complete -- $words "$current" 2>/dev/null
end
complete -c ${program} -f -a '(__${program}_complete)'
`
}

/** How to install that script, for a `--help`. */
export function completionHelp(program: string): string {
  return `
For all users, or for yourself:
  bash  ${program} completion bash > /etc/bash_completion.d/${program}      or in ~/.bashrc: source <(${program} completion bash)
  zsh   ${program} completion zsh > /usr/share/zsh/site-functions/_${program}     or in ~/.zshrc: source <(${program} completion zsh)
  fish  ${program} completion fish > ~/.config/fish/completions/${program}.fish`
}
