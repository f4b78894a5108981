import { randomBytes } from 'node:crypto'
import { OrchestratorError } from '../common/errors.ts'
import type { Ipv6 } from '../common/ipv6.ts'
import type { Choice, Chooser } from './catalog/choose.ts'
import { type AddressPool, allows, candidates } from './domain/addressing.ts'
import type { InstanceId } from './domain/instance.ts'
import type { Lease } from './domain/lease.ts'
import { nameCandidates } from './domain/naming.ts'
import type { Transaction } from './store/store.ts'

/** What an instance is made by. */
export interface Instantiation {
  readonly pool: AddressPool
  /** What a lease becomes; asked anew for each lease, so changed rules and templates are used at once. */
  readonly chooser: Chooser
}

/** Idle addresses looked at for one that may be taken over: those of a former prefix are among them. */
const IDLE_LOOK = 1000

/** No address of the instances prefix is free. */
class AddressPoolExhausted extends OrchestratorError {
  constructor(pool: AddressPool) {
    super(
      'address-pool-exhausted',
      `no address is free in the instances prefix ${pool.prefix.base}/${pool.prefix.length}; set instances.prefix to a larger one`,
      { retryable: true },
    )
  }
}

/**
 * Makes what the lease becomes wanted; the lease comes back with a refusal when it cannot have it.
 * @param hookAt when the lease server told of it, epoch ms
 */
export async function instantiate(
  tx: Transaction,
  options: Instantiation,
  lease: Lease,
  hookAt: number,
  now: number,
): Promise<Lease> {
  const choice = await options.chooser.choose(tx, lease, now)
  if (choice.kind === 'nothing') return { ...lease, refusal: null }
  if (choice.kind === 'refused') return refused(tx, lease, choice.reason, 'warning', now)
  let address: Ipv6
  try {
    address = await addressFor(tx, options.pool, lease, now)
  } catch (error) {
    if (!(error instanceof AddressPoolExhausted)) throw error
    return refused(tx, lease, error.message, 'error', now)
  }
  await insert(tx, lease, choice, address, hookAt, now)
  return { ...lease, refusal: null }
}

/** The same refusal again is told once. */
async function refused(
  tx: Transaction,
  lease: Lease,
  refusal: string,
  level: 'warning' | 'error',
  now: number,
): Promise<Lease> {
  if (lease.refusal !== refusal) {
    const said = { level, kind: 'lease.refused', owner: lease.owner, host: lease.source } as const
    await tx.appendEvent({ ...said, message: refusal }, now)
  }
  return { ...lease, refusal }
}

async function insert(
  tx: Transaction,
  lease: Lease,
  choice: Extract<Choice, { kind: 'instance' }>,
  address: Ipv6,
  hookAt: number,
  now: number,
): Promise<void> {
  const { template, parameters, rule, backend, otherwise, price, graceMs, mostMs } = choice
  const id = newInstanceId()
  await tx.insertInstance({
    id,
    owner: lease.owner,
    name: await nameFor(tx, lease, id),
    template: { name: template.name, version: template.version },
    parameters,
    rule,
    backend,
    otherwise,
    host: null,
    reach: null,
    price,
    wanted: 'running',
    generation: 1,
    state: 'pending',
    settled: 0,
    address,
    ownerAddress: lease.address,
    source: lease.source,
    failures: 0,
    dueAt: now,
    lastError: null,
    graceMs,
    endsAt: mostMs === null ? null : now + mostMs,
    outputs: null,
    marks: { hookAt, storedAt: now },
    createdAt: now,
    updatedAt: now,
  })
}

/** The address that the owner had before, else the first free candidate, else the idle one that was assigned longest ago. */
async function addressFor(tx: Transaction, pool: AddressPool, lease: Lease, now: number): Promise<Ipv6> {
  const { owner } = lease
  const former = await tx.addressOf(owner)
  if (former !== null && allows(pool, former)) return former
  for (const address of candidates(pool, owner, lease.address)) {
    if ((await tx.holderOf(address)) !== null) continue
    await tx.assignAddress(address, owner, now)
    return address
  }
  const idle = (await tx.idleAddresses(IDLE_LOOK)).find((address) => allows(pool, address))
  if (idle === undefined) throw new AddressPoolExhausted(pool)
  await tx.assignAddress(idle, owner, now)
  return idle
}

async function nameFor(tx: Transaction, lease: Lease, id: InstanceId): Promise<string> {
  for (const name of nameCandidates(lease.facts.hostname, id)) {
    if (!(await tx.nameTaken(name))) return name
  }
  return id
}

/** 50 random bits in Crockford's base 32, lower case. */
function newInstanceId(): InstanceId {
  const digits = '0123456789abcdefghjkmnpqrstvwxyz'
  return `i-${Array.from(randomBytes(10), (byte) => digits[byte & 31]).join('')}` as InstanceId
}
