import { existsSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { wording } from '../common/errors.ts'
import { aligned } from '../common/table.ts'
import { LabError } from './command.ts'
import { clearMachines, LabMachines } from './machines.ts'
import { processesIn } from './namespaces.ts'
import { RUN_DIRECTORY, runDirectory } from './places.ts'

/** `orctl machine lab`: machines for development that go on after this process. Usage: start N | stop | ls [FORMAT] */

/** Apart from the labs of tests, which clear what bears their own prefix; the test of this program has one, too. */
const PREFIX = process.env['MACHINE_LAB_PREFIX'] ?? 'dev'
const NOTE = 'cluster.json'

interface Noted {
  readonly name: string
  readonly address: string
  /** `SHA256:…` of its SSH host key. */
  readonly hostKey: string
  /** File of the private key that its root lets in. */
  readonly key: string
}

const say = (text: string) => void process.stderr.write(`${text}\n`)

async function start(n: number): Promise<void> {
  if (noted().length > 0) throw new LabError('running', 'machines run already: orctl machine lab stop ends them')
  const cluster = await LabMachines.open(PREFIX, n, { say })
  const notes: Noted[] = []
  for (const machine of cluster.machines) {
    const { name, address, key } = machine
    notes.push({ name, address, key, hostKey: await machine.hostKey() })
  }
  writeFileSync(join(runDirectory(PREFIX, 'machines'), NOTE), JSON.stringify(notes))
  show('table')
  say(`They are in the network of the namespace ${cluster.lan}, and root lets the key in. From there they are reached:
  nsenter --net=/run/netns/${cluster.lan} ssh -i ${cluster.key} root@${cluster.machine(1).address}
An orchestrator that is to reach them is started the same way; then, for each:
  orctl machine add ${cluster.machine(1).name} --address ${cluster.machine(1).address} --user root`)
}

function show(format: string): void {
  const items = noted().map((one) => ({ ...one, running: processesIn(one.name).length > 0 }))
  if (format === 'json') process.stdout.write(`${JSON.stringify({ items }, null, 2)}\n`)
  else if (format === 'name') process.stdout.write(items.map(({ name }) => `${name}\n`).join(''))
  else if (items.length === 0) say('there are no machines of the lab; orctl machine lab start 3 starts some')
  else {
    const rows = items.map(({ name, running, address, hostKey }) => [
      name,
      running ? 'running' : 'off',
      address,
      hostKey,
    ])
    process.stdout.write(aligned([['NAME', 'STATUS', 'ADDRESS', 'HOST KEY'], ...rows]))
  }
}

function noted(): readonly Noted[] {
  const file = join(RUN_DIRECTORY, PREFIX, 'machines', NOTE)
  return existsSync(file) ? (JSON.parse(readFileSync(file, 'utf8')) as Noted[]) : []
}

const [verb, word = ''] = process.argv.slice(2)
try {
  if (verb === 'start') await start(Number(word))
  else if (verb === 'stop') {
    await clearMachines(PREFIX)
    rmSync(join(RUN_DIRECTORY, PREFIX), { recursive: true, force: true })
    say('there are no machines of the lab any more')
  } else if (verb === 'ls') show(word)
  else throw new LabError('usage', 'usage: machine-cluster.ts start N | stop | ls [FORMAT]')
  // Machines go on without us.
  process.exit(0)
} catch (error) {
  say(`orctl: ${wording(error)}`)
  process.exit(1)
}
