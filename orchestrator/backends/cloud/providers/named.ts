import { createHash } from 'node:crypto'
import { InvalidInput, OrchestratorError, wording } from '../../../../common/errors.ts'
import { hostBits, parseIpv6 } from '../../../../common/ipv6.ts'
import type { Price } from '../../../domain/price.ts'
import type { TargetCheck } from '../../backend.ts'
import type { CloudMachine, MachineOrder, Provider, ProviderContext } from '../provider.ts'
import { createRecent } from './recent.ts'
import { createSharing } from './sharing.ts'
import { createTidying } from './tidying.ts'

/** A machine, and which firewall holds for it. */
export interface NamedMachine extends CloudMachine {
  /** {@link admitKey} of the address that may reach it. */
  readonly admit: string
}

export interface Firewall {
  readonly id: string
  /** {@link admitKey} of the address that it admits. */
  readonly admit: string
}

/**
 * An API without a token that tells a repeated request: a machine's name, made of installation, instance and generation,
 * takes its place. Machines are protected by a firewall for each admitted address.
 */
export interface NamedApi {
  /** Of us, every page. */
  machines(signal: AbortSignal): Promise<readonly NamedMachine[]>
  /** With exactly this name. @throws OrchestratorError `name-taken` when it is somebody else's */
  named(name: string, order: MachineOrder, signal: AbortSignal): Promise<readonly CloudMachine[]>
  /** @param firewall its id */
  make(name: string, order: MachineOrder, admit: string, firewall: string, signal: AbortSignal): Promise<CloudMachine>
  /** Gone already is success. */
  erase(id: string, signal: AbortSignal): Promise<void>
  /** Of us, every page. */
  firewalls(signal: AbortSignal): Promise<readonly Firewall[]>
  /** That admits the address alone; makes it where there is none. */
  firewall(admit: string, address: string, signal: AbortSignal): Promise<string>
  /** @param ending ids of machines that are being deleted. @returns whether it is gone: one of them may still hold it */
  eraseFirewall(firewall: Firewall, ending: ReadonlySet<string>, signal: AbortSignal): Promise<boolean>
  /** What else was made for machines. Called while nothing is being made. */
  tidyRest?(signal: AbortSignal): Promise<void>
  /** What sizes cost here. */
  prices(signal: AbortSignal): Promise<ReadonlyMap<string, Price>>
  check(signal: AbortSignal): Promise<TargetCheck>
}

/** Milliseconds for which prices that were heard hold. */
const PRICES_MS = 3_600_000
/** Characters of a DNS label (RFC 1035, section 2.3.4), and those of it that tell machines of the same name apart. */
const LABEL = 63
const HASH = 10

export function namedProvider(what: string, api: NamedApi, context: ProviderContext): Provider {
  const { installation, clock, log } = context
  const recent = createRecent(clock)
  const turns = createSharing()
  let prices: ReadonlyMap<string, Price> = new Map()
  let pricesAt = Number.NEGATIVE_INFINITY

  const hearPrices = async (signal: AbortSignal): Promise<void> => {
    if (clock.now() - pricesAt < PRICES_MS) return
    try {
      prices = await api.prices(signal)
      pricesAt = clock.now()
    } catch (error) {
      signal.throwIfAborted()
      // Those of before stand, and the next list asks again.
      log.warn('cloud.prices-unknown', wording(error), { host: context.target })
    }
  }

  const make = async (order: MachineOrder, signal: AbortSignal): Promise<CloudMachine> => {
    const name = machineName(order, installation)
    const found = recent.completed(await api.named(name, order, signal))
    const [first, ...others] = found
      .filter((m) => m.instance === order.instance && m.generation === order.generation && m.state !== 'ending')
      .toSorted((a, b) => a.createdAt - b.createdAt || Number(a.id) - Number(b.id))
    for (const { id } of others) {
      await api.erase(id, signal)
      recent.deleted(id)
    }
    if (first !== undefined) return first
    const admit = admitKey(order.admit)
    const firewall = await turns.take(`firewall ${admit}`, signal, () => api.firewall(admit, order.admit, signal))
    await order.asking()
    const made = await api.make(name, order, admit, firewall, signal)
    recent.made(made)
    return made
  }

  const tidying = createTidying(
    async (signal) => {
      const listed = await api.machines(signal)
      const machines = recent.completed(listed)
      // What the list does not show yet may need any of them.
      if (machines.length > listed.length) return true
      const ending = new Set(machines.filter(({ state }) => state === 'ending').map(({ id }) => id))
      const used = new Set(listed.filter(({ id }) => !ending.has(id)).map(({ admit }) => admit))
      let left = false
      for (const firewall of await api.firewalls(signal)) {
        if (!used.has(firewall.admit) && !(await api.eraseFirewall(firewall, ending, signal))) left = true
      }
      await api.tidyRest?.(signal)
      return left
    },
    turns,
    context,
  )

  return {
    async list(signal) {
      const listed = recent.completed(await api.machines(signal))
      await hearPrices(signal)
      await tidying.again(signal)
      return listed
    },

    async create(order, signal) {
      if (order.spot)
        throw new InvalidInput('options.spot', `${what} sells no machines at a market's price; leave it out`)
      return await turns.take(`instance ${order.instance}`, signal, () =>
        tidying.making(() => make(order, signal), signal),
      )
    },

    async delete(id, signal) {
      await api.erase(id, signal)
      recent.deleted(id)
    },

    tidy: tidying.tidy,

    async console(_, signal) {
      signal.throwIfAborted()
      return null
    },
    price: (size) => context.prices[size] ?? prices.get(size) ?? null,
    check: (signal) => api.check(signal),
    async close() {},
  }
}

/** DNS label: the order's name, and what no other order has. */
export function machineName(
  order: Pick<MachineOrder, 'name' | 'instance' | 'generation'>,
  installation: string,
): string {
  const unique = createHash('sha256').update(`${installation} ${order.instance} ${order.generation}`).digest('hex')
  const name = order.name.slice(0, LABEL - HASH - 1).replace(/-+$/, '')
  return `${name}-${unique.slice(0, HASH)}`
}

/** An address as names and labels may be: 32 hex digits. */
export function admitKey(address: string): string {
  return hostBits(parseIpv6(address, 'admit'), 0).toString(16).padStart(32, '0')
}

/** The fields of a stored credential that such an API needs. @throws OrchestratorError `credential-missing` */
export async function tokenOf(context: ProviderContext): Promise<string> {
  const { token } = await context.credential()
  if (token) return token
  throw new OrchestratorError(
    'credential-missing',
    `the stored credential ${context.credentialName} lacks token: set it anew with orctl credential`,
  )
}

/** The provider works on it: the same again, soon, succeeds. */
export function busy(message: string, cause?: unknown): OrchestratorError {
  return new OrchestratorError('machine-pending', message, { retryable: true, retryAfterMs: 3000, cause })
}
