import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import { InvalidInput } from '../../common/errors.ts'
import { servicesShape } from '../../common/service-spec.ts'
import { type ReadStack, readStack } from '../../orchestrator/compose/stack/services.ts'
import type { Json } from '../../orchestrator/domain/template.ts'
import { assertRefused, readWith, refusedAt } from '../support/compose-stacks.ts'

type Keys = { readonly [key: string]: Json }

/** A stack of services that say what is given, beside their image. */
const stack = (services: Readonly<Record<string, Keys>>) =>
  readWith({
    services: Object.fromEntries(Object.entries(services).map(([name, keys]) => [name, { image: 'nginx', ...keys }])),
  })
const service = (read: ReadStack, name: string) => read.services.find((one) => one.name === name)

describe('services that depend on others', () => {
  it('wait for them to have started, in the short form', () => {
    const read = stack({ web: { depends_on: ['db', 'cache', 'db'] }, db: {}, cache: {} })
    assert.deepEqual(service(read, 'web')?.dependsOn, [
      { service: 'db', condition: 'started', restart: false },
      { service: 'cache', condition: 'started', restart: false },
    ])
  })

  it('wait for conditions, in the long form', () => {
    const depends_on = {
      db: { condition: 'service_healthy', restart: true },
      cache: { condition: 'service_started', required: true },
      fill: { condition: 'service_completed_successfully' },
      gone: { condition: 'service_healthy', required: false },
      less: null,
    }
    const read = stack({ web: { depends_on }, db: {}, cache: {}, fill: {}, less: {} })
    assert.deepEqual(service(read, 'web')?.dependsOn, [
      { service: 'db', condition: 'healthy', restart: true },
      { service: 'cache', condition: 'started', restart: false },
      { service: 'fill', condition: 'completed', restart: false },
      { service: 'less', condition: 'started', restart: false },
    ])
  })

  it('have those that are to complete started again only when they fail', () => {
    const once = { depends_on: { fill: { condition: 'service_completed_successfully' } } }
    assert.equal(service(stack({ web: once, fill: {} }), 'fill')?.restart, 'on-failure')
    assert.equal(service(stack({ web: once, fill: { restart: 'no' } }), 'fill')?.restart, 'no')
    assert.equal(service(stack({ web: { depends_on: ['fill'] }, fill: {} }), 'fill')?.restart, undefined)
    const key = 'services.web.depends_on.fill.condition'
    for (const restart of ['always', 'unless-stopped']) {
      refusedAt(() => stack({ web: once, fill: { restart } }), key, /never completes: give it restart: on-failure/)
    }
  })

  it('do not wait for what never comes', () => {
    const web = { depends_on: { db: { condition: 'service_healthy' } } }
    const key = 'services.web.depends_on.db.condition'
    refusedAt(() => stack({ web, db: { healthcheck: { disable: true } } }), key, /never becomes healthy/)
    refusedAt(
      () => stack({ web: { depends_on: ['other'] } }),
      'services.web.depends_on[0]',
      /there is no service other/,
    )
    refusedAt(
      () => stack({ web: { depends_on: { x: { condition: 'service_started' } } } }),
      'services.web.depends_on.x',
      /no service x/,
    )
    refusedAt(() => stack({ web: { depends_on: ['web'] } }), 'services.web.depends_on[0]', /for itself/)
    const odd = { depends_on: { db: { condition: 'service_happy' } } }
    refusedAt(() => stack({ web: odd, db: {} }), key, /expected one of service_started/)
    const more = { depends_on: { db: { condition: 'service_started', after: 1 } } }
    refusedAt(() => stack({ web: more, db: {} }), 'services.web.depends_on.db.after', /not supported/)
  })

  it('do not wait for each other, and the ring is named', () => {
    const ring = {
      web: { depends_on: ['a'] },
      a: { depends_on: ['b'] },
      b: { depends_on: ['c'] },
      c: { depends_on: ['a'] },
    }
    refusedAt(() => stack(ring), 'services.a.depends_on', /wait for each other: a -> b -> c -> a$/)
    const diamond = { web: { depends_on: ['a', 'b'] }, a: { depends_on: ['c'] }, b: { depends_on: ['c'] }, c: {} }
    assert.equal(stack(diamond).services.length, 4)
  })
})

describe('a stack', () => {
  it('has the entry first, the others as they stand in the file', () => {
    const read = stack({ z: {}, a: {}, web: {}, m: {} })
    assert.deepEqual(
      read.services.map(({ name }) => name),
      ['web', 'z', 'a', 'm'],
    )
  })

  it('has services with names that hosts know, at most 32, and the entry among them', () => {
    for (const name of ['Web', 'a.b', '-a', 'a-', 'x'.repeat(32)]) {
      refusedAt(() => stack({ web: {}, [name]: {} }), `services.${name}`, /expected a name/)
    }
    assert.equal(stack({ web: {}, a_b: {}, '0-1': {} }).services.length, 3)
    refusedAt(() => stack({ other: {} }), 'services', /no service web/)
    refusedAt(() => stack({}), 'services', /no service web/)
    const many = Object.fromEntries(Array.from({ length: 32 }, (_, n) => [`s${n}`, {}]))
    refusedAt(() => stack({ web: {}, ...many }), 'services', /at most 32/)
  })

  it('has no other sections and no other keys', () => {
    const read = (more: Keys) => () => readWith({ services: { web: { image: 'nginx' } }, ...more })
    refusedAt(read({ models: {} }), 'models', /not supported/)
    refusedAt(read({ services: [] }), 'services', /a map/)
    refusedAt(read({ services: { web: 'nginx' } }), 'services.web', /a map/)
    assertRefused({ volumes_from: ['x'] }, 'services.web.volumes_from', /not supported/)
    assert.equal(read({ 'x-common': { a: 1 }, networks: null, volumes: null })().services.length, 1)
  })

  it('tells all its faults at once to whoever takes them, each with its key', () => {
    const faults: string[] = []
    const services = {
      web: { image: 'nginx', mem_limit: 'x', ports: ['0'], build: '.', networks: ['none'] },
      db: { command: 5, environment: ['A'], restart: 'x', depends_on: ['none'] },
      'Bad-Name': { image: 'nginx' },
    }
    const none = { text: () => undefined, content: () => undefined }
    const read = readStack(
      { services, configs: { a: {} }, volumes: { v: { external: true } } },
      { entry: 'web', files: { read: () => null }, variables: none, fault: ({ field }) => faults.push(field) },
    )
    const expected = [
      'configs.a',
      'services.Bad-Name',
      'services.db.command',
      'services.db.depends_on[0]',
      'services.db.environment[0]',
      'services.db.image',
      'services.db.restart',
      'services.web.build',
      'services.web.mem_limit',
      'services.web.networks[0]',
      'services.web.ports[0]',
      'volumes.v.external',
    ]
    assert.deepEqual(faults.toSorted(), expected)
    assert.equal(read.services.length, 3)
  })

  it('of any shape is either refused by InvalidInput, or one that hosts take', () => {
    const keys =
      'image command entrypoint environment env_file label_file labels user group_add init stop_signal stop_grace_period restart depends_on healthcheck expose logging extra_hosts scale mem_limit pids_limit memswap_limit cpus cpu_shares cpuset shm_size oom_score_adj ulimits deploy cap_add cap_drop privileged security_opt read_only sysctls devices ports network_mode networks tmpfs volumes configs secrets container_name platform pull_policy working_dir'
    const inner =
      'web db default test interval retries disable condition required service_healthy soft hard nofile source target type tmpfs size mode driver options max-size resources limits reservations memory restart_policy aliases ipv6_address ipam config subnet content file path a x-a __proto__ constructor toString'
    const word = fc.constantFrom(
      ...'nginx web db default 80 8080:80 53/udp /a data:/a /srv:/b 64m 10s true no always ALL CHOWN NET_ADMIN /dev/fuse A=1 A fd00:5::/64 fd00:5::1 service:web CMD /run:size=1m on-failure:2 seccomp=unconfined volume bind'.split(
        ' ',
      ),
    )
    const scalar = fc.oneof(word, fc.string(), fc.integer(), fc.double(), fc.boolean(), fc.constant(null))
    const { tree } = fc.letrec<{ tree: Json }>((tie) => ({
      tree: fc.oneof(
        { depthSize: 'small' },
        scalar,
        fc.array(tie('tree'), { maxLength: 4 }),
        fc.dictionary(fc.oneof(fc.constantFrom(...inner.split(' ')), fc.string()), tie('tree'), { maxKeys: 4 }),
      ) as fc.Arbitrary<Json>,
    }))
    const web = fc.dictionary(fc.constantFrom(...keys.split(' ')), tree, { maxKeys: 3 })
    const sections = fc.dictionary(fc.constantFrom('networks', 'volumes', 'configs', 'secrets'), tree, { maxKeys: 1 })
    const files = { read: (path: string) => (path === 'a' ? Buffer.from('A=1\nB="$A"') : null) }
    const variables = { text: (name: string) => (name === 'A' ? 'v' : undefined), content: () => undefined }
    let taken = 0
    fc.assert(
      fc.property(
        web,
        fc.oneof({ weight: 4, arbitrary: fc.constant(null) }, tree),
        sections,
        (keysOfWeb, db, others) => {
          const services = { web: { image: 'nginx', ...keysOfWeb }, ...(db === null ? {} : { db }) }
          for (const fault of [undefined, () => {}]) {
            try {
              const read = readStack({ ...others, services }, { entry: 'web', files, variables, fault })
              if (fault) continue
              servicesShape.parse(read.services)
              taken++
            } catch (error) {
              assert.ok(error instanceof InvalidInput, error instanceof Error ? error.stack : String(error))
              assert.match(error.field, /^(services|networks|volumes|configs|secrets)/)
            }
          }
        },
      ),
      { numRuns: 3000 },
    )
    assert.ok(taken > 50, `only ${taken} stacks were taken: the generator has become useless`)
  })
})
