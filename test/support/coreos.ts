import { readFileSync } from 'node:fs'
import type { Readable } from 'node:stream'
import { systemClock } from '../../common/clock.ts'
import { parseIpv6 } from '../../common/ipv6.ts'
import type { LabMachine } from '../../lab/machine.ts'
import { LabMachines, type MachinesOptions } from '../../lab/machines.ts'
import type { Backend, BackendContext, Records } from '../../orchestrator/backends/backend.ts'
import { coreosBackend } from '../../orchestrator/backends/coreos/coreos.ts'
import { type Inventory, openInventory } from '../../orchestrator/backends/coreos/machines/inventory.ts'
import { type CoreosSettings, parseSettings } from '../../orchestrator/backends/coreos/settings.ts'
import { createShell, type SshShell } from '../../orchestrator/backends/coreos/ssh.ts'
import type { HostName, Target } from '../../orchestrator/domain/host.ts'
import type { Order } from '../../orchestrator/domain/instance.ts'
import type { Machine } from '../../orchestrator/domain/machine.ts'
import { service, silent } from './fixtures.ts'
import { order } from './orders.ts'
import { importTinyImage } from './tiny-image.ts'

/** What instances on the machines of a test run: a shell and a few programs, which sleep unless told. */
export const TINY = 'orchestrator/tiny:1'

/** Real machines, and a backend that has them. */
export class CoreosLab {
  readonly lab: LabMachines
  readonly records: Records
  readonly inventory: Inventory
  readonly #settings: CoreosSettings
  readonly #back: () => void
  readonly #opened: { readonly backend: Backend; readonly shell: SshShell }[] = []

  private constructor(lab: LabMachines, records: Records, inventory: Inventory, settings: CoreosSettings) {
    this.lab = lab
    this.records = records
    this.inventory = inventory
    this.#settings = settings
    this.#back = lab.enter()
  }

  /** @param settings as under `backends.NAME.settings` */
  static async open(
    prefix: string,
    n: number,
    { settings = {}, ...options }: MachinesOptions & { readonly settings?: object } = {},
  ): Promise<CoreosLab> {
    const engine = (settings as { engine?: string }).engine ?? 'podman'
    const services = engine === 'docker' ? ['docker.service'] : []
    const lab = await LabMachines.open(prefix, n, { services, ...options })
    try {
      const tar = await tinyTar()
      await Promise.all(lab.machines.map((one) => importTiny(one, engine, tar)))
      const records = memoryRecords()
      const inventory = await openInventory(records)
      for (const one of lab.machines) await inventory.add(machineOf(one))
      return new CoreosLab(lab, records, inventory, parseSettings(settings))
    } catch (error) {
      await lab.close()
      throw error
    }
  }

  /** A backend as after a restart of the orchestrator: what it must remember is in the same records. */
  backend(
    change: {
      readonly installation?: string
      readonly records?: Records
      readonly shell?: (shell: SshShell) => SshShell
    } = {},
  ): Backend {
    const key = readFileSync(this.lab.key, 'utf8')
    const plain = createShell({ login: async () => ({ key }), clock: systemClock })
    const shell = change.shell?.(plain) ?? plain
    const context: BackendContext = {
      ...{ name: 'metal', installation: change.installation ?? '0123456789abcdef', log: silent, clock: systemClock },
      credential: async () => ({ key }),
      records: change.records ?? this.records,
    }
    const backend = coreosBackend({ settings: this.#settings, context, inventory: this.inventory, shell })
    this.#opened.push({ backend, shell })
    return backend
  }

  target(n: number): Target {
    return { name: this.lab.machine(n).name as HostName }
  }

  async close(): Promise<void> {
    await Promise.all(this.#opened.map(({ backend }) => backend.close()))
    this.#back()
    await this.lab.close()
  }
}

/** The n-th instance, of one service that sleeps. */
export function tinyOrder(n: number, generation = 1, change: Partial<Order> = {}): Order {
  const home = { name: 'h1' as HostName, address: parseIpv6('fd00:5::1') }
  return { ...order(n, generation), services: [service({ image: TINY, pull: 'never' })], home, ...change }
}

/** Everything of our instances that stands on a machine, in a few words each. */
export async function thingsOn(machine: LabMachine, engine = 'podman'): Promise<string[]> {
  const text = await machine.sh(`
ls -d /etc/systemd/system/orc-i-* /etc/systemd/system/*.wants/orc-i-* /etc/containers/systemd/orc-i-* 2>/dev/null || :
ls -dA /run/orchestrator/* /run/orchestrator/.lock-* /var/lib/orchestrator/instances/* 2>/dev/null || :
systemctl list-units --all --plain --no-legend 'orc-i-*' | cut -d ' ' -f 1
grep -o ' /run/orchestrator/[^ ]*' /proc/mounts || :
${engine} ps -a --format 'container {{.Names}}'
${engine} volume ls --format 'volume {{.Name}}'
ip -o link show | grep -o 'ui-[0-9a-f]*' || :
nft -j list table inet unionize 2>/dev/null | grep -o 'fd00:c::[0-9a-f]*' || :
ip -6 route show proto 118 || :`)
  return text.split('\n').filter(Boolean)
}

export function machineOf(machine: LabMachine): Machine {
  return {
    ...{ name: machine.name as HostName, address: parseIpv6(machine.address), port: 22, user: 'root' },
    ...{ hostKey: machine.hostPublicKey(), labels: {}, cordoned: false, task: null, fault: null, etcd: null },
    ...{ seen: null, away: null, secrets: [], rolled: null, addedAt: 0 },
  }
}

/** Records that last as long as the process. */
export function memoryRecords(): Records {
  const kept = new Map<string, string>()
  return {
    all: async () => new Map(kept),
    async put(key, value) {
      if (value === null) kept.delete(key)
      else kept.set(key, value)
    },
  }
}

/** Has the image {@link TINY} on a machine. @param programs of this machine that it has beside the usual ones */
export async function importTinyInto(machine: LabMachine, engine = 'podman', programs: readonly string[] = []) {
  await importTiny(machine, engine, await tinyTar(programs))
}

async function tinyTar(programs: readonly string[] = []): Promise<Buffer> {
  const chunks: Buffer[] = []
  const importImage = async (tar: Readable): Promise<void> => {
    for await (const chunk of tar) chunks.push(chunk as Buffer)
  }
  await importTinyImage({ importImage }, { name: 'orchestrator/tiny', tag: '1', programs })
  return Buffer.concat(chunks)
}

async function importTiny(machine: LabMachine, engine: string, input: Buffer): Promise<void> {
  await machine.run([engine, 'import', '--change', 'CMD ["/bin/sleep", "infinity"]', '-', TINY], { input })
}
