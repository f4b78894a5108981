import { createHash } from 'node:crypto'
import { OrchestratorError } from '../../../../../common/errors.ts'
import type { TargetCheck } from '../../../backend.ts'
import {
  type CloudMachine,
  type MachineOrder,
  type Provider,
  type ProviderContext,
  type ProviderKind,
  TAG,
} from '../../provider.ts'
import { parse } from '../../settings.ts'
import { createRecent, KNOWN_BETTER_MS } from '../recent.ts'
import { createSharing } from '../sharing.ts'
import { createTidying } from '../tidying.ts'
import { createClient, type Keys } from './calls/client.ts'
import { type Ec2Machine, machineCalls } from './calls/machines.ts'
import { networkCalls } from './calls/network.ts'
import { saysSo } from './failures.ts'
import { createGroups } from './groups.ts'
import { createNetwork } from './network.ts'
import { type Ec2Settings, ec2Settings } from './settings.ts'

/** Bytes of user data before base64 (EC2 user guide, "Instance user data"). */
const MOST_BOOT_DATA = 16_384
/** Machines that may end by themselves in about an hour, for as long EC2 lists them, before we stop making more. */
const MOST_ENDED = 3
const ENDED_PAUSE_MS = 10 * 60_000
const PAGE_SIZE = 500
const ANSWER_MS = 30_000

export const provider: ProviderKind = {
  bootBytes: MOST_BOOT_DATA,
  create: (settings, context) => createEc2(parse('settings.provider', ec2Settings, settings), context),
}

/** Of a test that wants to see pages and timeouts. */
export interface Ec2Limits {
  readonly pageSize?: number
  readonly answerMs?: number
}

/** One region of Amazon EC2, or of what speaks its protocol. */
export function createEc2(settings: Ec2Settings, context: ProviderContext, limits: Ec2Limits = {}): Provider {
  const { installation, clock, target } = context
  const client = createClient({
    target,
    region: settings.region,
    endpoint: settings.endpoint,
    pace: context.pace,
    credential: context.credentialName,
    keys: async () =>
      context.credentialName === null ? null : keysOf(await context.credential(), context.credentialName),
    pageSize: limits.pageSize ?? PAGE_SIZE,
    answerMs: limits.answerMs ?? ANSWER_MS,
  })
  const machines = machineCalls(client)
  const networks = networkCalls(client)
  const turns = createSharing()
  const network = createNetwork(networks, settings, installation, clock, turns)
  const groups = createGroups(networks, installation, turns)
  const recent = createRecent(clock)
  const ours = { [TAG.installation]: installation }

  const listed = async (signal: AbortSignal) =>
    (await machines.machines(ours, signal)).filter(({ tags }) => tags[TAG.installation] === installation)

  /** The machine of this instance and generation that is there already. @throws when they end as fast as they are made */
  const adopted = async (
    order: MachineOrder,
    signal: AbortSignal,
  ): Promise<{ found: CloudMachine | null; ended: number }> => {
    const { [TAG.instance]: instance = '', [TAG.generation]: generation = '' } = order.tags
    const same = { ...ours, [TAG.instance]: instance, [TAG.generation]: generation }
    const siblings = await machines.machines(same, signal)
    const alive = recent
      .completed(siblings.filter(({ state }) => state !== 'terminated').flatMap(cloudMachine))
      .filter((m) => m.instance === order.instance && m.generation === order.generation && m.state !== 'ending')
      .toSorted((a, b) => a.createdAt - b.createdAt || (a.id < b.id ? -1 : 1))
    for (const { id } of alive.slice(1)) await machines.terminate(id, signal)
    const ended = siblings.filter(({ state }) => state === 'terminated' || state === 'shutting-down')
    const unasked = ended.filter(({ reason }) => !reason.startsWith('Client.UserInitiatedShutdown'))
    if (alive[0] === undefined && unasked.length >= MOST_ENDED) {
      const reason = unasked.map((m) => m.reason).find((text) => text !== '') ?? 'EC2 gives no reason'
      throw new OrchestratorError(
        'machine-ended',
        `${unasked.length} machines of ${order.name} ended by themselves: ${reason}`,
        {
          retryable: true,
          retryAfterMs: ENDED_PAUSE_MS,
        },
      )
    }
    return { found: alive[0] ?? null, ended: ended.length }
  }

  const make = async (order: MachineOrder, signal: AbortSignal): Promise<CloudMachine> => {
    const { found, ended } = await adopted(order, signal)
    if (found !== null) return found
    const { subnet, vpc } = await network.place(signal)
    const group = await groups.admitting(order.admit, vpc, signal)
    await order.asking()
    const made = await machines.run(
      {
        token: tokenOf(installation, order, ended),
        image: order.image,
        size: order.size,
        subnet,
        groups: [group],
        bootData: order.bootData,
        tags: { ...order.tags, ...ours, Name: order.name },
        spot: order.spot,
        instanceProfile: settings.instanceProfile,
        keyName: settings.keyName,
      },
      signal,
    )
    const machine = cloudMachine(made)[0]
    if (machine === undefined || made.state === 'terminated') throw unfinished(order)
    recent.made(machine)
    return machine
  }

  const tidying = createTidying(
    async (signal) => {
      const alive = (await listed(signal)).filter(({ state }) => state !== 'terminated')
      const known = recent.completed(alive.flatMap(cloudMachine))
      // What the list does not show yet may be in any of them.
      if (known.length > alive.length) return true
      const ending = new Set(known.filter(({ state }) => state === 'ending').map(({ id }) => id))
      const staying = alive.filter(({ id }) => !ending.has(id))
      const gone = await groups.remove(new Set(staying.flatMap((machine) => machine.groups)), signal)
      return !gone || (staying.length === 0 && !(await network.remove(signal)))
    },
    turns,
    context,
  )

  return {
    async list(signal) {
      const all = await listed(signal)
      const failed = all.filter((machine) => machine.state === 'terminated' && isFailed(machine, clock.now()))
      const told = all.filter(({ state }) => state !== 'terminated').flatMap(cloudMachine)
      await tidying.again(signal)
      return recent.completed([
        ...told,
        ...failed
          .flatMap(cloudMachine)
          .map((machine) => ({ ...machine, state: 'failed' as const, noRoom: isFull(machine) })),
      ])
    },

    async create(order, signal) {
      try {
        return await turns.take(`instance ${order.instance}`, signal, () =>
          tidying.making(() => make(order, signal), signal),
        )
      } catch (error) {
        if (saysSo(error, /^IdempotentParameterMismatch$/)) throw unfinished(order, error)
        if (settings.subnet !== undefined || !saysSo(error, /^Invalid(Group|GroupId|Subnet|SubnetID|VpcID)\.NotFound$/))
          throw error
        network.forget()
        groups.forget()
        throw new OrchestratorError(
          'network-pending',
          'the network or security group that we made is not there (yet)',
          {
            retryable: true,
            retryAfterMs: 2000,
            cause: error,
          },
        )
      }
    },

    async delete(id, signal) {
      try {
        await machines.terminate(id, signal)
      } catch (error) {
        // One that was just made may not be known everywhere yet.
        if (!saysSo(error, /^InvalidInstanceID\.NotFound$/) || recent.has(id)) throw asUnfinished(error, id)
      }
      recent.deleted(id)
    },

    tidy: tidying.tidy,

    async console(id, signal) {
      try {
        return await machines.console(id, signal)
      } catch (error) {
        if (saysSo(error, /^InvalidInstanceID\.NotFound$/)) return null
        throw error
      }
    },

    price: (size) => context.prices[size] ?? null,

    async check(signal): Promise<TargetCheck> {
      const found = await listed(signal)
      const abilities = [`list machines (${found.filter(({ state }) => state !== 'terminated').length} of ours)`]
      const missing: string[] = []
      const may = async (what: string, attempt: Promise<unknown>) => {
        try {
          await attempt
          abilities.push(what)
        } catch (error) {
          if (!(error instanceof OrchestratorError) || error.code !== 'not-permitted') throw error
          missing.push(error.message)
        }
      }
      const place = await network.existing(signal)
      if (place === null) await may('make networks', networks.mayMakeNetworks(settings.ipv4Block, signal))
      else await may('make security groups', networks.mayMakeGroups(place.vpc, signal))
      if (Object.keys(context.prices).length === 0) {
        missing.push('prices, which EC2 does not tell here: write those of the sizes that are used to settings.prices')
      }
      return { version: `EC2 2016-11-15 in ${settings.region}`, abilities, missing }
    },

    async close() {
      client.close()
    },
  }
}

/** What EC2 recognises a repeated request by: 64 characters, its limit. Another one when the machine of the last has ended. */
function tokenOf(installation: string, order: MachineOrder, ended: number): string {
  const { instance, generation } = order
  return createHash('sha256').update(`${installation} ${instance} ${generation} ${ended}`).digest('hex')
}

/** @throws OrchestratorError `credential-missing` naming the field */
function keysOf(fields: Readonly<Record<string, string>>, name: string): Keys {
  const { accessKeyId, secretAccessKey, sessionToken } = fields
  if (!accessKeyId || !secretAccessKey) {
    throw new OrchestratorError(
      'credential-missing',
      `the stored credential ${name} lacks ${accessKeyId ? 'secretAccessKey' : 'accessKeyId'}: set it anew with orctl credential`,
    )
  }
  return { accessKeyId, secretAccessKey, ...(sessionToken !== undefined && { sessionToken }) }
}

const STATES: Readonly<Record<string, CloudMachine['state']>> = {
  pending: 'starting',
  running: 'running',
  'shutting-down': 'ending',
  terminated: 'ending',
  stopping: 'stopped',
  stopped: 'stopped',
}

/** EC2 took the request, and ended the machine by itself as soon as it was made: told for as long as {@link Recent} knows better. */
function isFailed({ reason, launchedAt }: Ec2Machine, now: number): boolean {
  return /^(Server\.|Client\.(?!UserInitiated|InstanceInitiated))/.test(reason) && now - launchedAt < KNOWN_BETTER_MS
}

function isFull({ detail = '' }: CloudMachine): boolean {
  return /^(Server\.Insufficient|Client\.\w*LimitExceeded|Server\.SpotInstance)/.test(detail)
}

/** Nothing for what carries no instance: somebody copied our tag. */
function cloudMachine(machine: Ec2Machine): CloudMachine[] {
  const { [TAG.instance]: instance, [TAG.generation]: generation } = machine.tags
  if (instance === undefined || generation === undefined || !/^\d+$/.test(generation)) return []
  return [
    {
      id: machine.id,
      instance,
      generation: Number(generation),
      state: STATES[machine.state] ?? 'starting',
      address: machine.address,
      createdAt: machine.launchedAt,
      ...(machine.reason !== '' && { detail: machine.reason }),
    },
  ]
}

function unfinished(order: MachineOrder, cause?: unknown): OrchestratorError {
  return new OrchestratorError(
    'machine-pending',
    `EC2 knows the request for ${order.name} but does not list its machine yet`,
    {
      retryable: true,
      retryAfterMs: 5000,
      cause,
    },
  )
}

function asUnfinished(error: unknown, id: string): unknown {
  if (!saysSo(error, /^InvalidInstanceID\.NotFound$/)) return error
  return new OrchestratorError('machine-pending', `EC2 does not know ${id} everywhere yet, which was just made`, {
    retryable: true,
    retryAfterMs: 5000,
    cause: error,
  })
}
