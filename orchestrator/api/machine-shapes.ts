import { createHash } from 'node:crypto'
import { type Machine, machineStatus, type Roll } from '../domain/machine.ts'
import type { MachineShape, RollShape } from './wire.ts'

export function machineToShape(machine: Machine, backend: string): MachineShape {
  const { name, address, port, user, hostKey, labels, cordoned, task, fault, etcd, seen, away } = machine
  return {
    ...{ name, backend, status: machineStatus(machine), address, port, user, hostKey, cordoned, away },
    fingerprint: fingerprintOf(hostKey),
    labels: { ...labels },
    task: taskToShape(task),
    fault: fault === null ? null : { task: fault.task, message: fault.message, at: iso(fault.at) },
    etcd: etcd === null ? null : { ...etcd },
    seen:
      seen === null
        ? null
        : {
            ...{ at: iso(seen.at), system: seen.system, version: seen.version, health: seen.health },
            failed: [...seen.failed],
          },
    secrets: machine.secrets.map((secret) => ({
      ...{ name: secret.name, bytes: secret.bytes, at: iso(secret.at) },
      present: secret.boot === seen?.boot,
    })),
    addedAt: iso(machine.addedAt),
  }
}

function taskToShape(task: Machine['task']): MachineShape['task'] {
  if (task === null) return null
  const { kind, step, since } = task
  const upgrade = kind === 'upgrade'
  return {
    ...{ kind, step, since: iso(since), to: upgrade ? task.to : null },
    ...{ dead: upgrade ? false : task.dead, problem: upgrade ? null : task.problem },
  }
}

export function rollToShape({ to, left, done, state, fault, beganAt }: Roll, backend: string): RollShape {
  return { backend, to, left: [...left], done: [...done], state, fault, beganAt: iso(beganAt) }
}

/** `SHA256:…` of a public key `TYPE BASE64`, as ssh-keygen(1) shows it. */
export function fingerprintOf(hostKey: string): string {
  const blob = Buffer.from(hostKey.split(' ')[1] ?? '', 'base64')
  return `SHA256:${createHash('sha256').update(blob).digest('base64').replaceAll('=', '')}`
}

function iso(ms: number): string {
  return new Date(ms).toISOString()
}
