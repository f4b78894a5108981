import { z } from 'zod'
import type { Services } from './answers.ts'
import { unless } from './answers.ts'

const address = z.looseObject({ addr: z.string(), version: z.number() })
const serverShape = z.looseObject({
  id: z.string(),
  status: z.string(),
  created: z.string(),
  metadata: z.record(z.string(), z.string()),
  addresses: z.record(z.string(), z.array(address)).default({}),
  'OS-EXT-STS:task_state': z.string().nullish(),
  fault: z.looseObject({ message: z.string() }).optional(),
})
/** A server as Compute API 2.52 shows it. */
export type Server = z.infer<typeof serverShape>

const flavorShape = z.looseObject({ id: z.string(), name: z.string() })
const limitsShape = z.looseObject({
  limits: z.looseObject({
    absolute: z.looseObject({
      maxTotalInstances: z.number(),
      totalInstancesUsed: z.number(),
      maxTotalCores: z.number(),
      totalCoresUsed: z.number(),
      maxTotalRAMSize: z.number(),
      totalRAMUsed: z.number(),
    }),
  }),
})
const versionShape = z.looseObject({ version: z.looseObject({ version: z.string(), min_version: z.string() }) })

/** A server that is to be: the ids of everything. */
export interface ServerRequest {
  readonly name: string
  readonly image: string
  readonly flavor: string
  readonly port: string
  readonly metadata: Readonly<Record<string, string>>
  readonly tags: readonly string[]
  readonly userData: string
  readonly configDrive: boolean
  readonly availabilityZone?: string | undefined
  readonly keyName?: string | undefined
}

/** Nova (Compute API v2.1, microversion of session.ts). */
export interface Nova {
  /** Servers that have all of these tags, every page. */
  servers(tags: readonly string[], signal: AbortSignal): Promise<readonly Server[]>
  /** Null: there is none. */
  server(id: string, signal: AbortSignal): Promise<Server | null>
  /** @returns its id */
  create(request: ServerRequest, signal: AbortSignal): Promise<string>
  delete(id: string, signal: AbortSignal): Promise<void>
  /** Its last lines; null: there is no such server, or it has no console. */
  console(id: string, lines: number, signal: AbortSignal): Promise<string | null>
  flavors(signal: AbortSignal): Promise<readonly { readonly id: string; readonly name: string }[]>
  limits(signal: AbortSignal): Promise<z.infer<typeof limitsShape>['limits']['absolute']>
  /** Highest and lowest microversion. */
  versions(signal: AbortSignal): Promise<{ readonly most: string; readonly least: string }>
}

export function createNova(services: Services): Nova {
  return {
    servers: (tags, signal) =>
      services.list(
        'compute',
        `/servers/detail?tags=${tags.map(encodeURIComponent).join()}`,
        'servers',
        serverShape,
        signal,
      ),
    async server(id, signal) {
      let found: Server | null = null
      await unless(
        [404],
        services
          .ask('compute', { method: 'GET', path: `/servers/${id}` }, z.looseObject({ server: serverShape }), signal)
          .then(({ server }) => {
            found = server
          }),
      )
      return found
    },
    async create(request, signal) {
      const { name, metadata, tags, availabilityZone, keyName } = request
      const server = {
        ...{ name, metadata, tags, imageRef: request.image, flavorRef: request.flavor },
        networks: [{ port: request.port }],
        user_data: Buffer.from(request.userData).toString('base64'),
        config_drive: request.configDrive,
        ...(availabilityZone !== undefined && { availability_zone: availabilityZone }),
        ...(keyName !== undefined && { key_name: keyName }),
      }
      const shape = z.looseObject({ server: z.looseObject({ id: z.string() }) })
      const call = { method: 'POST', path: '/servers', body: { server } } as const
      return (await services.ask('compute', call, shape, signal)).server.id
    },
    async delete(id, signal) {
      await unless([404], services.tell('compute', { method: 'DELETE', path: `/servers/${id}` }, signal))
    },
    async console(id, length, signal) {
      let output: string | null = null
      const call = {
        ...({ method: 'POST', path: `/servers/${id}/action`, repeatable: true } as const),
        body: { 'os-getConsoleOutput': { length } },
      }
      await unless(
        [404, 409, 501],
        services.ask('compute', call, z.looseObject({ output: z.string() }), signal).then((answer) => {
          output = answer.output
        }),
      )
      return output
    },
    flavors: (signal) => services.list('compute', '/flavors/detail', 'flavors', flavorShape, signal),
    async limits(signal) {
      return (await services.ask('compute', { method: 'GET', path: '/limits' }, limitsShape, signal)).limits.absolute
    },
    async versions(signal) {
      const { version } = await services.ask('compute', { method: 'GET', path: '/' }, versionShape, signal)
      return { most: version.version, least: version.min_version }
    },
  }
}
