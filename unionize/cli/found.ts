import { isIPv6, SocketAddress } from 'node:net'
import type { InterfaceSpec } from '../../common/wiring-spec.ts'
import type { FoundInterface, Wired } from '../wiring/interfaces/interfaces.ts'
import { safeName } from '../wiring/interfaces/names.ts'

/** What the kernel has of an interface that was asked for. */
export function foundOf(wired: Wired, spec: InterfaceSpec): FoundInterface | undefined {
  const name = safeName(spec.name)
  return wired.interfaces.find((found) => found.name === name)
}

/** Whether two texts mean the same address with the same prefix length. */
export function samePrefix(one: string, other: string): boolean {
  return canonical(one) === canonical(other)
}

function canonical(prefix: string): string {
  const [address = '', length = ''] = prefix.split('/')
  const text = isIPv6(address) ? new SocketAddress({ address, family: 'ipv6' }).address : address
  return `${text}/${length}`
}
