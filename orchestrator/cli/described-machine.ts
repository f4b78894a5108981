import { plain } from '../../common/plain.ts'
import { aligned } from '../../common/table.ts'
import type { MachineShape } from '../api/wire.ts'
import { age } from './ages.ts'
import { coloured } from './table.ts'

/** A machine in words. @param now epoch ms */
export function describedMachine(machine: MachineShape, now: number): string {
  const { seen, task, fault, etcd, labels, secrets } = machine
  const rows: [string, string][] = [
    ['Name', plain(machine.name)],
    ['Status', coloured(machine.status)],
    ['Backend', plain(machine.backend)],
    ['Address', `${machine.address} port ${machine.port}, as ${plain(machine.user)}`],
    ['Host key', plain(machine.fingerprint)],
    ['Cordoned', machine.cordoned ? 'yes: it gets no new instances' : 'no'],
  ]
  for (const [name, value] of Object.entries(labels)) rows.push([`Label ${plain(name)}`, plain(value)])
  if (seen === null) rows.push(['Seen', 'never'])
  else {
    rows.push(['Seen', `${age(seen.at, now)} ago`], ['System', `${plain(seen.system)}, version ${plain(seen.version)}`])
    const failed = seen.failed.length === 0 ? '' : `: ${plain(seen.failed.join(', '))} failed`
    rows.push(['Health', `${plain(seen.health)}${failed}`])
  }
  if (machine.away !== null) rows.push(['Away', plain(machine.away)])
  if (task !== null) rows.push([task.kind === 'upgrade' ? 'Upgrade' : 'Removal', taskText(task, now)])
  if (fault !== null) rows.push([`Failed ${fault.task}`, `${plain(fault.message)} (${age(fault.at, now)} ago)`])
  if (etcd !== null) {
    rows.push(['etcd', `${plain(etcd.member)} at ${plain(etcd.peer)}: ${ETCD_WORDS[etcd.state]}`])
    if (etcd.cluster !== null) rows.push(['  cluster', plain(etcd.cluster)])
    if (etcd.problem !== null) rows.push(['  problem', plain(etcd.problem)])
  }
  for (const { name, bytes, at, present } of secrets) {
    const stands = present ? `${bytes} bytes, pushed ${age(at, now)} ago` : 'gone with a restart: push it again'
    rows.push([`Secret ${plain(name)}`, stands])
  }
  return aligned(rows.map(([name, value]) => [`${name}:`, value]))
}

const ETCD_WORDS = {
  wanted: 'the cluster does not know it yet',
  learner: 'the cluster knows it; it gets its vote when it has started and caught up',
  member: 'a member',
} as const

/** What is being done to a machine, on one line. */
export function taskText(task: NonNullable<MachineShape['task']>, now: number): string {
  const to =
    task.kind === 'upgrade' ? ` to ${plain(task.to ?? 'the newest version')}` : task.dead ? ' of a dead machine' : ''
  const problem = task.problem === null ? '' : `: ${plain(task.problem)}`
  return `${task.step}${to}, for ${age(task.since, now)}${problem}`
}
