import type { Ipv6 } from '../../../common/ipv6.ts'
import type { InstanceId, Observed } from '../../domain/instance.ts'
import { PLACES, serviceOf, targetOf, wireOf } from './names.ts'

/** An instance as its files and units on a machine tell. */
export interface ListedInstance {
  readonly id: InstanceId
  /** The newest that any of its files is of. */
  readonly generation: number
  readonly address: Ipv6 | null
  /** Of all that it was made of; null: it is not whole. */
  readonly digest: string | null
  readonly state: Observed['state']
  /** Why it does not run. */
  readonly detail: string | null
  /** Whether that may pass by itself: its network failed and is started again, not for long yet. */
  readonly passing: boolean
  /** Names of its services. */
  readonly services: readonly string[]
  /** What is in its outputs file; null: nothing that can be read. */
  readonly outputs: string | null
}

/** A unit as `systemctl show` tells of it; every property is a text. */
type Unit = ReadonlyMap<string, string>

/** What {@link LIST} of scripts.ts printed. */
export function readList(text: string): ListedInstance[] {
  const parts = partsOf(text)
  const files = parts.get('files') ?? []
  const units = unitsIn(parts.get('units') ?? [])
  const health = new Map((parts.get('containers') ?? []).map((line) => splitOnce(line, ' ')))
  const complete = new Set(parts.get('complete') ?? [])
  const outputs = new Map((parts.get('outputs') ?? []).map((line) => splitOnce(line, ' ')))
  const said = new Map<string, Map<string, string>>()
  for (const line of files) {
    const [, path = '', name = '', value = ''] = /^([^:]+):(\w+)=(.*)$/.exec(line) ?? []
    const file = said.get(path) ?? new Map<string, string>()
    said.set(path, file.set(name, value))
  }
  const byInstance = Map.groupBy(said.entries(), ([, file]) => file.get('Instance') ?? '')
  byInstance.delete('')
  return [...byInstance].map(([name, entries]) => {
    const id = name as InstanceId
    const all = entries.map(([, file]) => file)
    const target = entries.find(([path]) => path.endsWith(`/${targetOf(id)}`))?.[1]
    const address = all.find((file) => file.has('Address'))?.get('Address') ?? ''
    const digest = target?.get('Digest') ?? null
    const wanted = target?.get('Wants')?.split(' ') ?? []
    const found =
      digest === null ? HALF : stateOf(id, wanted, units, health, complete.has(`${PLACES.memory}/${id}/complete`))
    const encoded = outputs.get(name)
    const passing = found.state === 'partial' && startsAgain(units.get(`${wireOf(id)}.service`))
    return {
      ...{ id, digest, address: address === '' ? null : (address as Ipv6), ...found, passing },
      services: wanted.flatMap((unit) => serviceIn(unit, serviceOf(id, ''))),
      generation: Math.max(...all.map((file) => Number(file.get('Generation') ?? 0))),
      outputs: encoded === undefined ? null : Buffer.from(encoded, 'base64').toString(),
    }
  })
}

type State = Pick<ListedInstance, 'state' | 'detail'>

/** Starts of a network that may fail: engines now and then fail to start what the next start finds as it should be. */
const PASSING_STARTS = 3

const HALF: State = { state: 'partial', detail: 'its units are not all written' }

/** The worst of its units counts. */
function stateOf(
  id: InstanceId,
  wanted: readonly string[],
  units: ReadonlyMap<string, Unit>,
  health: ReadonlyMap<string, string>,
  complete: boolean,
): State {
  const serviceUnits = wanted.filter((name) => name.startsWith(serviceOf(id, '')))
  const states = [`${wireOf(id)}.service`, ...serviceUnits].map((name) =>
    unitState(name.replace(/\.service$/, ''), serviceOf(id, ''), units.get(name), health),
  )
  const services = states.slice(1)
  const [network] = states
  // Only what has files waits for them.
  if (!complete && services.some(({ state }) => state === 'stopped')) {
    const detail = 'it waits for files of its services, which were lost with a restart of the machine'
    return { state: 'partial', detail }
  }
  if (services.length > 0 && states.every(({ state }) => state === 'stopped')) {
    return { state: 'stopped', detail: services[0]?.detail ?? null }
  }
  const worst = (['partial', 'stopped', 'starting'] as const)
    // What a service says of itself tells more than its network, which may end with it.
    .map((kind) => services.find(({ state }) => state === kind) ?? (network?.state === kind ? network : undefined))
    .find((found) => found !== undefined)
  if (worst === undefined) return { state: 'running', detail: null }
  return worst.state === 'stopped' ? { ...worst, state: 'partial' } : worst
}

function startsAgain(network: Unit | undefined): boolean {
  const [active, sub] = [network?.get('ActiveState'), network?.get('SubState') ?? '']
  const restarts = Number(network?.get('NRestarts') ?? 0)
  const again = sub.startsWith('auto-restart') || (active === 'activating' && restarts > 0)
  return again && restarts < PASSING_STARTS
}

function unitState(name: string, prefix: string, unit: Unit | undefined, health: ReadonlyMap<string, string>): State {
  const what = name.startsWith(prefix) ? `service ${name.slice(prefix.length)}` : 'its network'
  const get = (property: string) => unit?.get(property) ?? ''
  const partial = (detail: string): State => ({ state: 'partial', detail: `${what} ${detail}` })
  const ran = Number(get('ExecMainExitTimestampMonotonic')) > 0
  if (get('LoadState') !== 'loaded') return partial('has a unit that systemd does not load')
  const active = get('ActiveState')
  if (active === 'active' || active === 'reloading') {
    return /\(unhealthy\)/.test(health.get(name) ?? '') ? partial('is unhealthy') : { state: 'running', detail: null }
  }
  const restarts = Number(get('NRestarts'))
  const again = restarts === 0 ? '' : `, restarted ${restarts === 1 ? 'once' : `${restarts} times`}`
  const ended = `ended with exit code ${get('ExecMainStatus')}${again}`
  if (get('SubState') === 'auto-restart' || get('SubState') === 'auto-restart-queued') return partial(ended)
  if (active === 'activating') {
    // The exit code is that of the process that starts now: none yet.
    if (restarts > 0) return partial(`ended${again}`)
    return { state: 'starting', detail: `${what} is starting (${get('SubState')})` }
  }
  // What ended by itself passes through this, too.
  if (active === 'deactivating') return partial(ran ? ended : 'is stopping')
  if (active === 'inactive' && !['', '0'].includes(get('Job'))) {
    return { state: 'starting', detail: `${what} waits for its turn` }
  }
  const stays = get('Restart') === 'no' || (get('Restart') === 'on-failure' && get('Result') === 'success')
  if (ran && stays) return { state: 'running', detail: null }
  if (active === 'failed') return partial(`failed (${get('Result')}), exit code ${get('ExecMainStatus')}`)
  return { state: 'stopped', detail: `${what} is stopped` }
}

function serviceIn(unit: string, prefix: string): string[] {
  return unit.startsWith(prefix) ? [unit.slice(prefix.length).replace(/\.service$/, '')] : []
}

function partsOf(text: string): Map<string, string[]> {
  const parts = new Map<string, string[]>()
  let current: string[] = []
  for (const line of text.split('\n')) {
    if (line.startsWith('%% ')) {
      current = []
      parts.set(line.slice(3), current)
    } else current.push(line)
  }
  return parts
}

/** Blocks of lines with an empty line between them; `Id` tells whose it is. */
function unitsIn(lines: readonly string[]): Map<string, Unit> {
  const units = new Map<string, Unit>()
  let block = new Map<string, string>()
  for (const line of [...lines, '']) {
    if (line !== '') {
      const [name, value] = splitOnce(line, '=')
      block.set(name, value)
      continue
    }
    const id = block.get('Id')
    if (id !== undefined) units.set(id, block)
    block = new Map()
  }
  return units
}

function splitOnce(line: string, at: string): [string, string] {
  const index = line.indexOf(at)
  return index < 0 ? [line, ''] : [line.slice(0, index), line.slice(index + at.length)]
}
