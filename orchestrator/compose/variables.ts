import type { Instance } from '../domain/instance.ts'
import type { Lease } from '../domain/lease.ts'

/** A variable that every template has without declaring it. */
export interface FactVariable {
  /** LEASE_… or INSTANCE_… */
  readonly name: string
  /** One sentence for the documentation. */
  readonly meaning: string
  /** A value as it might be, with which templates are checked. */
  readonly sample: string
  /** Its value; '' where nothing is known. */
  readonly value: (instance: Instance, lease: Lease) => string
}

/** Characters of one fact at most: a device may send 64 KiB (RFC 8415, section 21.1). */
const MOST_CHARACTERS = 1024

/**
 * The facts of lease and instance. What a device says of itself (hostname, classes, MUD URL …) is a stranger's word: of it
 * letters, digits and a few signs are kept, each other character becomes `_`. So a fact has no white space, quotes, `$` or
 * other signs of a shell, and none but the MUD URL has a `/`: wherever it is put, it stays within its own word.
 */
export const FACT_VARIABLES: readonly FactVariable[] = [
  {
    name: 'LEASE_ADDRESS',
    meaning: "The device's own IPv6 address, which its lease is about",
    sample: 'fd00:c::1001',
    value: (_, lease) => lease.address,
  },
  {
    name: 'LEASE_HOSTNAME',
    meaning: 'The host name that the device says',
    sample: 'device',
    value: (_, { facts }) => hostName(facts.hostname),
  },
  {
    name: 'LEASE_DOMAIN',
    meaning: 'The domain that the lease server gives the device',
    sample: 'example.net',
    value: (_, { facts }) => hostName(facts.domain),
  },
  {
    name: 'LEASE_MAC',
    meaning: "The device's hardware address",
    sample: '02:00:00:00:00:01',
    value: (_, { facts }) => address(facts.mac),
  },
  {
    name: 'LEASE_DUID',
    meaning: "The device's DHCP unique identifier, in hex with colons",
    sample: '00:03:00:01:02:00:00:00:00:01',
    value: (_, lease) => lease.owner.duid,
  },
  {
    name: 'LEASE_IAID',
    meaning: 'Which of the addresses of that device it is, a number',
    sample: '1',
    value: (_, lease) => String(lease.owner.iaid),
  },
  {
    name: 'LEASE_TAGS',
    meaning: 'Tags that the lease server gives the device, with commas between',
    sample: 'known,lan',
    value: (_, { facts }) => joined(facts.tags),
  },
  {
    name: 'LEASE_INTERFACE',
    meaning: "The lease server's interface that the device is behind",
    sample: 'eth1',
    value: (_, { facts }) => word(facts.interface),
  },
  {
    name: 'LEASE_RELAY',
    meaning: 'Address of the relay that the device was heard through; empty without one',
    sample: 'fd00:c::1',
    value: (_, { facts }) => address(facts.relay),
  },
  {
    name: 'LEASE_SOURCE',
    meaning: 'Name of the host whose lease server gave the lease',
    sample: 'host1',
    value: (_, lease) => word(lease.source),
  },
  {
    name: 'LEASE_VENDOR_CLASS',
    meaning: 'The vendor class that the device says',
    sample: 'vendor',
    value: (_, { facts }) => word(facts.vendorClass),
  },
  {
    name: 'LEASE_USER_CLASSES',
    meaning: 'The user classes that the device says, with commas between',
    sample: 'class',
    value: (_, { facts }) => joined(facts.userClasses),
  },
  {
    name: 'LEASE_MUD_URL',
    meaning: 'Where the device says that its maker describes it (RFC 8520)',
    sample: 'https://example.net/device.json',
    value: (_, { facts }) => url(facts.mudUrl),
  },
  {
    name: 'INSTANCE_ID',
    meaning: "The instance's identifier, which no other one ever has",
    sample: 'i-sample',
    value: (instance) => instance.id,
  },
  {
    name: 'INSTANCE_NAME',
    meaning: "The instance's name, a DNS label",
    sample: 'device',
    value: (instance) => instance.name,
  },
  {
    name: 'INSTANCE_ADDRESS',
    meaning: "The instance's own IPv6 address",
    sample: 'fd00:1::1001',
    value: (instance) => instance.address,
  },
  {
    name: 'INSTANCE_TEMPLATE',
    meaning: 'Name of its template',
    sample: 'sample',
    value: (instance) => instance.template.name,
  },
  {
    name: 'INSTANCE_VERSION',
    meaning: "Hash of its template's version",
    sample: '0123456789ab',
    value: (instance) => instance.template.version,
  },
  {
    name: 'INSTANCE_RULE',
    meaning: 'Name of the rule that gave it; empty without one',
    sample: 'everybody',
    value: (instance) => word(instance.rule ?? undefined),
  },
]

/** Whether a name is kept for facts, so that no parameter may have it. */
export function isFactName(name: string): boolean {
  return /^(LEASE|INSTANCE|ORCHESTRATOR)_/.test(name)
}

/** The values of all of them for one instance, by name. */
export function factsOf(instance: Instance, lease: Lease): Readonly<Record<string, string>> {
  return Object.fromEntries(FACT_VARIABLES.map(({ name, value }) => [name, value(instance, lease)]))
}

/** Variables that every service finds in its environment, beside those of its template. The host name is as the device says it. */
export function environmentOf(instance: Instance, lease: Lease): Readonly<Record<string, string>> {
  return {
    ORCHESTRATOR_INSTANCE: instance.id,
    ORCHESTRATOR_NAME: instance.name,
    ORCHESTRATOR_ADDRESS: instance.address,
    ORCHESTRATOR_OWNER_DUID: instance.owner.duid,
    ORCHESTRATOR_OWNER_IAID: String(instance.owner.iaid),
    ORCHESTRATOR_OWNER_ADDRESS: instance.ownerAddress,
    ORCHESTRATOR_HOSTNAME: cut(lease.facts.hostname).replace(/\p{Cc}/gu, ''),
  }
}

/** A word: it can be a part of a path or of a name, and nothing more; in a command it is no option. */
function word(said: string | undefined): string {
  return cut(said)
    .replace(/[^\p{L}\p{Nd}._@+-]/gu, '_')
    .replace(/^-/, '_')
}

/** A word that is no `.` or `..` of a path. */
function hostName(said: string | undefined): string {
  return word(said).replace(/^\.+|\.+$/g, '')
}

/** Of MACs and IP addresses. */
function address(said: string | undefined): string {
  return cut(said).replace(/[^0-9A-Fa-f:.]/g, '_')
}

/** RFC 8520, section 10: it begins with https. What does not is none. */
function url(said: string | undefined): string {
  return said?.startsWith('https://') ? cut(said).replace(/[^\p{L}\p{Nd}._~:/?=%@+,-]/gu, '_') : ''
}

function joined(said: readonly string[] | undefined): string {
  return cut((said ?? []).map(word).join(','))
}

function cut(said: string | undefined): string {
  return (said ?? '').slice(0, MOST_CHARACTERS)
}
