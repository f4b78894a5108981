import type { LinkSpec } from '../../../common/wiring-spec.ts'
import type { VlanRange } from '../kernel/bridge-vlans.ts'
import { enslave, filterVlans, isolate, portVlans } from './act.ts'
import type { Action, OuterEnd } from './action.ts'
import { type Change, consequent, differing } from './change.ts'
import type { Seen } from './look.ts'
import { safeName } from './names.ts'
import type { Wanted } from './wanted.ts'

/** The outer end as a port: of which bridge, and how. */
export function planPort(wanted: Wanted, outer: OuterEnd, seen: Seen, fresh: boolean): Change[] {
  const { name, link } = wanted
  if (link.kind === 'ovs') return planOvsPort(wanted, outer, seen, fresh)
  if (link.kind !== 'bridge') return []
  const { base } = seen
  const port = fresh ? null : seen.outer
  const changes: Change[] = []
  const filters = base?.device?.kind === 'bridge' && base.device.vlanFiltering === true
  if (link.vlan !== undefined && !filters) {
    changes.push(consequent(link.bridge, 'let it tell VLANs apart', filterVlans(link.bridge)))
  }
  const enslaved = port !== null && base !== null && port.master === base.index
  if (!enslaved) {
    const text = `make ${outer.outer} a port of ${link.bridge}`
    const action = enslave(outer.outer, link.bridge)
    const found = port === null || port.master === 0 ? 'no bridge' : 'another bridge'
    const difference = { field: 'link.bridge', wanted: link.bridge, found }
    changes.push(fresh ? consequent(name, text, action) : differing(name, difference, text, action))
  }
  const isolated = enslaved && port.port?.isolated === true
  if (isolated !== link.isolated) {
    const text = link.isolated ? 'isolate it from other isolated ports' : 'let it reach isolated ports'
    const action = isolate(outer.outer, link.isolated)
    const difference = { field: 'link.isolated', wanted: String(link.isolated), found: String(isolated) }
    changes.push(enslaved ? differing(name, difference, text, action) : consequent(name, text, action))
  }
  return [...changes, ...planVlans(wanted, outer, enslaved ? seen.vlans : null)]
}

/** `found` null: the bridge gives a new port its default VLAN, and all that is not wanted goes. */
function planVlans(wanted: Wanted, outer: OuterEnd, found: readonly VlanRange[] | null): Change[] {
  const { name, link } = wanted
  if (link.kind !== 'bridge' || link.vlan === undefined) return []
  const wishes = rangesOf(link.vlan)
  const now = expanded(found ?? [{ from: 1, to: 1, pvid: true, untagged: true }])
  const then = expanded(wishes)
  const drop = [...now].filter(([id]) => !then.has(id)).map(([id]) => single(id))
  const put = [...then].filter(([id, how]) => now.get(id) !== how).map(([id, how]) => single(id, how))
  if (found !== null && drop.length === 0 && put.length === 0) return []
  const text = `give it ${vlanText(wishes)}`
  const action = portVlans(outer.outer, drop, put)
  if (found === null) return [consequent(name, text, action)]
  return [differing(name, { field: 'link.vlan', wanted: vlanText(wishes), found: vlanText(found) }, text, action)]
}

function planOvsPort(wanted: Wanted, outer: OuterEnd, seen: Seen, fresh: boolean): Change[] {
  const { name, link } = wanted
  if (link.kind !== 'ovs') return []
  const bridge = safeName(link.bridge)
  const { tag, trunks, externalIds } = link
  const action: Action = ({ ovs }) => void ovs.ensurePort({ bridge, port: outer.outer, tag, trunks, externalIds })
  const become = `make ${outer.outer} a port of ${bridge}`
  if (fresh) return [consequent(name, become, action)]
  const port = seen.ovs?.port ?? null
  if (port === null) {
    return [differing(name, { field: 'link.bridge', wanted: bridge, found: 'no bridge' }, become, action)]
  }
  const ids = port.externalIds
  const differences = [
    { field: 'link.bridge', wanted: bridge, found: port.bridge, text: become },
    { field: 'link.tag', wanted: tagText(tag), found: tagText(port.tag), text: `give it ${tagText(tag)}` },
    {
      field: 'link.trunks',
      wanted: trunksText(trunks),
      found: trunksText(port.trunks),
      text: `give it ${trunksText(trunks)}`,
    },
    ...[...new Set([...Object.keys(externalIds), ...port.ourIds])].sort().map((key) => ({
      field: `link.externalIds.${key}`,
      wanted: externalIds[key] ?? 'none',
      found: ids[key] ?? 'none',
      text: key in externalIds ? `give it the external id ${key}` : `take the external id ${key} from it`,
    })),
    {
      field: 'link',
      wanted: 'a port in use',
      found: port.number === null ? (port.error ?? 'unused') : 'a port in use',
      text: become,
    },
  ].filter((one) => one.wanted !== one.found)
  // One transaction does all of it.
  return differences.map(({ text, ...difference }) => differing(name, difference, text, action))
}

function tagText(tag: number | null | undefined): string {
  return tag == null ? 'no tag' : `tag ${tag}`
}

function trunksText(trunks: readonly number[] | undefined): string {
  const ids = [...new Set(trunks)].sort((a, b) => a - b)
  return ids.length === 0 ? 'no trunks' : `trunks ${ids.join(', ')}`
}

function rangesOf(vlan: NonNullable<Extract<LinkSpec, { kind: 'bridge' }>['vlan']>): VlanRange[] {
  const own = (id: number) => ({ from: id, to: id, pvid: true, untagged: true })
  if ('access' in vlan) return [own(vlan.access)]
  const tagged = vlan.trunk.map((entry) => {
    const [from = 0, to = from] = String(entry).split('-').map(Number)
    return { from, to, pvid: false, untagged: false }
  })
  return vlan.native === undefined ? tagged : [...tagged, own(vlan.native)]
}

/** By VLAN: how frames of it are treated. */
function expanded(ranges: readonly VlanRange[]): Map<number, string> {
  const all = new Map<number, string>()
  for (const { from, to, pvid, untagged } of ranges) {
    for (let id = from; id <= to; id++) all.set(id, `${pvid ? 'p' : ''}${untagged ? 'u' : ''}`)
  }
  return all
}

function single(id: number, how = ''): VlanRange {
  return { from: id, to: id, pvid: how.includes('p'), untagged: how.includes('u') }
}

function vlanText(ranges: readonly VlanRange[]): string {
  const parts = ranges.map(({ from, to, pvid }) => `${from === to ? from : `${from}-${to}`}${pvid ? ' untagged' : ''}`)
  return parts.length === 0 ? 'no VLAN' : `VLAN ${parts.join(', ')}`
}
