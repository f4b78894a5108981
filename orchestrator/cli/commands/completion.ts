import { Argument, type Command } from 'commander'
import { candidates } from '../candidates.ts'
import { connect } from '../connection.ts'
import { print } from '../output.ts'

/** Milliseconds that a person waits for names before there are none. */
const NAMES_WITHIN_MS = 2_000

const SCRIPTS = {
  bash: `_orctl() {
  local IFS=$'\\n'
  COMPREPLY=($(orctl complete -- "\${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null))
}
complete -o bashdefault -o default -F _orctl orctl
`,
  zsh: `#compdef orctl
_orctl() {
  local -a found
  found=("\${(@f)$(orctl complete -- "\${(@)words[2,CURRENT]}" 2>/dev/null)}")
  found=(\${found:#})
  if (( \${#found} )); then compadd -a found; else _files; fi
}
compdef _orctl orctl
`,
  fish: `function __orctl_complete
  set -l words (commandline -opc)
  set -e words[1]
  set -l current (commandline -ct)
  orctl complete -- $words "$current" 2>/dev/null
end
complete -c orctl -f -a '(__orctl_complete)'
`,
} as const

export function addCompletion(program: Command): void {
  program
    .command('completion')
    .summary('print the completion script of a shell')
    .description('Prints a script that completes verbs, resources, flags and the names of what there is.')
    .addArgument(new Argument('<shell>', 'which shell').choices(Object.keys(SCRIPTS)))
    .addHelpText(
      'after',
      `
For all users, or for yourself:
  bash  orctl completion bash > /etc/bash_completion.d/orctl      or in ~/.bashrc: source <(orctl completion bash)
  zsh   orctl completion zsh > /usr/share/zsh/site-functions/_orctl     or in ~/.zshrc: source <(orctl completion zsh)
  fish  orctl completion fish > ~/.config/fish/completions/orctl.fish`,
    )
    .action((shell: keyof typeof SCRIPTS) => print(SCRIPTS[shell]))

  program
    .command('complete', { hidden: true })
    .argument('[words...]')
    .helpOption(false)
    .action(async (words: string[]) => {
      const signal = AbortSignal.timeout(NAMES_WITHIN_MS)
      const client = (flags: Readonly<Record<string, string>>) => connect(flags, process.env)
      const found = await candidates({ program, client, signal }, words)
      print(found.map((word) => `${word}\n`).join(''))
    })
}
