import type { Passage, Way } from '../wiring.ts'
import type { Element } from './elements.ts'

/** What an owner is let through to: an instance on this host, or one elsewhere. */
export type Path = Passage | Way

/** Tells one path from the others; made anew under the same name, it takes its own place. */
export type PathName = Pick<Passage, 'owner' | 'instance'> | Pick<Way, 'owner' | 'address'>

export function isWay(path: Path): path is Way {
  return 'reach' in path
}

/** Tells the paths of one owner apart. */
export function keyOf(name: PathName): string {
  return 'instance' in name ? name.instance : `way ${name.address}`
}

/** Where what passes is sent: the instance, or the address that stands for it. */
export function destinationOf(path: Path): string {
  if (!isWay(path)) return path.instance
  return path.reach.kind === 'routed' ? path.address : path.reach.address
}

/** The route through a next hop that this host needs for it; null: none. */
export function hopOf(path: Path): { readonly to: string; readonly via: string } | null {
  if (!isWay(path)) return path.ownerVia === undefined ? null : { to: path.owner, via: path.ownerVia }
  return path.reach.kind === 'routed' ? { to: path.address, via: path.reach.via } : null
}

/** What the sets hold because of a path, but for where `my.instance` leads. */
export function pathElements(path: Path): Element[] {
  const { owner } = path
  if (!isWay(path)) {
    const key = `${owner} . ${path.instance}`
    const passage = { set: 'inet unionize passages', key }
    return path.ownerVia === undefined
      ? [passage]
      : [passage, { set: 'inet unionize returns', key, value: ` : ${path.ownerVia}` }]
  }
  const { address, reach } = path
  const to = destinationOf(path)
  const way = { set: 'inet unionize ways', key: `${owner} . ${to}` }
  if (reach.kind === 'routed') {
    return [
      way,
      { set: 'inet unionize routed', key: `${owner} . ${address}`, value: ` : ${reach.via}` },
      { set: 'inet unionize elsewhere', key: address },
    ]
  }
  return [
    way,
    { set: 'inet unionize translated', key: `${owner} . ${address}`, value: ` : ${to}` },
    { set: 'inet unionize outside', key: to },
    reach.from === undefined
      ? { set: 'inet unionize masked', key: `${owner} . ${to}` }
      : { set: 'inet unionize disguised', key: `${owner} . ${to}`, value: ` : ${reach.from}` },
  ]
}

/** Leads an owner from the well-known address to where its packets are to go. */
export function leadElement(owner: string, to: string): Element {
  return { set: 'inet unionize mine', key: owner, value: ` : ${to}` }
}
