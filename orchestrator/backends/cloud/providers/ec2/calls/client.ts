import {
  type $Command,
  EC2Client,
  type EC2ClientResolvedConfig,
  type Filter,
  type ResourceType,
  type ServiceInputTypes,
  type ServiceOutputTypes,
  type Tag,
} from '@aws-sdk/client-ec2'
import type { Pace } from '../../../pace.ts'
import { type Asked, explained, saysSo } from '../failures.ts'

export type Tags = Readonly<Record<string, string>>

export interface CallOptions {
  readonly target: string
  readonly region: string
  readonly endpoint: string | undefined
  readonly pace: Pace
  /** Name of the stored credential, for errors. */
  readonly credential: string | null
  /** Asked before each call; null: the SDK's own chain (environment, files, web identity, container and instance roles). */
  keys(): Promise<Keys | null>
  /** Items of a page, 5 to 1,000. */
  readonly pageSize: number
  /** Milliseconds for one answer. */
  readonly answerMs: number
}

export interface Keys {
  readonly accessKeyId: string
  readonly secretAccessKey: string
  readonly sessionToken?: string
}

/** EC2's API (2016-11-15) through the SDK, one call at a time. */
export type Client = ReturnType<typeof createClient>

export function createClient(options: CallOptions) {
  /** The last holds now; calls may still be under way with those before. */
  const clients: EC2Client[] = []
  let usedKeys = ''
  /** A client for the keys that hold now: the SDK itself would keep the first ones for ever. */
  const current = async (): Promise<EC2Client> => {
    const keys = await options.keys()
    const text = JSON.stringify(keys)
    const newest = clients.at(-1)
    if (newest !== undefined && text === usedKeys) return newest
    const next = new EC2Client({
      region: options.region,
      // Whoever calls us repeats, with pauses of his own and the provider's hints.
      maxAttempts: 1,
      ...(options.endpoint !== undefined && { endpoint: options.endpoint }),
      ...(keys !== null && { credentials: keys }),
    })
    usedKeys = text
    clients.push(next)
    return next
  }

  /** @param about what stands in the wording of an error */
  async function call<I extends ServiceInputTypes, O extends ServiceOutputTypes>(
    command: $Command<I, O, EC2ClientResolvedConfig>,
    signal: AbortSignal,
    about: Pick<Asked, 'size' | 'image'> = {},
  ): Promise<O> {
    signal.throwIfAborted()
    await options.pace.turn(signal)
    const ec2 = await current()
    const limit = AbortSignal.timeout(options.answerMs)
    try {
      return await ec2.send(command, { abortSignal: AbortSignal.any([signal, limit]) })
    } catch (error) {
      signal.throwIfAborted()
      const late = limit.aborted ? new Error(`no answer within ${options.answerMs} ms`, { cause: error }) : error
      const told = explained(late, { ...asked(nameOf(command)), size: about.size, image: about.image })
      if (told.code === 'rate-limited') options.pace.hold(told.retryAfterMs ?? 0)
      throw told
    }
  }

  function asked(action: string): Asked {
    const { target, region, credential, endpoint } = options
    return { target, region, credential, foreign: endpoint !== undefined, action }
  }

  function required<T>(value: T | undefined, action: string): T {
    if (value === undefined) throw explained(new Error('an answer without what was asked for'), asked(action))
    return value
  }

  /** EC2 answers a dry run that would have succeeded with an error. @throws `not-permitted` */
  async function wouldBe(run: Promise<unknown>): Promise<void> {
    await run.catch((error: unknown) => {
      if (!saysSo(error, /^DryRunOperation$/)) throw error
    })
  }

  return {
    call,
    required,
    wouldBe,
    /** What every Describe call asks for. */
    ask: (tags: Tags, more: Readonly<Record<string, string>> = {}) => ({
      Filters: filters(tags, more),
      MaxResults: options.pageSize,
    }),
    close() {
      for (const client of clients.splice(0)) client.destroy()
      usedKeys = ''
    },
  }
}

function filters(tags: Tags, more: Readonly<Record<string, string>>): Filter[] {
  const named: Tags = {
    ...Object.fromEntries(Object.entries(tags).map(([key, value]) => [`tag:${key}`, value])),
    ...more,
  }
  return Object.entries(named).map(([Name, value]) => ({ Name, Values: [value] }))
}

export function specification(ResourceType: ResourceType, tags: Tags) {
  return { ResourceType, Tags: Object.entries(tags).map(([Key, Value]) => ({ Key, Value })) }
}

export function idOf({ id }: { readonly id: string }): string {
  return id
}

/** `RunInstances`: the SDK names its commands after the actions of the API. */
function nameOf(command: object): string {
  return command.constructor.name.replace(/Command$/, '')
}

export function plain(tags: readonly Tag[] | undefined): Tags {
  return Object.fromEntries((tags ?? []).map(({ Key, Value }) => [Key ?? '', Value ?? '']))
}

/** EC2 may end a list with an empty token as well as with none. */
export function nextOf(answer: { readonly NextToken?: string | undefined }): string | undefined {
  return answer.NextToken === '' ? undefined : answer.NextToken
}
