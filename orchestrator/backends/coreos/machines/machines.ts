import { randomBytes } from 'node:crypto'
import type { Clock } from '../../../../common/clock.ts'
import { InvalidInput, OrchestratorError } from '../../../../common/errors.ts'
import { parseIpv6 } from '../../../../common/ipv6.ts'
import type { Log } from '../../../../common/log.ts'
import type { Machine, MachineEtcd, Roll, UpgradeTask } from '../../../domain/machine.ts'
import { type Care, startCare } from './care.ts'
import type { CareContext, MachineWork, Residents } from './care-context.ts'
import { found, type Inventory, machineName } from './inventory.ts'
import { writeSecret } from './secrets.ts'
import type { Shell } from './shell.ts'

/** What operators do with the machines of one backend. Nothing is cared for before {@link start}. */
export interface Machines {
  /** By name. */
  list(): readonly Machine[]
  /** @throws OrchestratorError `not-found` */
  find(name: string): Machine
  /** The public key that a machine shows now. @throws HostUnreachable */
  hostKey(address: string, port: number, signal: AbortSignal): Promise<string>
  /** @throws InvalidInput, OrchestratorError `machine-exists` */
  add(machine: NewMachine): Promise<Machine>
  cordon(name: string, cordoned: boolean): Promise<Machine>
  /** Begins, or makes of a removal that hangs one of a dead machine. */
  remove(name: string, options: { readonly dead: boolean }): Promise<Machine>
  /** @param to null: the newest. @throws OrchestratorError `machine-busy` */
  upgrade(name: string, to: string | null): Promise<Machine>
  roll(): Roll | null
  /** @param names in this order; null: all machines, as they are named. @throws OrchestratorError `machine-busy` */
  beginRoll(names: readonly string[] | null, to: string | null): Promise<Roll>
  /** Goes on with what is left, the machine that failed first. @throws OrchestratorError `no-roll` */
  resumeRoll(): Promise<Roll>
  /** Begins no further machine. */
  stopRoll(): Promise<Roll>
  pushSecret(name: string, secret: { name: string; content: Buffer }, signal: AbortSignal): Promise<Machine>
  /** Its journal, as journalctl(1) prints it. @throws HostUnreachable */
  journal(name: string, options: JournalOptions, signal: AbortSignal): AsyncIterable<string>
  /** Goes on with what was begun. To be called once. */
  start(daily: { readonly residents: Residents; readonly tell: CareContext['tell'] }): void
  stop(): Promise<void>
}

/** `hostKey`: as `ssh-ed25519 AAAA…`. With it, the machine need not run yet. */
export interface NewMachine {
  readonly name: string
  readonly address: string
  readonly port: number
  readonly user: string
  readonly hostKey: string
  readonly labels: Readonly<Record<string, string>>
  /** Its etcd: the URL by which other members reach it. It is told to the cluster before it boots. */
  readonly etcd?: { readonly member: string; readonly peer: string } | undefined
}

export interface JournalOptions {
  readonly unit?: string | undefined
  readonly tail: number
  readonly follow: boolean
}

export interface MachinesOptions extends MachineWork {
  readonly inventory: Inventory
  readonly shell: Shell
  readonly clock: Clock
  readonly log: Log
  /** See {@link CareContext.patience}. */
  readonly patience?: Partial<Readonly<Record<UpgradeTask['step'], number>>>
}

export function createMachines(options: MachinesOptions): Machines {
  const { inventory, shell, clock } = options
  let care: Care | null = null

  /** Changes one and sees to it. @throws OrchestratorError `not-found` */
  const change = async (name: string, to: (machine: Machine) => Machine | null): Promise<Machine> => {
    const changed = await inventory.change(name, to)
    care?.wake(name)
    return changed ?? found(inventory, name)
  }
  const putRoll = async (roll: Roll): Promise<Roll> => {
    await inventory.putRoll(roll)
    care?.wake()
    return roll
  }
  return {
    list: () => inventory.all(),
    find: (name) => found(inventory, name),
    hostKey: (address, port, signal) => shell.hostKeyOf(parseIpv6(address), port, signal),
    async add(given) {
      const machine = newMachine(given, inventory, clock.now())
      await inventory.add(machine)
      care?.wake(machine.name)
      return machine
    },
    cordon: (name, cordoned) =>
      change(name, (now) => {
        // What is being upgraded is cordoned for that time; this says how it is to be afterwards.
        if (now.task?.kind === 'upgrade') return { ...now, task: { ...now.task, wasCordoned: cordoned } }
        if (now.task !== null) throw busy(now)
        return { ...now, cordoned }
      }),
    remove: (name, { dead }) =>
      change(name, (now) => {
        if (now.task?.kind === 'removal') return { ...now, task: { ...now.task, dead: dead || now.task.dead } }
        if (now.task !== null && !dead) throw busy(now)
        const task = { kind: 'removal', dead, step: 'draining', since: clock.now(), problem: null } as const
        return { ...now, cordoned: true, fault: null, task }
      }),
    upgrade: (name, to) =>
      change(name, (now) => {
        const same = now.task?.kind === 'upgrade' && now.task.to === checkedVersion(to)
        if (same) return null
        if (now.task !== null) throw busy(now)
        return { ...now, cordoned: true, fault: null, task: upgradeTask(now, to, clock.now()) }
      }),
    roll: () => inventory.roll(),
    async beginRoll(names, to) {
      const current = inventory.roll()
      if (current?.state === 'running') {
        throw new OrchestratorError(
          'machine-busy',
          `a rolling upgrade is under way: ${current.left.join(', ')} are left`,
        )
      }
      const left = (names ?? inventory.all().map(({ name }) => name)).map((name) => found(inventory, name).name)
      if (new Set(left).size !== left.length) throw new InvalidInput('machines', 'expected each machine once')
      if (left.length === 0) throw new InvalidInput('machines', 'there are no machines; add some first')
      const id = randomBytes(8).toString('hex')
      const begun = { done: [], state: 'running', fault: null, beganAt: clock.now() } as const
      return await putRoll({ id, to: checkedVersion(to), left, ...begun })
    },
    async resumeRoll() {
      const roll = currentRoll(inventory)
      if (roll.state !== 'stopped') return roll
      return await putRoll({ ...roll, state: 'running', fault: null, beganAt: clock.now() })
    },
    async stopRoll() {
      const roll = currentRoll(inventory)
      if (roll.state !== 'running') return roll
      return await putRoll({ ...roll, state: 'stopped', fault: 'it was asked to stop' })
    },
    async pushSecret(name, secret, signal) {
      const boot = await writeSecret(shell, found(inventory, name), secret, signal)
      const pushed = { name: secret.name, bytes: secret.content.length, at: clock.now(), boot }
      return await change(name, (now) => ({
        ...now,
        secrets: [...now.secrets.filter((other) => other.name !== secret.name), pushed],
      }))
    },
    journal(name, { unit, tail, follow }, signal) {
      const flags = [
        '--no-pager',
        '-n',
        String(tail),
        ...(follow ? ['-f'] : []),
        ...(unit === undefined ? [] : ['-u', unit]),
      ]
      return shell.follow(found(inventory, name), ['journalctl', ...flags], signal)
    },
    start(daily) {
      care = startCare({ ...options, ...daily })
    },
    async stop() {
      await care?.stop()
    },
  }
}

function newMachine(given: NewMachine, inventory: Inventory, now: number): Machine {
  const name = machineName(given.name)
  const address = parseIpv6(given.address)
  const other = inventory.all().find((one) => one.name !== name && one.address === address && one.port === given.port)
  if (other !== undefined) throw new InvalidInput('address', `${address} port ${given.port} is machine ${other.name}`)
  return {
    ...{ name, address, port: given.port, user: given.user, hostKey: checkedKey(given.hostKey), labels: given.labels },
    ...{ cordoned: false, task: null, fault: null, seen: null, away: null, secrets: [], rolled: null, addedAt: now },
    etcd: given.etcd === undefined ? null : newMember(given.etcd, inventory),
  }
}

function newMember({ member, peer }: { member: string; peer: string }, inventory: Inventory): MachineEtcd {
  const other = inventory.all().find(({ etcd }) => etcd?.peer === peer || etcd?.member === member)
  if (other !== undefined) throw new InvalidInput('etcd', `${member} at ${peer} is that of machine ${other.name}`)
  return { member, peer, cluster: null, state: 'wanted', problem: null }
}

/** Type and key without the comment. @throws InvalidInput */
function checkedKey(text: string): string {
  const [type = '', key = ''] = text.trim().split(/\s+/)
  const known = /^(ssh-ed25519|ecdsa-sha2-nistp(256|384|521)|ssh-rsa)$/.test(type)
  if (known && /^[A-Za-z0-9+/]{40,}=*$/.test(key)) return `${type} ${key}`
  throw new InvalidInput(
    'hostKey',
    'expected a public host key such as "ssh-ed25519 AAAA…", as ssh-keyscan(1) shows it',
  )
}

/** A version goes to programs on machines. @throws InvalidInput */
function checkedVersion(to: string | null): string | null {
  if (to === null || /^[A-Za-z0-9][A-Za-z0-9._+~:-]{0,63}$/.test(to)) return to
  throw new InvalidInput('to', 'expected a version of letters, digits and ._+~:-, at most 64 characters')
}

function upgradeTask(machine: Machine, to: string | null, now: number): UpgradeTask {
  const wasCordoned = machine.cordoned
  return { kind: 'upgrade', to: checkedVersion(to), step: 'checking', since: now, boot: null, wasCordoned, roll: null }
}

function currentRoll(inventory: Inventory): Roll {
  const roll = inventory.roll()
  if (roll !== null) return roll
  throw new OrchestratorError('no-roll', 'there is no rolling upgrade; begin one with `orctl machine rolling-upgrade`')
}

function busy({ name, task }: Machine): OrchestratorError {
  const what = task?.kind === 'removal' ? 'being removed' : 'being upgraded'
  return new OrchestratorError('machine-busy', `machine ${name} is ${what}; wait for the end of it`)
}
