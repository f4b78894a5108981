import { InvalidInput } from './errors.ts'

/** A DHCP Unique Identifier as lower-case hex octets with colons. Made only by {@link parseDuid}. */
export type Duid = string & { readonly __duid: true }

/** Octets in a DUID: a two-octet type and at most 128 more (RFC 8415, section 11.1). */
const DUID_OCTETS = { least: 3, most: 130 } as const

/** Parses `00:03:00:01:…` (any case). @throws InvalidInput naming `field` */
export function parseDuid(text: string, field = 'duid'): Duid {
  if (!/^[0-9a-f]{2}(:[0-9a-f]{2})*$/i.test(text)) {
    const shown = text.length > 64 ? `${text.slice(0, 64)}…` : text
    throw new InvalidInput(field, `expected hex octets with colons, got ${JSON.stringify(shown)}`)
  }
  const octets = (text.length + 1) / 3
  if (octets < DUID_OCTETS.least || octets > DUID_OCTETS.most) {
    throw new InvalidInput(field, `has ${octets} octets; RFC 8415 allows ${DUID_OCTETS.least} to ${DUID_OCTETS.most}`)
  }
  return text.toLowerCase() as Duid
}

/**
 * Parses an identity association's number, decimal, 0 to 4294967295 (RFC 8415, section 21.4).
 * A temporary association (dnsmasq writes `T123`) is refused: its address changes by design, so nothing can be tied to it.
 * @throws InvalidInput naming `field`
 */
export function parseIaid(text: string, field = 'iaid'): number {
  if (/^T\d+$/.test(text)) {
    throw new InvalidInput(
      field,
      `${text} is a temporary association (IA_TA); only lasting ones (IA_NA) get an instance`,
    )
  }
  const value = Number(text)
  if (!/^\d{1,10}$/.test(text) || value > 0xffff_ffff) {
    throw new InvalidInput(field, `expected a number from 0 to 4294967295, got ${JSON.stringify(text.slice(0, 64))}`)
  }
  return value
}
