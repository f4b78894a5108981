import { execFileSync, spawnSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

/**
 * Records what iproute2 sends for the commands in test/fixtures/iproute2.json, as root and with strace installed:
 * `node test/support/record-iproute2.ts`. A command that this kernel refuses is recorded like any other. Each finds a
 * network namespace with bridge br0 (index 10) and the pair p0 (11), p1 (12), and another one named OTHER.
 */
const FIXTURE = new URL('../fixtures/iproute2.json', import.meta.url)
/** Where sequence number and port of the sender are. */
const OWN = [8, 16] as const

interface Recorded {
  readonly version: string
  readonly messages: Record<string, string>
}

function record(command: string): string {
  const [here, other] = [`wt-${process.pid}-here`, `wt-${process.pid}-other`]
  const folder = mkdtempSync(join(tmpdir(), 'wt-'))
  const inside = (...words: string[]) => ['nsenter', [`--net=/run/netns/${here}`, ...words]] as const
  try {
    for (const name of [here, other]) execFileSync('ip', ['netns', 'add', name])
    for (const words of [
      'ip link add br0 index 10 type bridge',
      'ip link add p0 index 11 type veth peer name p1 index 12',
      'ip link set p0 up',
      'ip link set p1 up',
      'ip address add 10.9.0.1/24 dev p1',
      'ip address add fd09::1/64 dev p1 nodad',
    ]) {
      execFileSync(...inside(...words.split(' ')))
    }
    const trace = join(folder, 'trace')
    const words = command.split(' ').map((word) => (word === 'OTHER' ? other : word))
    spawnSync(...inside('strace', '-e', 'trace=sendmsg,sendto', '-e', 'write=all', '-o', trace, ...words))
    return lastSent(readFileSync(trace, 'utf8'))
  } finally {
    for (const name of [here, other]) spawnSync('ip', ['netns', 'delete', name])
    rmSync(folder, { recursive: true })
  }
}

/** The bytes that strace dumped last. */
function lastSent(trace: string): string {
  let hex = ''
  for (const line of trace.split('\n')) {
    if (/^send/.test(line)) hex = ''
    hex += /^ \| [0-9a-f]{5} {2}((?:[0-9a-f]{2} {1,2})+)/.exec(line)?.[1]?.replaceAll(' ', '') ?? ''
  }
  const bytes = Buffer.from(hex, 'hex')
  if (bytes.length < OWN[1]) throw new Error('nothing was sent')
  return bytes.fill(0, ...OWN).toString('hex')
}

const { messages } = JSON.parse(readFileSync(FIXTURE, 'utf8')) as Recorded
const version = execFileSync('ip', ['-V'], { encoding: 'utf8' }).trim()
for (const command of Object.keys(messages)) messages[command] = record(command)
writeFileSync(FIXTURE, `${JSON.stringify({ version, messages } satisfies Recorded, null, 2)}\n`)
