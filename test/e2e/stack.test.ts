import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { cpSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, describe, it } from 'node:test'
import { pathToFileURL } from 'node:url'
import { stringify } from 'yaml'
import { type ClientOptions, DhcpClient } from '../../lab/clients.ts'
import { LabError, run } from '../../lab/command.ts'
import { buildSamplesImage } from '../../lab/images.ts'
import { LAB_NETWORK } from '../../lab/namespaces.ts'
import { CACHE_DIRECTORY, MEMORY_DIRECTORY, SOURCE_DIRECTORY } from '../../lab/places.ts'
import type { Site } from '../../lab/site.ts'
import type {
  ApplyShape,
  EventShape,
  InstanceDetailShape,
  InstanceShape,
  LeaseShape,
  TemplateShape,
} from '../../orchestrator/api/wire.ts'
import { holds, hunt } from '../support/hunt.ts'
import { instancesOf, leasesOf, openSite, passagesOf, reachableInstance } from '../support/site.ts'
import { until } from '../support/until.ts'

const SHOP = join(SOURCE_DIRECTORY, 'test/fixtures/stack/shop')
/** The services of the shop, in the order in which they may begin. */
const SERVICES = ['db', 'app', 'web'] as const
type Service = (typeof SERVICES)[number]
/** TCP ports that something in the shop listens on. */
const PORTS = { web: 80, app: 8080, db: 9000 } as const
const OTHER_PORTS = [22, 443, 6379, 65_535]
const MY_PAGE = `http://my.${LAB_NETWORK.domain}/`
const SECRET = `pomegranate-${randomBytes(12).toString('hex')}`
const MOTTO = `quince-${randomBytes(12).toString('hex')}`

/** What a part of the shop tells of itself. */
interface Part {
  readonly name: string
  /** Whether the one behind it answered when it began. */
  readonly found: boolean
  readonly edition: string | null
  readonly motto: string | null
  readonly instance: string | null
  readonly behind: Part | null
}

/** One container of a shop, as it is now. */
interface Standing {
  readonly id: string
  readonly pid: number
  readonly startedAt: string
  /** Its addresses beside link-local ones. */
  readonly addresses: readonly string[]
}

let site: Site
let close: () => Promise<void>
let lastDevice = 0

before(async () => {
  ;({ site, close } = await openSite({ dnsmasq: { leaseTime: '10m' }, unionize: { 'orphans.grace-seconds': 2 } }))
  await buildSamplesImage(site.engine, () => {})
  await apply('shop', (text) => text)
})
after(() => close())

/** Outside of the site: what stands there, only orctl reads. */
const folder = mkdtempSync(join(tmpdir(), 'stack-'))
after(() => rmSync(folder, { recursive: true, force: true }))

/** Applies the shop under a name, after a change to its text. */
async function apply(name: string, change: (text: string) => string, ...flags: string[]): Promise<ApplyShape> {
  const place = join(folder, name)
  cpSync(SHOP, place, { recursive: true })
  const file = join(place, 'compose.yaml')
  writeFileSync(file, change(readFileSync(file, 'utf8')))
  return await site.orctlJson<ApplyShape>('apply', '-f', place, ...flags)
}
function rulesFile(rules: readonly object[], quotas: object = {}): string {
  mkdirSync(join(folder, 'rules'), { recursive: true })
  const file = join(folder, 'rules', 'rules.yaml')
  writeFileSync(file, stringify({ rules, quotas }))
  return file
}
const setRules = (rules: readonly object[], quotas: object = {}) => site.orctl('apply', '-f', rulesFile(rules, quotas))
const shopRule = (more: object = {}) => ({
  name: 'shops',
  give: { template: 'shop', parameters: { KEY: SECRET, MOTTO } },
  ...more,
})
const PLAIN_RULE = { name: 'plain', give: { template: 'sample' } }

/** A device that has asked and got its lease. */
async function device(options: ClientOptions = {}): Promise<DhcpClient> {
  const client = await new DhcpClient(site.prefix, ++lastDevice, { detectDuplicates: false, ...options }).plug()
  await client.request()
  await client.lease()
  return client
}
const leaseOf = async (client: DhcpClient): Promise<LeaseShape> =>
  (await leasesOf(site)).find(({ owner }) => owner.duid === client.duid) ?? assert.fail('there is no such lease')
const instanceOf = async (client: DhcpClient) =>
  (await instancesOf(site)).find(({ owner }) => owner.duid === client.duid)
const events = async (kind: string) =>
  (await site.orctlJson<{ items: EventShape[] }>('events', '--limit', '1000')).items.filter((e) => e.kind === kind)

async function leave(...clients: DhcpClient[]): Promise<void> {
  for (const client of clients) await client.release()
  const gone = async () => (await Promise.all(clients.map(instanceOf))).every((instance) => instance === undefined)
  await until('the instances are gone', gone, { deadlineMs: 30_000, everyMs: 50 })
  for (const client of clients) await client.unplug()
}

async function shopOf(client: DhcpClient): Promise<Part> {
  return JSON.parse((await client.get(MY_PAGE)).body) as Part
}
/** The page of a device's shop once all of its parts answer. */
function wholeShop(client: DhcpClient): Promise<Part> {
  return until(
    `the whole shop of ${client.hostname}`,
    async () => {
      const part = await shopOf(client)
      return part.behind?.behind?.name === 'db' ? part : undefined
    },
    { deadlineMs: 30_000, everyMs: 50 },
  )
}

async function standing(instance: InstanceShape, service: Service): Promise<Standing> {
  const found = await site.engine.docker.getContainer(`orc-${instance.id}-${service}`).inspect()
  const shown = await within(found.State.Pid, ['ip', '-json', '-6', 'address', 'show', 'scope', 'global'])
  const links = JSON.parse(shown) as { addr_info: { local: string }[] }[]
  const addresses = links.flatMap(({ addr_info }) => addr_info.map(({ local }) => local)).sort()
  return { id: found.Id, pid: found.State.Pid, startedAt: found.State.StartedAt, addresses }
}
async function standings(instance: InstanceShape): Promise<Record<Service, Standing>> {
  const all = await Promise.all(SERVICES.map(async (name) => [name, await standing(instance, name)] as const))
  return Object.fromEntries(all) as Record<Service, Standing>
}
/** Runs a program in the network of a process. */
const within = (pid: number, [file = '', ...args]: readonly string[]) =>
  run('nsenter', [`--net=/proc/${pid}/ns/net`, '--', file, ...args])
/** What a process reads inside its container. */
const readInside = (pid: number, path: string) => run('nsenter', ['--mount', '--target', String(pid), 'cat', path])

type Target = { readonly address: string; readonly port: number }
/** Dials all of these at once from the network of a process. @returns the outcomes by `[address]:port` */
async function dialFrom(pid: number, targets: readonly Target[], timeoutMs: number): Promise<Record<string, string>> {
  const probes = pathToFileURL(join(SOURCE_DIRECTORY, 'lab/probes.ts')).href
  const script = `import { dial } from ${JSON.stringify(probes)}
    const targets = JSON.parse(process.argv[1])
    const outcomes = targets.map(async (t) => ['[' + t.address + ']:' + t.port, await dial({ ...t, timeoutMs: ${timeoutMs} })])
    console.log(JSON.stringify(Object.fromEntries(await Promise.all(outcomes))))`
  const node = [process.execPath, '--input-type=module', '-e', script, JSON.stringify(targets)]
  return JSON.parse(await within(pid, node)) as Record<string, string>
}

describe('a stack of three services, with real dnsmasq, dhcpcd and Docker', () => {
  const clients: DhcpClient[] = []
  const found: InstanceShape[] = []
  const client = (n: number) => clients[n] ?? assert.fail()
  const instance = (n: number) => found[n] ?? assert.fail()
  before(async () => {
    await setRules([shopRule()])
    for (const n of [1, 2]) clients.push(await device({ hostname: `shop-${n}` }))
    for (const one of clients) found.push(await reachableInstance(site, one.duid, 30_000))
  })

  it('comes up in the order of its dependencies, and finds its parts by name', async () => {
    for (const n of [0, 1]) {
      const web = await wholeShop(client(n))
      assert.equal(web.instance, instance(n).id)
      assert.deepEqual([web.name, web.behind?.name, web.behind?.behind?.name], ['web', 'app', 'db'])
      assert.deepEqual([web.found, web.behind?.found], [true, true], 'each found the one behind it when it began')
      const all = await standings(instance(n))
      const begun = SERVICES.map((name) => all[name].startedAt)
      assert.deepEqual(begun, [...begun].sort())
    }
  })

  it('shows its entry alone at my.instance, and to its owner', async () => {
    const all = await standings(instance(0))
    const { agent } = client(0)
    const dial = (address: string, port: number, timeoutMs = 10_000) => agent.call('dial', { address, port, timeoutMs })
    for (const address of [LAB_NETWORK.myAddress, instance(0).address]) {
      assert.equal(await dial(address, PORTS.web), 'accepted')
      for (const port of [PORTS.app, PORTS.db]) assert.equal(await dial(address, port), 'refused')
    }
    const inner = [...all.app.addresses, ...all.db.addresses]
    assert.equal(inner.length, 2)
    for (const address of inner) {
      for (const port of Object.values(PORTS)) assert.notEqual(await dial(address, port, 700), 'accepted')
    }
  })

  it('is reached neither from the other device nor from the other stack, at any address of it', async () => {
    const [mine, others] = [await standings(instance(0)), await standings(instance(1))]
    const addresses = SERVICES.flatMap((name) => mine[name].addresses)
    // The instance's own, and one on the private network for each service.
    assert.equal(new Set(addresses).size, 4)
    assert.ok(addresses.includes(instance(0).address))
    const ports = [...Object.values(PORTS), ...OTHER_PORTS]
    const targets = addresses.flatMap((address) => ports.map((port) => ({ address, port })))
    const stranger = client(1).agent.process.pid
    const from = [stranger, ...SERVICES.map((name) => others[name].pid)]
    for (const pid of from) {
      const outcomes = await dialFrom(pid, targets, 700)
      const reached = Object.entries(outcomes).filter(([, outcome]) => ['accepted', 'refused'].includes(outcome))
      assert.deepEqual(reached, [], 'nobody answers, not even that a port is closed')
    }
    // The same from inside: what is there answers.
    const at = (name: Service) => ({ address: mine[name].addresses.find((a) => a !== instance(0).address) ?? '' })
    const inside = SERVICES.map((name) => ({ ...at(name), port: PORTS[name] }))
    assert.deepEqual(Object.values(await dialFrom(mine.web.pid, inside, 10_000)), ['accepted', 'accepted', 'accepted'])
  })

  for (const killed of SERVICES) {
    it(`lives through kill -9 of ${killed}: it comes back where it was, and nobody else is touched`, async () => {
      const [before, other] = [await standings(instance(0)), await standings(instance(1))]
      process.kill(before[killed].pid, 'SIGKILL')
      const again = await until(
        `${killed} runs again`,
        async () => {
          const now = await standing(instance(0), killed)
          return now.startedAt !== before[killed].startedAt && now
        },
        { everyMs: 50 },
      )
      assert.deepEqual(again.addresses, before[killed].addresses)
      await wholeShop(client(0))
      for (const name of SERVICES) {
        if (name !== killed) assert.deepEqual(await standing(instance(0), name), before[name])
      }
      assert.deepEqual(await standings(instance(1)), other)
      const now = (await instanceOf(client(0))) ?? assert.fail()
      assert.deepEqual(
        [now.id, now.address, now.generation],
        [instance(0).id, instance(0).address, instance(0).generation],
      )
    })
  }

  it('tells its secret to the service that may know it and to nobody else', async () => {
    const all = await standings(instance(0))
    assert.equal(await readInside(all.app.pid, '/run/secrets/key'), SECRET)
    for (const name of SERVICES) {
      const given = JSON.parse(await readInside(all[name].pid, '/orchestrator/parameters.json')) as { KEY: string }
      assert.equal(given.KEY, SECRET)
    }
    await assert.rejects(readInside(all.web.pid, '/run/secrets/key'), LabError)

    const answers = await everyAnswer(instance(0).id)
    const telling = (text: string) => Object.keys(answers).filter((name) => holds(answers[name] ?? '', text))
    assert.deepEqual(telling(SECRET), [])
    const places = await hunt(site, SECRET)
    assert.deepEqual(places, { files: [], engine: [], processes: [] })
    // The same search finds what is no secret, so it would find the secret.
    const known = await hunt(site, MOTTO)
    assert.ok(
      known.files.some((path) => /\/orchestrator\.db(-wal)?$/.test(path)),
      known.files.join(),
    )
    assert.ok(known.engine.includes(`container /orc-${instance(0).id}-web`), known.engine.join())
    assert.ok(known.processes.length > 0)
    assert.ok(telling(MOTTO).length > 3, telling(MOTTO).join())
  })

  it('stays on its version when another is rolled out, and the next lease gets that one', async () => {
    await apply('shop', (text) => text.replaceAll('edition 1', 'edition 2'))
    const current = () => site.orctlJson<TemplateShape>('get', 'template', 'shop')
    assert.equal((await current()).number, 2)
    await leave(client(1))
    const next = await device({ hostname: 'shop-3' })
    assert.equal((await reachableInstance(site, next.duid, 30_000)).template.number, 2)
    assert.deepEqual([(await shopOf(client(0))).edition, (await wholeShop(next)).edition], ['edition 1', 'edition 2'])
    assert.equal((await instanceOf(client(0)))?.template.number, 1)

    await site.orctl('template', 'rollout', 'shop', '--to', 'previous')
    assert.equal((await current()).number, 1)
    assert.equal((await wholeShop(next)).edition, 'edition 2')
    await leave(next)
    const last = await device({ hostname: 'shop-4' })
    await reachableInstance(site, last.duid, 30_000)
    assert.equal((await wholeShop(last)).edition, 'edition 1')
    await leave(last)
  })

  it('cannot be removed while a rule or an instance uses it, and is told who does', async () => {
    const refused = (by: RegExp) =>
      assert.rejects(site.orctl('rm', 'template', 'shop', '--yes'), (error: Error) => by.test(error.message))
    await refused(/in use by rule shops; instance shop-1\b/)
    await setRules([PLAIN_RULE])
    await refused(/in use by instance shop-1\b/)
    await leave(client(0))
    await site.orctl('rm', 'template', 'shop', '--yes')
    assert.equal((await site.orctl('get', 'templates', '-o', 'name')).includes('shop'), false)
    await nothingIsLeft()
    await apply('shop', (text) => text)
  })
})

describe('what a lease becomes follows the rules in force', () => {
  it('waits for its instance while a quota is used up, and gets it when there is room', async () => {
    await setRules([PLAIN_RULE], { total: 1 })
    const first = await device({ hostname: 'first' })
    await reachableInstance(site, first.duid)
    const second = await device({ hostname: 'second' })
    const { refusal } = await until('a refusal', async () => {
      const lease = await leaseOf(second)
      return lease.refusal !== null && lease
    })
    assert.match(refusal ?? '', /\b1\b/)
    assert.ok((await site.orctl('get', 'leases', '-o', 'wide')).includes(refusal ?? '-'))
    assert.equal(await instanceOf(second), undefined)
    await leave(first)
    await reachableInstance(site, second.duid)
    assert.equal((await leaseOf(second)).refusal, null)
    await leave(second)
  })

  it('ends its instance when its time is over, and no renewal brings it back', async () => {
    await setRules([{ ...PLAIN_RULE, give: { template: 'sample', lifetime: { most: '30s' } } }])
    const client = await device({ hostname: 'brief' })
    const { id, endsAt, createdAt } = await reachableInstance(site, client.duid)
    assert.equal(Date.parse(endsAt ?? '') - Date.parse(createdAt), 30_000)
    await until('its end', async () => (await instanceOf(client)) === undefined, { deadlineMs: 90_000, everyMs: 50 })
    assert.ok(Date.now() >= Date.parse(endsAt ?? ''))
    assert.ok((await events('instance.expired')).some((event) => event.instance === id))
    const before = await leaseOf(client)
    await until('a second has passed', () => Date.now() > Date.parse(before.updatedAt) + 1500)
    await client.renew()
    const renewed = await until('the renewal is stored', async () => {
      const lease = await leaseOf(client)
      return lease.expiresAt !== before.expiresAt && lease
    })
    assert.deepEqual([renewed.instance, renewed.refusal], [null, null])
    assert.equal(await instanceOf(client), undefined)
    await leave(client)
  })

  it('keeps the last good state of the watched directory while a file there is faulty, and says so once', async () => {
    const file = site.path('etc', 'catalog', 'sample.yaml')
    const good = readFileSync(file, 'utf8')
    const summary = async () => (await site.orctlJson<TemplateShape>('get', 'template', 'sample')).summary
    const before = await summary()
    const told = async () => await events('catalog.refused')
    assert.deepEqual(await told(), [])
    const faulty = good.replace(/summary: .*/, 'summary: Mended').replace('mem_limit:', 'mem_limt:')
    writeFileSync(file, faulty)
    const [event] = await until('the fault is told', async () => {
      const all = await told()
      return all.length > 0 && all
    })
    const line = faulty.split('\n').findIndex((text) => text.includes('mem_limt')) + 1
    assert.match(event?.message ?? '', new RegExp(`sample\\.yaml:${line}: services\\.web\\.mem_limt: `))
    assert.equal(event?.level, 'error')
    // A second file wakes the watch: the fault is found again, and is no news.
    const other = site.path('etc', 'catalog', 'other.yaml')
    writeFileSync(other, good)
    assert.equal(await summary(), before)

    writeFileSync(file, good.replace(/summary: .*/, 'summary: Mended'))
    await until('it is in force', async () => (await summary()) === 'Mended')
    const names = (await site.orctl('get', 'templates', '-o', 'name')).split('\n')
    assert.ok(
      names.some((name) => name.includes('other')),
      names.join(),
    )
    assert.equal((await told()).length, 1)
    rmSync(other)
    writeFileSync(file, good)
    await until('it is as it was', async () => (await summary()) === before)
  })
})

describe('whatever is killed while a stack comes up, in the end there is exactly that stack', () => {
  before(() => setRules([shopRule()]))
  const kills = {
    orchestrator: async () => {
      await site.process('orchestrator').kill()
      await site.startOrchestrator()
    },
    unionize: async () => {
      await site.process('unionize').kill()
      site.startUnionize()
    },
  }
  for (const [name, kill] of Object.entries(kills)) {
    for (const service of ['db', 'app'] as const) {
      it(`kill -9 of ${name} when ${service} has just been made`, { timeout: 600_000 }, async () => {
        const client = await device({ hostname: `killed-${name}` })
        try {
          await until(
            `${service} is there`,
            async () => (await site.engine.containers(`org.orchestrator.service=${service}`)).length > 0,
            { deadlineMs: 30_000 },
          )
          await kill()
          const instance = await reachableInstance(site, client.duid, 60_000)
          const web = await wholeShop(client)
          assert.deepEqual([web.instance, web.found, web.behind?.found], [instance.id, true, true])
          // Leftovers of what was under way are collected a little later.
          await until('exactly that stack is there', () => exactly(instance).then(() => true), {
            deadlineMs: 60_000,
            everyMs: 100,
          })
          const detail = await site.orctlJson<InstanceDetailShape>('describe', 'instance', instance.id)
          assert.deepEqual(detail.parameters, { KEY: { secret: true }, MOTTO })
          await until(
            'its outputs',
            async () =>
              (await site.orctlJson<InstanceDetailShape>('describe', 'instance', instance.id)).outputs?.['opened'],
            { deadlineMs: 60_000 },
          )
        } finally {
          await leave(client)
        }
        await nothingIsLeft()
      })
    }
  }
})

/** All that the API and orctl tell, by what was asked. */
async function everyAnswer(instance: string): Promise<Record<string, string>> {
  const token = readFileSync(join(CACHE_DIRECTORY, 'state', site.prefix, 'orchestrator', 'api-token'), 'utf8').trim()
  const ask = async (path: string, ...args: string[]) => {
    const url = `https://[::1]:8998${path}`
    return await site.inside(['curl', '-sSk', '-H', `Authorization: Bearer ${token}`, ...args, url])
  }
  const paths = [
    ...['/v1/leases?all=true', '/v1/instances?all=true', `/v1/instances/${instance}`, `/v1/instances/${instance}/logs`],
    ...['/v1/hosts', '/v1/templates?all=true', '/v1/templates/shop', '/v1/templates/shop@1'],
    ...['/v1/templates/shop/versions', '/v1/templates/shop/diff?from=1&to=1', '/v1/rules', '/v1/builds'],
    ...['/v1/events?limit=1000', '/metrics', '/readyz'],
  ]
  const answers: Record<string, string> = {}
  for (const path of paths) answers[path] = await ask(path)
  const guess = JSON.stringify({ hostname: 'shop-9' })
  answers['rules/test'] = await ask('/v1/rules/test', '-H', 'Content-Type: application/json', '-d', guess)
  const commands = [
    ['events', '--limit', '1000'],
    ['describe', 'instance', instance, '-o', 'json'],
    ['describe', 'template', 'shop'],
  ]
  for (const command of commands) answers[`orctl ${command.join(' ')}`] = await site.orctl(...command)
  // The rules once more, with another rule and another secret: the difference is told, the secrets are not.
  const rules = (key: string) => [shopRule({ give: { template: 'shop', parameters: { KEY: key, MOTTO } } }), PLAIN_RULE]
  for (const [what, key] of [
    ['the same', SECRET],
    ['another one', `${SECRET}-2`],
    ['one that does not fit', `${SECRET} !`],
    ['a YAML alias', '*'],
    ['a YAML tag', '!'],
    ['a YAML block', '|'],
  ] as const) {
    const file = rulesFile(rules(key))
    // As somebody writes it who does not know that these characters mean something in YAML.
    if (/^[*!|]$/.test(key)) writeFileSync(file, readFileSync(file, 'utf8').replace(/KEY: .*/, `KEY: ${key}${SECRET}`))
    const dry = site.orctl('apply', '-f', file, '--dry-run', '-o', 'json')
    answers[`dry run: ${what}`] = await dry.catch((error: Error) => error.message)
  }
  assert.match(answers['dry run: another one'] ?? '', /secret, changed/)
  assert.match(answers['dry run: one that does not fit'] ?? '', /parameters\.KEY/)
  assert.match(answers[`/v1/instances/${instance}`] ?? '', /"KEY":\{"secret":true\}/)
  return answers
}

/** This shop's containers, volumes and files are there, each once, and no others are. */
async function exactly(instance: InstanceShape): Promise<void> {
  const containers = await site.engine.containers('org.orchestrator.role=service')
  assert.deepEqual(
    containers.map(({ name, state }) => `${name} ${state}`).sort(),
    SERVICES.map((name) => `orc-${instance.id}-${name} running`).sort(),
  )
  assert.equal((await site.engine.containers('org.orchestrator.role=hub')).length, 1)
  assert.equal((await volumes()).length, 2, 'goods, and what services share for their outputs')
  assert.deepEqual(filesOf(''), [instance.id])
  assert.deepEqual(filesOf(instance.id), [...SERVICES].sort())
  assert.deepEqual(await passagesOf(site), [`${instance.ownerAddress} . ${instance.address}`])
}

async function nothingIsLeft(): Promise<void> {
  const look = async () => {
    for (const role of ['service', 'hub']) {
      assert.deepEqual(await site.engine.containers(`org.orchestrator.role=${role}`), [])
    }
    assert.deepEqual(await volumes(), [])
    assert.deepEqual(filesOf(''), [])
    assert.deepEqual(await passagesOf(site), [])
    // What is left of sandboxes are those that wait for the next lease, each with its link.
    const sandboxes = await site.engine.containers('org.orchestrator.role=sandbox')
    const links = await site.inside(['ip', '-o', 'link', 'show', 'master', LAB_NETWORK.instancesBridge])
    assert.equal(sandboxes.length, links.split('\n').filter((line) => line !== '').length)
    assert.ok(sandboxes.length <= 8)
    return true
  }
  await until('nothing is left', look, { deadlineMs: 60_000, everyMs: 100 })
}

async function volumes(): Promise<string[]> {
  const { Volumes } = await site.engine.docker.listVolumes({ filters: { label: ['org.orchestrator.host'] } })
  return (Volumes ?? []).map(({ Name }) => Name).sort()
}
const filesOf = (below: string) => readdirSync(join(MEMORY_DIRECTORY, site.prefix, 'files', below)).sort()
