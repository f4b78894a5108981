import { readFileSync } from 'node:fs'
import { networkInterfaces } from 'node:os'

/** An IPv6 address that duplicate address detection has not let pass yet, or has refused (IFA_F_* of linux/if_addr.h). */
const TENTATIVE = 0x40
const DAD_FAILED = 0x08

/**
 * Why an interface in the network namespace of this process cannot be used yet; null: it can. Needs no privilege and no
 * mount of this namespace's own, but with `carrierOnly` a /sys of it.
 */
export function whyNotHere(name: string, carrierOnly: boolean): string | null {
  if (!new RegExp(`^\\s*${name.replaceAll('.', '\\.')}:`, 'm').test(readFileSync('/proc/self/net/dev', 'utf8'))) {
    return `there is no ${name}`
  }
  if (carrierOnly) return hasCarrier(name) ? null : `${name} has no carrier`
  // Only interfaces that are up and have a carrier are listed.
  const found = networkInterfaces()[name]
  if (found === undefined) return `${name} is down, or has no carrier or no address`
  const pending = unusable(name)
  const usable = found.some((one) => {
    if (one.family === 'IPv4') return true
    return one.scopeid === 0 && !pending.has(one.address)
  })
  return usable ? null : `${name} has no address that takes packets yet`
}

/** The kernel does not tell the carrier of an interface that is down. */
function hasCarrier(name: string): boolean {
  try {
    return readFileSync(`/sys/class/net/${name}/carrier`, 'utf8').trim() === '1'
  } catch (thrown) {
    if (['EINVAL', 'ENOENT'].includes((thrown as NodeJS.ErrnoException).code ?? '')) return false
    throw thrown
  }
}

/** IPv6 addresses of an interface that take no packets. */
function unusable(name: string): Set<string> {
  let text: string
  try {
    text = readFileSync('/proc/self/net/if_inet6', 'utf8')
  } catch (thrown) {
    if ((thrown as NodeJS.ErrnoException).code === 'ENOENT') return new Set() // a kernel without IPv6
    throw thrown
  }
  const addresses = new Set<string>()
  for (const line of text.split('\n')) {
    const [hex = '', , , , flags = '0', device] = line.trim().split(/\s+/)
    if (device !== name || (Number.parseInt(flags, 16) & (TENTATIVE | DAD_FAILED)) === 0) continue
    const groups = hex.match(/.{4}/g)?.join(':') ?? ''
    addresses.add(new URL(`http://[${groups}]/`).hostname.slice(1, -1))
  }
  return addresses
}
