import type { Policy } from '../../../common/wiring-policy.ts'

/**
 * What holds where a policy says nothing, per second. Packets: as the kernel hands them on, so that one of TCP may carry
 * 64 KiB; unbundled, 50,000 are 600 Mbit/s of full frames, and take about a third of one CPU to carry (`npm run
 * bench:filter`). Connections, name queries included: 500 are 60,000 in the two minutes that an unanswered one is kept
 * (nf_conntrack_tcp_timeout_syn_sent), a quarter of the host's table (nf_conntrack_max, 262,144 from 4 GiB of memory on).
 */
export const DEFAULT_LIMITS = { packets: 50_000, connections: 500 } as const

/**
 * Bytes that pass at once whatever the rate: a packet larger than that would never pass, and the kernel bundles up to 64 KiB
 * into one (GSO_LEGACY_MAX_SIZE of linux/netdevice.h); four of them.
 */
const LEAST_BURST = 256 * 1024
/** The burst is a 32-bit number (NFTA_LIMIT_BURST). */
const MOST_BURST = 0xffff_ffff

/** The limit of a set's element: matches what comes above a number per second, after a burst of one second's worth. */
export function rateLimit(perSecond: number): string {
  return `limit rate over ${perSecond}/second burst ${perSecond} packets`
}

/** As {@link rateLimit} in bits per second, after a burst of a tenth of a second's worth. */
export function bandwidthLimit(bitsPerSecond: number): string {
  const bytes = Math.floor(bitsPerSecond / 8)
  const burst = Math.min(MOST_BURST, Math.max(LEAST_BURST, Math.floor(bytes / 10)))
  return `limit rate over ${bytes} bytes/second burst ${burst} bytes`
}

/** The limits of a policy; null: unlimited. */
export function limitsOf(policy: Policy | undefined): {
  readonly packets: number
  readonly connections: number
  readonly upload: number | null
  readonly download: number | null
} {
  const { packets, connections, upload, download } = policy?.limits ?? {}
  return {
    packets: packets ?? DEFAULT_LIMITS.packets,
    connections: connections ?? DEFAULT_LIMITS.connections,
    upload: upload ?? null,
    download: download ?? null,
  }
}

/** Reads a limit as libnftables lists it: the number per second, of bits if it counts bytes. */
export function perSecondOf(limit: { readonly rate: number; readonly rate_unit?: string }): number {
  const unit = { bytes: 8, kbytes: 8 * 1024, mbytes: 8 * 1024 * 1024 }[limit.rate_unit ?? '']
  return limit.rate * (unit ?? 1)
}
