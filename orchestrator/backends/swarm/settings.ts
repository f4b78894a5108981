import { readFile } from 'node:fs/promises'
import { z } from 'zod'
import { InvalidInput, OrchestratorError } from '../../../common/errors.ts'
import type { BackendContext } from '../backend.ts'

/** `tcp://HOST:PORT` (an IPv6 address in brackets) or `unix:///PATH`. */
const manager = z.string().regex(/^(tcp:\/\/(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9.-]+):\d{1,5}|unix:\/\/\/[^\0]+)$/, {
  message: 'expected tcp://HOST:PORT, with an IPv6 address in brackets, or unix:///PATH',
})
const path = z.string().regex(/^\/[^\0]+$/, 'expected an absolute path')
/** As `docker service create --constraint` has them: `node.labels.zone==a`, `node.role!=manager`. */
export const constraint = z
  .string()
  .max(256)
  .regex(/^(node|engine)\.[A-Za-z0-9_.-]+\s*(==|!=)\s*\S.*$/, 'expected such as node.labels.zone==a')

const settingsShape = z.strictObject({
  /** Managers to ask; the one that answers is kept until it no longer does. */
  managers: z.array(manager).min(1).max(16),
  /** How managers know us, and we them. PEM. Needed with tcp://: whoever reaches a manager without it is root there. */
  tls: z
    .union([
      /** A stored credential with the fields `ca`, `cert` and `key`. */
      z.strictObject({ credential: z.string().min(1).max(63) }),
      z.strictObject({ ca: path, cert: path, key: path }),
    ])
    .optional(),
  /** Id of the swarm (`docker info`); absent: that of the first one that is ever met. */
  swarm: z
    .string()
    .regex(/^[a-z0-9]{25}$/, 'expected the id of a swarm, 25 of a-z and 0-9')
    .optional(),
  /** What a node must have to run any of our tasks. */
  constraints: z.array(constraint).max(16).default([]),
  /**
   * Whether every node's engine runs with `no-new-privileges`: engines before 25 (API 1.44) do not know it for single tasks,
   * so that a template that asks for it is refused without this.
   */
  nodesForbidNewPrivileges: z.boolean().default(false),
  /** Seconds that a manager may take for one answer. */
  callSeconds: z.number().min(1).max(120).default(10),
  /** Seconds between two looks at the tasks: a swarm tells no events of them. */
  pollSeconds: z.number().min(0.2).max(60).default(2),
  /** Seconds for which a new task is watched before an update counts as done. */
  monitorSeconds: z.number().min(1).max(600).default(5),
})
export type SwarmSettings = z.infer<typeof settingsShape>

/** @throws InvalidInput naming the setting */
export function parseSettings(settings: unknown): SwarmSettings {
  const parsed = settingsShape.safeParse(settings)
  if (!parsed.success) {
    const [issue] = parsed.error.issues
    const named = issue?.code === 'unrecognized_keys' ? issue.keys.slice(0, 1) : []
    throw new InvalidInput(['settings', ...(issue?.path ?? []), ...named].join('.'), issue?.message ?? 'not understood')
  }
  const open = parsed.data.managers.find((url) => url.startsWith('tcp:'))
  if (open !== undefined && parsed.data.tls === undefined) {
    throw new InvalidInput('settings.tls', `${open} needs it: give it the paths ca, cert and key, or a credential`)
  }
  return parsed.data
}

/** PEM texts. */
export interface Tls {
  readonly ca: string
  readonly cert: string
  readonly key: string
}

/** Reads what TLS needs, anew each time: it may have been rotated. @throws OrchestratorError naming what is missing */
export async function readTls(settings: SwarmSettings, context: Pick<BackendContext, 'credential'>): Promise<Tls> {
  const { tls } = settings
  if (tls === undefined) throw new InvalidInput('settings.tls', 'tcp:// needs it')
  if ('credential' in tls) {
    const { ca, cert, key } = await context.credential(tls.credential)
    if (ca !== undefined && cert !== undefined && key !== undefined) return { ca, cert, key }
    const missing = Object.entries({ ca, cert, key }).flatMap(([name, value]) => (value === undefined ? [name] : []))
    throw new OrchestratorError(
      'credential-incomplete',
      `credential ${tls.credential} lacks ${missing.join(', ')}: set it again with ca, cert and key, each a PEM text`,
    )
  }
  const read = async (name: keyof Tls): Promise<string> => {
    try {
      return await readFile(tls[name], 'utf8')
    } catch (cause) {
      const message = `settings.tls.${name}: ${tls[name]} cannot be read: ${(cause as Error).message}`
      throw new OrchestratorError('tls-unreadable', message, { cause })
    }
  }
  const [ca, cert, key] = await Promise.all([read('ca'), read('cert'), read('key')])
  return { ca, cert, key }
}
