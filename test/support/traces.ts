import { execFile } from 'node:child_process'
import { readdirSync } from 'node:fs'
import { promisify } from 'node:util'

const run = promisify(execFile)

/** What a test could leave on a machine, each as one line of text. */
export type Traces = ReadonlySet<string>

/** Lists network links, namespaces, nftables tables, mounts, processes of ours, and temporary files, as they are now. */
export async function findTraces(): Promise<Traces> {
  const lists = await Promise.all([
    lines('link', 'ip', ['-o', 'link', 'show'], (line) => line.split(':')[1]?.trim().split('@')[0]),
    lines('namespace', 'ip', ['netns', 'list'], (line) => line.split(' ')[0]),
    lines('nftables', 'nft', ['list', 'tables'], (line) => line),
    lines('mount', 'findmnt', ['-rno', 'TARGET'], (line) =>
      /orchestrator|orc-|unionize/.test(line) ? line : undefined,
    ),
    lines('process', 'ps', ['-eo', 'pid,args'], (line) => ours(line)),
  ])
  return new Set([...lists.flat(), ...temporaryFiles()])
}

async function lines(
  kind: string,
  command: string,
  args: readonly string[],
  pick: (line: string) => string | undefined,
): Promise<string[]> {
  const { stdout } = await run(command, args, { maxBuffer: 16 << 20 })
  return stdout
    .split('\n')
    .filter((line) => line.trim() !== '')
    .map(pick)
    .filter((found) => found !== undefined)
    .map((found) => `${kind} ${found}`)
}

/** A process that ended is none, though its new parent, init, may take minutes to ask for its exit code. */
function ours(line: string): string | undefined {
  if (line.endsWith('<defunct>')) return undefined
  const daemon = /\b(dockerd|containerd|dnsmasq|dhcpcd|postgres|unionize|orchestrator)\b/
  return daemon.test(line) && !/test\/run\.ts|npm|run\.sh| ps /.test(line) ? line.trim() : undefined
}

function temporaryFiles(): string[] {
  return readdirSync('/tmp')
    .filter((name) => name.startsWith('orchestrator-'))
    .map((name) => `file /tmp/${name}`)
}
