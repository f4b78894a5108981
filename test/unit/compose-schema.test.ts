import assert from 'node:assert/strict'
import { test } from 'node:test'
import { isDeepStrictEqual } from 'node:util'
import { isSeq, isMap as isYamlMap, LineCounter, parseDocument, stringify } from 'yaml'
import { compile } from '../../orchestrator/compose/compile.ts'
import composeSpec from '../../orchestrator/compose/compose-spec.json' with { type: 'json' }
import { Scope } from '../../orchestrator/compose/scope.ts'
import { SUPPORT } from '../../orchestrator/compose/support.ts'
import { tryStack } from '../../orchestrator/compose/trial.ts'
import { type ComposeCase, composeCases, schemaKeys } from '../support/compose-cases.ts'

const BY_KEY = new Map(SUPPORT.map((entry) => [entry.key, entry]))
const FILES = new Map(
  Object.entries({ 'x.env': 'FROM_FILE=1', 'x.labels': 'l=1', 'sec.txt': 'hidden', 'other.txt': 'else' }).map(
    ([path, text]) => [path, Buffer.from(text)],
  ),
)

/** What the cases are put into. */
const base = () => ({
  'x-orchestrator': { summary: 'a case', entry: 'web', parameters: { TITLE: { default: 'hello' } } },
  services: {
    web: { image: 'nginx', networks: ['net'], configs: ['cfg'], secrets: ['sec'], volumes: ['data:/data'] },
    db: { image: 'db' },
  } as Record<string, Record<string, unknown>>,
  networks: { net: {} } as Record<string, unknown>,
  volumes: { data: {} } as Record<string, unknown>,
  configs: { cfg: { content: 'text' } } as Record<string, unknown>,
  secrets: { sec: { file: './sec.txt' } } as Record<string, unknown>,
})

const NAMES: Record<string, string> = {
  services: 'web',
  networks: 'net',
  volumes: 'data',
  configs: 'cfg',
  secrets: 'sec',
  'services.*.depends_on': 'db',
  'services.*.networks': 'net',
  'services.*.environment': 'TITLE',
  'services.*.sysctls': 'kernel.msgmax',
  'services.*.build.ulimits': 'nofile',
  'services.*.ulimits': 'nofile',
  'services.*.logging.options': 'max-size',
}

/** Values that mean something for a key, by type; else `x`, 1, true. */
const VALUES: Record<string, Record<string, unknown>> = {
  name: { string: 'other' },
  'services.*.scale': { integer: 1, string: '1' },
  'services.*.deploy.replicas': { integer: 1, string: '1' },
  'services.*.deploy.mode': { string: 'replicated' },
  'services.*.deploy.restart_policy.condition': { string: 'on-failure' },
  'services.*.deploy.resources.limits.cpus': { number: 0.5, string: '0.5' },
  'services.*.deploy.resources.limits.memory': { string: '64m' },
  'services.*.deploy.resources.limits.pids': { integer: 7, string: '7' },
  'services.*.deploy.resources.reservations.memory': { string: '16m' },
  'services.*.cap_add.*': { string: 'NET_ADMIN' },
  'services.*.cap_drop.*': { string: 'CHOWN' },
  'services.*.cpu_shares': { number: 512, string: '512' },
  'services.*.cpus': { number: 0.5, string: '0.5' },
  'services.*.cpuset': { string: '0-1' },
  'services.*.configs.*': { string: 'cfg' },
  'services.*.configs.*.source': { string: 'cfg' },
  'services.*.configs.*.target': { string: '/etc/x' },
  'services.*.configs.*.mode': { number: 0o555, string: '0555' },
  'services.*.secrets.*': { string: 'sec' },
  'services.*.secrets.*.source': { string: 'sec' },
  'services.*.secrets.*.target': { string: '/etc/x' },
  'services.*.secrets.*.mode': { number: 0o555, string: '0555' },
  'services.*.depends_on.*': { string: 'db' },
  'services.*.depends_on.*.restart': { boolean: true, string: 'true' },
  'services.*.devices.*': { string: '/dev/net/tun' },
  'services.*.devices.*.source': { string: '/dev/net/tun' },
  'services.*.devices.*.target': { string: '/dev/tun' },
  'services.*.devices.*.permissions': { string: 'r' },
  'services.*.env_file': { string: './x.env' },
  'services.*.env_file.*': { string: './x.env' },
  'services.*.env_file.*.path': { string: './x.env' },
  'services.*.env_file.*.format': { string: 'raw' },
  'services.*.env_file.*.required': { boolean: true, string: 'true' },
  'services.*.label_file': { string: './x.labels' },
  'services.*.label_file.*': { string: './x.labels' },
  'services.*.environment.*': { string: 'TITLE' },
  'services.*.container_name': { string: 'other' },
  'services.*.expose.*': { string: '8080', number: 8080 },
  'services.*.extra_hosts.*': { string: 'fd00::9' },
  'services.*.extra_hosts.*.*': { string: 'fd00::9' },
  'services.*.healthcheck.interval': { string: '7s' },
  'services.*.healthcheck.timeout': { string: '7s' },
  'services.*.healthcheck.start_period': { string: '7s' },
  'services.*.healthcheck.retries': { number: 7, string: '7' },
  'services.*.healthcheck.test.*': { string: 'NONE' },
  'services.*.image': { string: 'other:1' },
  'services.*.logging.driver': { string: 'json-file' },
  'services.*.logging.options.*': { string: '1m', number: 1_000_000, null: null },
  'services.*.mem_limit': { number: 64 << 20, string: '64m' },
  'services.*.mem_reservation': { integer: 16 << 20, string: '16m' },
  'services.*.memswap_limit': { number: 512 << 20, string: '512m' },
  'services.*.network_mode': { string: 'service:web' },
  'services.*.networks.*': { string: 'net' },
  'services.*.networks.*.aliases.*': { string: 'other' },
  'services.*.networks.*.ipv6_address': { string: 'fd00:9::5' },
  'services.*.oom_score_adj': { integer: 5, string: '5' },
  'services.*.pids_limit': { number: 7, string: '7' },
  'services.*.platform': { string: 'linux/amd64' },
  'services.*.ports.*': { number: 80, string: '8080:80/tcp' },
  'services.*.ports.*.target': { integer: 80, string: '80' },
  'services.*.ports.*.published': { integer: 8080, string: '8080' },
  'services.*.ports.*.protocol': { string: 'udp' },
  'services.*.ports.*.host_ip': { string: '127.0.0.1' },
  'services.*.ports.*.mode': { string: 'host' },
  'services.*.pull_policy': { string: 'always' },
  'services.*.restart': { string: 'on-failure' },
  'services.*.security_opt.*': { string: 'seccomp=unconfined' },
  'services.*.shm_size': { number: 1 << 20, string: '1m' },
  'services.*.sysctls.*': { string: '1', number: 1, boolean: true, null: null },
  'services.*.stop_grace_period': { string: '7s' },
  'services.*.stop_signal': { string: 'SIGINT' },
  'services.*.tmpfs': { string: '/tmp' },
  'services.*.tmpfs.*': { string: '/tmp' },
  'services.*.ulimits.*': { integer: 100, string: '100' },
  'services.*.ulimits.*.soft': { integer: 100, string: '100' },
  'services.*.ulimits.*.hard': { integer: 200, string: '200' },
  'services.*.volumes.*': { string: 'data:/other' },
  'services.*.volumes.*.target': { string: '/other' },
  'services.*.volumes.*.source': { string: 'data' },
  'services.*.volumes.*.tmpfs.size': { integer: 1 << 20, string: '1m' },
  'services.*.volumes.*.tmpfs.mode': { number: 0o700, string: '0700' },
  'services.*.working_dir': { string: '/srv' },
  'networks.*.driver': { string: 'bridge' },
  'networks.*.ipam.config.*.subnet': { string: 'fd00:9::/64' },
  'volumes.*.driver': { string: 'local' },
  'configs.*.file': { string: './other.txt' },
  'configs.*.environment': { string: 'TITLE' },
  'secrets.*.file': { string: './other.txt' },
  'secrets.*.environment': { string: 'TITLE' },
}
for (const section of ['networks', 'volumes', 'configs', 'secrets']) {
  VALUES[`${section}.*.external`] = { boolean: false, string: 'false' }
}
const PLAIN: Record<string, unknown> = { string: 'x', number: 1, integer: 1, boolean: true, null: null }
/** Elements of lists where mappings have something else. */
const ELEMENTS: Record<string, string> = {
  'services.*.extra_hosts.*': 'other=fd00::9',
  'services.*.sysctls.*': 'kernel.msgmax=1',
}
/** Texts that mean a boolean. */
const BOOLEANS =
  /^services\.\*\.(init|privileged|read_only|stdin_open|tty|healthcheck\.disable|volumes\.\*\.read_only)$|^networks\.\*\.(internal|enable_ipv6)$/
const value = (key: string, type: string, inList: boolean) => {
  if (inList && ELEMENTS[key] !== undefined) return ELEMENTS[key]
  if (type === 'string' && BOOLEANS.test(key)) return 'true'
  return VALUES[key]?.[type] ?? PLAIN[type]
}
/** Forms that the schema has and that mean nothing: each is one fault. */
const MEANINGLESS = new Set([
  'services.*.healthcheck.test as array',
  'services.*.sysctls.* as null',
  'secrets.* as object',
  'configs.* as object',
  ...['networks', 'volumes', 'configs', 'secrets'].map((section) => `${section}.*.external as object`),
])

/** The key of the table that refuses a key: its own, or one that it lies below. */
function refusedBy(key: string): string | null {
  const parts = key.split('.')
  const prefixes = parts.map((_, index) => parts.slice(0, index + 1).join('.'))
  return prefixes.find((prefix) => BY_KEY.get(prefix)?.supported === false) ?? null
}

const CASES = composeCases(composeSpec as object, { name: (key) => NAMES[key] ?? 'NAME', value })

/** Cases that need something else around them: other members of the same mapping, or another place. */
function completed({ key, value: generated }: ComposeCase): unknown {
  const all = structuredClone(base()) as Record<string, unknown>
  const given = structuredClone(generated) as Record<string, Record<string, Record<string, unknown>>>
  for (const [section, members] of Object.entries(given)) {
    if (typeof members !== 'object' || members === null || section === 'include' || section === 'models') {
      all[section] = members
      continue
    }
    const former = all[section] as Record<string, object>
    for (const [name, member] of Object.entries(members)) {
      const isService = section === 'services' && member !== null && typeof member === 'object'
      const target = key === 'services.*.network_mode' ? 'db' : name
      former[target] = isService ? { ...former[target], ...member } : member
    }
  }
  surround(key, all as unknown as ReturnType<typeof base>)
  return all
}

const NEEDED = [
  ['configs', 'source', 'cfg'],
  ['secrets', 'source', 'sec'],
  ['ports', 'target', 80],
  ['env_file', 'path', './x.env'],
] as const

/** Adds what a key cannot do without. */
function surround(key: string, all: ReturnType<typeof base>): void {
  const web = all.services['web'] ?? {}
  const first = (name: string) => (web[name] as Record<string, unknown>[] | undefined)?.[0] ?? {}
  const mount = first('volumes')
  if (/^services\.\*\.volumes\.\*(\.|$)/.test(key) && typeof mount === 'object') {
    mount['type'] = /\.(tmpfs|tmpfs\..*)$/.test(key) ? 'tmpfs' : 'volume'
    if (key.includes('.bind') || key.includes('.image')) mount['type'] = 'volume'
    mount['target'] ??= '/other'
  }
  for (const [section, field, needed] of NEEDED) {
    const element = first(section)
    if (key.startsWith(`services.*.${section}.*`) && typeof element === 'object') element[field] ??= needed
  }
  if (key === 'services.*.networks.*.ipv6_address')
    all.networks['net'] = { ipam: { config: [{ subnet: 'fd00:9::/64' }] } }
  if (key === 'services.*.healthcheck.test.*') (web['healthcheck'] as Record<string, unknown>)['test'] = ['CMD', 'true']
  if (key === 'configs.*.external') Object.assign(all.configs['cfg'] as object, { content: 'text' })
  if (key === 'secrets.*.external') Object.assign(all.secrets['sec'] as object, { file: './sec.txt' })
  if (key === 'services.*.ulimits.*.soft') Object.assign(web, { ulimits: { nofile: { soft: 100, hard: 300 } } })
}

const run = (tree: unknown) =>
  compile(
    { name: 'case', file: 'case.yaml', text: stringify(tree), files: FILES },
    { base: () => null, trusted: () => true },
  )

/** What a file means, with what is said about it. */
function meaning(tree: unknown) {
  const { name, content, notes, faults } = run(tree)
  assert.deepEqual(faults, [])
  assert.ok(content)
  const scope = new Scope(content.parameters, content.fixed)
  const told = notes.map(({ key, message }) => `${key}: ${message}`)
  const read = tryStack(content.stack, content.entry.service, content.files, scope, (key, message) =>
    assert.fail(`${key}: ${message}`),
  )
  return {
    name,
    entry: content.entry,
    services: read.services,
    networks: read.networks,
    told,
    weakens: content.weakens,
  }
}

/** The line of a key, found by another way than the reader's. */
function lineOf(tree: unknown, path: readonly (string | number)[]): number | null {
  const lines = new LineCounter()
  let node: unknown = parseDocument(stringify(tree), { lineCounter: lines }).contents
  let line: number | null = null
  for (const part of path) {
    if (isYamlMap(node)) {
      const pair = node.items.find(({ key }) => String(key) === part)
      const { key, value: inner } = pair ?? assert.fail(`there is no ${part}`)
      line = lines.linePos((key as { range: [number] }).range[0]).line
      node = inner
    } else if (isSeq(node)) {
      node = node.items[Number(part)]
      line = lines.linePos((node as { range: [number] }).range[0]).line
    }
  }
  return line
}
const keyTextOf = (path: readonly (string | number)[]) =>
  path.map((part, i) => (typeof part === 'number' ? `[${part}]` : i === 0 ? part : `.${part}`)).join('')
const titleOf = ({ path, type, value: given }: ComposeCase) => `${keyTextOf(path)} as ${type}: ${JSON.stringify(given)}`

/** Keys whose value changes nothing: the table says so of each, or it is the same as without it. */
const WITHOUT_EFFECT = new Set([
  'version',
  'services.*.scale',
  'services.*.deploy.mode',
  'services.*.deploy.replicas',
  'services.*.depends_on.*.required',
  'services.*.env_file.*.required',
  'services.*.env_file.*.format',
  'services.*.ports.*.mode',
  'services.*.ports.*.name',
  'services.*.ports.*.app_protocol',
  'services.*.logging.driver',
  'networks.*.driver',
  'networks.*.internal',
  'networks.*.enable_ipv6',
  'volumes.*.driver',
  'networks.*.external',
  'volumes.*.external',
  'configs.*.external',
  'secrets.*.external',
])

test('the support table has every key of the schema, and no other', () => {
  const known = schemaKeys(composeSpec as object)
  assert.ok(known.size > 250, `only ${known.size} keys`)
  const missing = [...known].filter((key) => !BY_KEY.has(key) && refusedBy(key) === null)
  assert.deepEqual(missing, [], 'keys of the schema that the table lacks')
  const foreign = SUPPORT.map(({ key }) => key).filter((key) => !known.has(key))
  assert.deepEqual(foreign, [], 'keys of the table that the schema lacks')
  const below = SUPPORT.filter(({ key }) => refusedBy(key) !== null && refusedBy(key) !== key)
  assert.deepEqual(below, [], 'keys of the table below a refused one')
  assert.equal(BY_KEY.size, SUPPORT.length, 'a key stands twice')
  for (const { key, supported, note } of SUPPORT)
    assert.ok(supported || note !== '', `${key} is refused without a reason`)
})

test('each key and form that is refused is one fault, with its key and line', () => {
  const refused = CASES.filter(({ key }) => refusedBy(key) !== null)
  assert.ok(refused.length > 200, `only ${refused.length} cases`)
  const wrong: string[] = []
  for (const one of refused) {
    const tree = completed(one)
    const { content, faults } = run(tree)
    const depth = refusedBy(one.key)?.split('.').length ?? 0
    // What is outside is refused as a whole, whatever its name.
    const path = one.path.slice(0, one.key.endsWith('.external.name') ? depth - 1 : depth)
    const expected = [{ key: keyTextOf(path), line: lineOf(tree, path) }]
    const found = faults.map(({ key, line }) => ({ key, line }))
    const isRight = isDeepStrictEqual(found, expected) && /^is not supported: \S/.test(faults[0]?.message ?? '')
    if (!isRight || content !== null) wrong.push(`${titleOf(one)}: ${JSON.stringify(faults)}`)
  }
  assert.deepEqual(wrong, [])
})

test('each key and form that is supported is accepted, and changes what the stack means', () => {
  const supported = CASES.filter(({ key }) => refusedBy(key) === null)
  assert.ok(supported.length > 200, `only ${supported.length} cases`)
  const wrong: string[] = []
  for (const one of supported) {
    const tree = completed(one)
    const { faults } = run(tree)
    const hollow = ['object', 'array', 'null'].includes(one.type)
    if (MEANINGLESS.has(`${one.key} as ${one.type}`)) {
      const found = faults.map(({ key, line }) => ({ key, line }))
      const expected = [{ key: keyTextOf(one.path), line: lineOf(tree, one.path) }]
      if (!isDeepStrictEqual(found, expected)) wrong.push(`${titleOf(one)}: ${JSON.stringify(faults)}`)
    } else if (faults.length > 0) wrong.push(`${titleOf(one)}: ${JSON.stringify(faults)}`)
    else if (!hollow && !WITHOUT_EFFECT.has(one.key) && isDeepStrictEqual(meaning(tree), meaning(without(tree, one)))) {
      wrong.push(`${titleOf(one)}: is ignored`)
    }
  }
  assert.deepEqual(wrong, [])
})

/** The same file without the key; of one that a list or mapping needs, without that as a whole. */
function without(tree: unknown, { key, path }: ComposeCase): unknown {
  const copy = structuredClone(tree) as Record<string, unknown>
  const needed =
    /(\.source|\.target|\.path|\.soft|\.hard|\.condition|\.type|image|\*|subnet|\.(file|environment|content))$/.test(
      key,
    )
  const own = key === 'services.*.network_mode' ? ['services', 'db', 'network_mode'] : path
  const cut = needed ? own.slice(0, key.startsWith('services') ? 3 : 2) : own
  let at: unknown = copy
  for (const part of cut.slice(0, -1)) at = (at as Record<string, unknown>)[part]
  const last = cut.at(-1) ?? ''
  if (key === 'services.*.image') (at as Record<string, unknown>)['image'] = 'nginx'
  else if (key.startsWith('configs')) (at as Record<string, unknown>)[last] = { content: 'text' }
  else if (key.startsWith('secrets')) (at as Record<string, unknown>)[last] = { file: './sec.txt' }
  else if (key.startsWith('networks')) (at as Record<string, unknown>)[last] = {}
  else delete (at as Record<string, unknown>)[last]
  return copy
}

test('a value of a type that no form has is one fault, with its key and line', () => {
  const types = new Map<string, Set<string>>()
  for (const { key, type } of CASES) types.set(key, (types.get(key) ?? new Set()).add(type))
  const mistaken: string[] = []
  let tried = 0
  for (const one of CASES) {
    const has = types.get(one.key) ?? new Set()
    if (one.path.length < 2 || one.key.endsWith('storage_opt')) continue
    const wrong = has.has('array') ? (has.has('object') ? 12.5 : { 'no key': 1 }) : [1]
    const tree = completed(one)
    const path = one.key === 'services.*.network_mode' ? ['services', 'db', 'network_mode'] : one.path
    let at = tree as Record<string, unknown>
    for (const part of path.slice(0, -1)) at = at[part] as Record<string, unknown>
    at[path.at(-1) ?? ''] = wrong
    const { faults } = run(tree)
    const told = faults.filter(({ message }) => !message.startsWith('is not supported'))
    const found = told.map(({ key, line }) => ({ key, line }))
    const expected = [{ key: keyTextOf(path), line: lineOf(tree, path) }]
    if (!isDeepStrictEqual(found, expected)) mistaken.push(`${titleOf(one)}: ${JSON.stringify(told)}`)
    tried += 1
  }
  assert.deepEqual(mistaken, [])
  assert.ok(tried > 400, `only ${tried} cases`)
})
