import { z } from 'zod'
import { parseIpv6, parsePrefix } from '../../../../common/ipv6.ts'
import { keyText, readDocument } from '../../../compose/document.ts'
import type { Fault } from '../../../compose/faults.ts'

/** What a machine is to be, as `orctl machine config` reads it from a short YAML file. */
export type MachineConfig = z.output<typeof machineConfig>

const CONFIG_FILE = { name: "a machine's file", expected: 'a map with `hostname`', bytes: 1024 * 1024, values: 10_000 }

/** RFC 1123, section 2.1: one label of a host name. */
const label = z.string().regex(/^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/, 'expected a host name: a-z, 0-9 and -')
/** As useradd(8) of Debian and Fedora takes it. */
const userName = z.string().regex(/^[a-z_][a-z0-9_-]{0,30}$/, 'expected a user name: a-z, 0-9, _ and -')
const sshKey = z
  .string()
  .max(16_384)
  .regex(/^(ssh|ecdsa|sk)-[\w@.-]+ [A-Za-z0-9+/]+=*( [^\r\n]*)?$/, 'expected a public key, as in a .pub file')
const absolute = z
  .string()
  .max(1024)
  .regex(/^(\/[^/\0\n]+)+$/, 'expected an absolute path')
  .refine((path) => !path.split('/').includes('..'), 'expected a path without ..')
const mode = z.string().regex(/^0?[0-7]{3,4}$/, 'expected an octal mode in quotes, such as "0644"')
const unitName = z
  .string()
  .max(255)
  .regex(
    /^[\w:.@\\-]+\.(service|socket|timer|path|mount|target|slice)$/,
    'expected the name of a unit, such as web.service',
  )
const secretName = z
  .string()
  .regex(/^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$/, 'expected a name of letters, digits, . _ and -')
const ipv6 = checked(parseIpv6)
const withPrefix = checked((text) => {
  if (!text.includes('/')) throw new Error('expected an address with the length of its prefix, such as fd00::4/64')
  const address = text.slice(0, text.indexOf('/'))
  parseIpv6(address)
  parsePrefix(`::/${text.slice(text.indexOf('/') + 1)}`)
})
/** `http://[fd00::4]:2380`: nothing but a scheme, a host and a port, as etcd wants it. */
const url = z
  .string()
  .max(255)
  .regex(/^https?:\/\/(\[[0-9a-f:]+\]|[\w.-]+):\d{1,5}$/, 'expected http(s)://host:port')
/** Paths that stand in files of variables, which shells read too. */
const plainPath = absolute.regex(/^[\w./-]+$/, 'expected a path of letters, digits, . _ and -')

const user = z.strictObject({
  name: userName,
  groups: z.array(userName).max(32).default([]),
  'ssh-keys': z.array(sshKey).max(64).default([]),
  /** As in /etc/shadow, see crypt(5). */
  'password-hash': z
    .string()
    .max(512)
    .regex(/^\$[\w./=$,-]+$/, 'expected a hash as mkpasswd prints it')
    .optional(),
  sudo: z.boolean().default(false),
})

const file = z
  .strictObject({
    path: absolute,
    mode: mode.default('0644'),
    owner: userName.default('root'),
    text: z
      .string()
      .max(1024 * 1024)
      .optional(),
    /** Path of a file beside this one, whose content it gets. */
    local: z.string().max(1024).optional(),
  })
  .refine((given) => (given.text === undefined) !== (given.local === undefined), 'expected either `text` or `local`')

const disk = z.strictObject({
  device: absolute,
  filesystem: z.enum(['ext4', 'xfs', 'btrfs']).default('ext4'),
  label: z.string().regex(/^[\w-]{1,12}$/, 'expected a label of at most 12 letters, digits, _ and -'),
  mount: absolute,
  /** Makes a file system also where there is one; else one that bears the label is kept. */
  wipe: z.boolean().default(false),
})

const unit = z
  .strictObject({
    name: unitName,
    enabled: z.boolean().default(true),
    text: z.string().max(65_536).optional(),
    /** What is added to a unit that the system brings, by name of the drop-in. */
    'drop-ins': z
      .record(z.string().regex(/^[\w.@-]+\.conf$/, 'expected NAME.conf'), z.string().max(65_536))
      .default({}),
    /** Secrets (`orctl machine secrets push`) without which it is not started. */
    'needs-secrets': z.array(secretName).max(32).default([]),
  })
  .refine((given) => given['needs-secrets'].length === 0 || given.name.endsWith('.service'), {
    path: ['needs-secrets'],
    error: 'only a service waits for secrets',
  })

const etcd = z
  .strictObject({
    name: label.optional(),
    /** URLs by which the others reach it. */
    peer: url,
    client: url,
    /** Peer URLs of all members by name, this one among them: `orctl machine describe NAME` shows those of a cluster that runs. */
    cluster: z.record(label, url),
    /** `existing`: it joins a cluster that runs, which must know it before it boots. */
    state: z.enum(['new', 'existing']),
    token: z
      .string()
      .regex(/^[\w.-]{1,64}$/, 'expected letters, digits, . _ and -')
      .default('orchestrator'),
    /** The image with etcd in it; absent: the program /usr/bin/etcd is on the machine. */
    image: z
      .string()
      .max(512)
      .regex(/^[\w][\w./:@-]+$/, 'expected the name of an image')
      .optional(),
    /** Files on the machine for TLS, of `files` or of /run/orchestrator/secrets. */
    tls: z.strictObject({ ca: plainPath, certificate: plainPath, key: plainPath }).optional(),
  })
  .refine((given) => given.tls !== undefined || given.peer.startsWith('http:'), {
    path: ['tls'],
    error: 'a peer URL with https needs `tls`',
  })

const machineConfig = z
  .strictObject({
    hostname: label,
    /** Who the orchestrator logs in as; it becomes root by sudo. */
    user: userName.default('core'),
    'ssh-keys': z.array(sshKey).min(1, 'expected at least one key: nobody could log in').max(64),
    /** Path of a private Ed25519 key beside this file: the machine shows it, so its public half can be pinned before it boots. */
    'host-key': z.string().max(1024).optional(),
    users: z.array(user).max(64).default([]),
    network: z
      .strictObject({
        /** Name of the interface, `*` in it stands for anything. */
        interface: z
          .string()
          .regex(/^[\w.*-]{1,15}$/, 'expected the name of an interface, such as en*')
          .default('en*'),
        addresses: z.array(withPrefix).min(1).max(16),
        gateway: ipv6.optional(),
        dns: z.array(ipv6).max(3).default([]),
      })
      .optional(),
    disks: z.array(disk).max(16).default([]),
    files: z.array(file).max(256).default([]),
    units: z.array(unit).max(128).default([]),
    profile: z
      .strictObject({ runtime: z.enum(['podman', 'docker']).default('podman'), etcd: etcd.optional() })
      .default({ runtime: 'podman' }),
    /** `machine`: a target of the coreos backend. `host`: it joins as a host that runs unionize, which must be installed on it. */
    unionize: z.enum(['machine', 'host']).default('machine'),
    join: z
      .strictObject({
        server: z.url({ protocol: /^https$/, error: 'expected https://name:port' }).max(2048),
        /** As `orctl create token` prints it: works once. */
        token: z.string().regex(/^orc1\.[A-Za-z0-9_-]{16,}\.[0-9a-f]{64}$/, 'expected a token of `orctl create token`'),
      })
      .optional(),
  })
  .superRefine((given, context) => {
    const fault = (path: (string | number)[], message: string) => context.addIssue({ code: 'custom', path, message })
    if (given.unionize === 'host' && given.join === undefined) {
      fault(['unionize'], 'a host needs `join` with server and token')
    }
    if (given.unionize === 'machine' && given.join !== undefined) {
      fault(['join'], 'is for `unionize: host` alone; a machine is made known by `orctl machine add`')
    }
    const twice = (list: string, names: readonly string[]) => {
      const index = names.findIndex((name, i) => names.indexOf(name) !== i)
      if (index >= 0) fault([list, index], `${names[index]} stands here twice`)
    }
    twice(
      'users',
      given.users.map(({ name }) => name),
    )
    twice(
      'files',
      given.files.map(({ path }) => path),
    )
    twice(
      'units',
      given.units.map(({ name }) => name),
    )
    const user = given.users.findIndex(({ name }) => name === given.user)
    if (user >= 0)
      fault(['users', user], `${given.user} is the user of the orchestrator already, from \`user\` and \`ssh-keys\``)
    const { etcd } = given.profile
    if (etcd !== undefined && etcd.cluster[etcd.name ?? given.hostname] !== etcd.peer) {
      fault(['profile', 'etcd', 'cluster'], `expected ${etcd.name ?? given.hostname} in it, with the URL of \`peer\``)
    }
  })

/** Reads a machine's file. Every fault is told, with its line. @returns config null: there are faults */
export function readMachineConfig(source: { readonly file: string; readonly text: string }): {
  readonly config: MachineConfig | null
  readonly faults: readonly Fault[]
} {
  const { document, faults } = readDocument(source.file, source.text, CONFIG_FILE)
  if (document === null) return { config: null, faults }
  const parsed = machineConfig.safeParse(document.tree)
  if (parsed.success) return { config: parsed.data, faults: [] }
  const found = parsed.error.issues.flatMap((issue): Fault[] => {
    const path = issue.path.map((part) => (typeof part === 'number' ? part : String(part)))
    const at = (place: readonly (string | number)[], message: string): Fault => {
      const key = keyText(place)
      return { file: source.file, line: document.places.lineOfKey(key), key, message }
    }
    if (issue.code !== 'unrecognized_keys') return [at(path, wordsOf(issue, path, document.tree))]
    return issue.keys.map((key) => at([...path, key], 'is not known here: take it away, or see docs/machines.md'))
  })
  return { config: null, faults: found.toSorted((a, b) => (a.line ?? 0) - (b.line ?? 0)) }
}

/** What zod says of a value, and of one that is not there that it is missed. */
function wordsOf(issue: z.core.$ZodIssue, path: readonly (string | number)[], tree: unknown): string {
  const there = path.reduce<unknown>(
    (node, part) =>
      typeof node === 'object' && node !== null ? (node as Record<string | number, unknown>)[part] : undefined,
    tree,
  )
  if (there === undefined && issue.code === 'invalid_type') return 'is missing, and has no default'
  return issue.message.replace(/^Invalid input: /, '')
}

/** A text that a reader takes; what the reader throws is the fault. */
function checked(read: (text: string) => unknown) {
  return z
    .string()
    .max(64)
    .superRefine((text, context) => {
      try {
        read(text)
      } catch (error) {
        context.addIssue({ code: 'custom', message: (error as Error).message.replace(/^[\w.]+: /, '') })
      }
    })
}
