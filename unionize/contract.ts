import { z } from 'zod'
import { DROP_REASONS } from '../common/drop-reasons.ts'
import { checkWiring, instanceWiringShape } from '../common/instance-wiring.ts'
import { type ServiceSpec, servicesShape } from '../common/service-spec.ts'

/**
 * The messages between the two daemons: JSON texts over one WebSocket that `unionize` opens. Both sides validate what they
 * receive. A message that the receiver's version does not know is an error that closes the connection, never ignored.
 */
export const PROTOCOL_VERSION = 3
/** Path of the hosts' socket on the orchestrator. */
export const HOSTS_SOCKET_PATH = '/v1/hosts/connect'
/** Bytes of one message at most; a lease snapshot is sent in parts of at most {@link SNAPSHOT_PART} leases. */
export const MAX_MESSAGE_BYTES = 4 * 1024 * 1024
export const SNAPSHOT_PART = 2000
/** Lease events in one `leases` message at most: each is one transaction, during which an orchestrator on SQLite does nothing else. */
export const MAX_BATCH = 32
/** Ways of one host at most: owners whose instances are elsewhere. */
export const MAX_WAYS = 10_000
/** Bytes of `/orchestrator/outputs.json` at most; a larger one is not read, and that is told. */
export const MAX_OUTPUTS_BYTES = 64 * 1024

const id = z.string().min(1).max(64)
/** Instance ids: also used in container names. */
const instanceId = z.string().regex(/^[a-z][a-z0-9-]{2,40}$/)
const epochMs = z.number().int().nonnegative()
const ipv6 = z.ipv6()

const owner = z.object({
  duid: z.string().max(400),
  iaid: z.number().int().min(0).max(0xffff_ffff),
})

/** What a lease server said about the device; every field is optional because `old` events carry next to nothing. */
const leaseFacts = z.object({
  mac: z.string().max(64).optional(),
  hostname: z.string().max(255).optional(),
  interface: z.string().max(64).optional(),
  relay: z.string().max(64).optional(),
  mudUrl: z.string().max(2048).optional(),
  domain: z.string().max(255).optional(),
  vendorClass: z.string().max(1024).optional(),
  tags: z.array(z.string().max(255)).max(64).optional(),
  userClasses: z.array(z.string().max(255)).max(32).optional(),
  requestedOptions: z.array(z.number().int()).max(255).optional(),
})
export type WireLeaseFacts = z.infer<typeof leaseFacts>

const lease = z.object({
  owner,
  address: ipv6,
  expiresAt: epochMs.nullable(),
  facts: leaseFacts,
})
/** One lease as a lease server keeps it. `expiresAt`: epoch ms, null is never. */
export type WireLease = z.infer<typeof lease>

/** A place in a journal: `journal` names the file's identity (it survives a rename), `offset` is the byte after the event's line. */
const position = z.object({
  journal: z.string().max(128),
  offset: z.number().int().nonnegative(),
})
export type Position = z.infer<typeof position>

/** `granted`: add; `confirmed`: old; `ended`: del. `hookAt`: when the hook wrote the line, epoch ms. */
const leaseEvent = z.object({
  type: z.literal('event'),
  kind: z.enum(['granted', 'confirmed', 'ended']),
  lease,
  position,
  hookAt: epochMs,
})
export type WireLeaseEvent = z.infer<typeof leaseEvent>

/** A journal line that could not be understood. `original` is its beginning, at most 4096 characters. */
const refusedLine = z.object({
  type: z.literal('refused'),
  reason: z.string().max(2000),
  original: z.string().max(4096),
  position,
  hookAt: epochMs,
})
export type WireRefusedLine = z.infer<typeof refusedLine>

export type WireService = ServiceSpec

const orderFields = z.object({
  instance: instanceId,
  generation: z.number().int().positive(),
  owner,
  /** DNS label of the instance, without the domain. */
  name: z.string().regex(/^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/),
  address: ipv6,
  ownerAddress: ipv6,
  /** The first is the entry. */
  services: servicesShape,
  /** Whether every service gets a `/orchestrator` to write outputs.json to, which is then told in `observed`. */
  outputs: z.boolean(),
  /** What the template's operator wants beyond a place on the bridge; absent: nothing. */
  wiring: instanceWiringShape.optional(),
  /** TCP port of the instance that tells whether it is reachable; null: nothing is probed. */
  entryPort: z.number().int().min(1).max(65535).nullable(),
})
export const orderShape = orderFields.superRefine((order, context) => {
  const path = (one: { name: string }) => ['services', order.services.findIndex((s) => s.name === one.name)]
  checkWiring(order.services, order.wiring, path, context)
})
/** All that a host must know to make one instance. Sending it again changes nothing. */
export type WireOrder = z.infer<typeof orderShape>

/** Names of the stages of a start, each an epoch ms: when the sandbox was taken and wired, the services started, the entry port answered. */
const marks = z.object({
  receivedAt: epochMs.optional(),
  sandboxAt: epochMs.optional(),
  startedAt: epochMs.optional(),
  reachableAt: epochMs.optional(),
})
export type WireMarks = z.infer<typeof marks>

const observed = z.object({
  instance: instanceId,
  generation: z.number().int().nonnegative(),
  /** `partial`: some of its parts are missing or stopped. */
  state: z.enum(['running', 'partial', 'stopped']),
  address: ipv6.nullable(),
  detail: z.string().max(2000).optional(),
  marks: marks.optional(),
  /** Text of the outputs file when it has changed since it was last told. */
  outputs: z.string().max(MAX_OUTPUTS_BYTES).optional(),
})
export type WireObserved = z.infer<typeof observed>

/**
 * Where an owner of this host finds an instance that is elsewhere: `routed`, with its own address, behind the next hop `via`;
 * `translated`, at another address, to which it comes from the host's own.
 */
const way = z.object({
  instance: instanceId,
  generation: z.number().int().positive(),
  owner: ipv6,
  /** The instance's own address, of the instances' prefix. */
  address: ipv6,
  reach: z.discriminatedUnion('kind', [
    z.object({ kind: z.literal('routed'), via: ipv6 }),
    z.object({ kind: z.literal('translated'), address: ipv6 }),
  ]),
})
export const waysShape = z.array(way).max(MAX_WAYS)
export type WireWay = z.infer<typeof way>

/** An image that the host is to have beforehand, and whence. `archive`: `GET` of {@link archivePath}, the engine's own save format. */
const wantedImage = z.object({
  image: z.string().min(1).max(512),
  from: z.discriminatedUnion('kind', [
    z.object({ kind: z.literal('registry') }),
    z.object({
      kind: z.literal('archive'),
      sha256: z.string().regex(/^[0-9a-f]{64}$/),
      bytes: z.number().int().nonnegative(),
    }),
  ]),
})
export type WireWantedImage = z.infer<typeof wantedImage>

const failure = z.object({
  code: z.string().max(64),
  message: z.string().max(4000),
  retryable: z.boolean(),
})
export type WireFailure = z.infer<typeof failure>

/** What `unionize` sends. */
export const fromHost = z.discriminatedUnion('type', [
  z.object({
    type: z.literal('hello'),
    protocol: z.number().int(),
    version: z.string().max(64),
    facts: z.object({
      engine: z.string().max(256),
      kernel: z.string().max(256),
      instances: z.number().int().nonnegative(),
      /** Where other hosts and machines reach this one; absent: it knows of none. */
      address: ipv6.optional(),
    }),
  }),
  z.object({
    type: z.literal('leases'),
    id,
    items: z
      .array(z.discriminatedUnion('type', [leaseEvent, refusedLine]))
      .min(1)
      .max(MAX_BATCH),
  }),
  /** The lease table as a whole, as read at `readAt`, in parts; the receiver acts on the last one. */
  z.object({
    type: z.literal('snapshot'),
    id,
    readAt: epochMs,
    part: z.number().int().nonnegative(),
    last: z.boolean(),
    leases: z.array(lease).max(SNAPSHOT_PART),
  }),
  z.object({
    type: z.literal('result'),
    id,
    observed: z.array(observed).max(100_000).optional(),
    failure: failure.optional(),
  }),
  /** Something changed by itself: a service died, or the entry port answered for the first time. */
  z.object({ type: z.literal('observed'), observed }),
  /** Something an operator should know, in words; `code` is stable. */
  z.object({
    type: z.literal('notice'),
    level: z.enum(['info', 'warning', 'error']),
    code: z.string().max(64),
    message: z.string().max(4000),
  }),
  /**
   * Packets that the host's firewall dropped, by reason, since its kernel began to count. Smaller numbers than before mean
   * that it began anew.
   */
  z.object({
    type: z.literal('dropped'),
    packets: z.partialRecord(z.enum(DROP_REASONS), z.number().int().nonnegative().max(Number.MAX_SAFE_INTEGER)),
  }),
  z.object({
    type: z.literal('output'),
    id,
    text: z.string().max(1024 * 1024),
  }),
])
export type FromHost = z.infer<typeof fromHost>

/** What the orchestrator sends. */
export const toHost = z.discriminatedUnion('type', [
  z.object({
    type: z.literal('welcome'),
    protocol: z.number().int(),
    version: z.string().max(64),
    host: z.string().max(64),
  }),
  /** The `leases` or `snapshot` message `id` is stored: its offset may be saved. */
  z.object({ type: z.literal('stored'), id }),
  z.object({ type: z.literal('ensure'), id, order: orderShape }),
  z.object({
    type: z.literal('remove'),
    id,
    instance: instanceId,
    generation: z.number().int().positive(),
  }),
  z.object({ type: z.literal('list'), id }),
  /**
   * Lead an owner to its instance elsewhere, in place of a former way to that instance. Of an owner's instances, here and
   * elsewhere, `my.instance` leads to the one that was said last.
   */
  z.object({ type: z.literal('lead'), id, way }),
  /** Take the way to an instance away, established connections too. */
  z.object({ type: z.literal('unlead'), id, instance: instanceId, generation: z.number().int().positive() }),
  /** All ways that this host is to have: exactly these. What is the same as before stays as it is. */
  z.object({ type: z.literal('leads'), id, ways: waysShape }),
  /** All images that this host is to have; what we fetched or built there and is not named here may go. Answered when all are there. */
  z.object({ type: z.literal('images'), id, wanted: z.array(wantedImage).max(10_000) }),
  /**
   * Build an image: the context is fetched from {@link contextPath} (tar), the log comes as `output` messages, and `result` is
   * sent when it is built and pushed (`push`), or its archive was put to {@link archivePath}.
   */
  z.object({
    type: z.literal('build'),
    id,
    build: z.string().regex(/^b-[0-9a-z]{10}$/),
    image: z.string().min(1).max(512),
    arguments: z.record(z.string().max(128), z.string().max(4096)),
    push: z.boolean(),
    /** Milliseconds and bytes of log after which it is given up. */
    mostMs: z.number().int().positive(),
    mostLogBytes: z.number().int().positive(),
  }),
  /** Answered by `output` messages and a `result`. */
  z.object({
    type: z.literal('logs'),
    id,
    instance: instanceId,
    service: z.string().optional(),
    follow: z.boolean(),
    tail: z.number().int().min(0).max(100_000),
  }),
  /** Stop working on request `id`; its `result` is still sent. */
  z.object({ type: z.literal('cancel'), id }),
])
export type ToHost = z.infer<typeof toHost>

/** Where a host gets the context of a build (GET, application/x-tar), with its certificate. */
export const contextPath = (build: string) => `/v1/hosts/builds/${build}/context`
/** Where a host puts the archive of what it built (PUT, with `?build=ID`) and others get it (GET), by the SHA-256 of its bytes, with their certificates. */
export const archivePath = (sha256: string) => `/v1/hosts/archives/${sha256}`

/** Container labels by which everything of ours is found again. */
export const LABEL = {
  role: 'org.orchestrator.role',
  host: 'org.orchestrator.host',
  instance: 'org.orchestrator.instance',
  service: 'org.orchestrator.service',
  /** Of a hub of private networks: its client, as `DUID/IAID`. */
  owner: 'org.orchestrator.owner',
  generation: 'org.orchestrator.generation',
  /** The order as JSON, without environment values and files, kept so that a restart can compare and rewire. */
  order: 'org.orchestrator.order',
} as const

/** Body of `POST /v1/hosts/join`, without any other authentication than the one-time token. */
export const joinRequest = z.object({
  token: z.string().min(16).max(256),
  host: z.string().regex(/^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/),
  /** PEM certificate signing request (PKCS #10). */
  csr: z.string().max(8192),
})
export type JoinRequest = z.infer<typeof joinRequest>
/** PEM texts. */
export const joinResponse = z.object({
  host: z.string(),
  certificate: z.string(),
  authority: z.string(),
})
export type JoinResponse = z.infer<typeof joinResponse>
