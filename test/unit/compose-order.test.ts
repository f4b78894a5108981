// biome-ignore-all lint/suspicious/noTemplateCurlyInString: these texts are of Compose, not of JavaScript
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import { InvalidInput } from '../../common/errors.ts'
import { orderFor } from '../../orchestrator/compose/order.ts'
import { FACT_VARIABLES, factsOf, isFactName } from '../../orchestrator/compose/variables.ts'
import type { HostName } from '../../orchestrator/domain/host.ts'
import { type Lease, type LeaseFacts, mergeLease } from '../../orchestrator/domain/lease.ts'
import type { Parameter, Parameters } from '../../orchestrator/domain/parameter.ts'
import type { Json, Template } from '../../orchestrator/domain/template.ts'
import { refusedAt } from '../support/compose-stacks.ts'
import { leaseEvent, template as plain, service } from '../support/fixtures.ts'
import { instance } from '../support/instances.ts'

const MIB = 1024 * 1024

function lease(facts: LeaseFacts = {}): Lease {
  const change = mergeLease(null, leaseEvent(1, 1000, { facts }), 1000)
  assert.ok(change.kind === 'begun')
  return change.lease
}

function parameter(name: string, type: Parameter['type'] = 'string'): Parameter {
  const rest = {
    description: null,
    required: true,
    default: null,
    values: null,
    pattern: null,
    least: null,
    most: null,
  }
  return { name, type, ...rest }
}

function template(
  web: { readonly [key: string]: Json },
  change: Partial<Template> = {},
  more: Template['stack'] = {},
): Template {
  const stack = { services: { web: { image: 'nginx', ...web } }, ...more }
  return { ...plain, entry: { service: 'web', port: 80 }, stack, ...change }
}

const order = (from: Template, given: Parameters = {}, facts: LeaseFacts = {}) =>
  orderFor(instance(1), from, lease(facts), { name: 'h1' as HostName, facts: {} }, given)
const web = (...given: Parameters_<typeof order>) => order(...given).services[0] ?? assert.fail()
type Parameters_<F extends (...given: never[]) => unknown> = F extends (...given: infer A) => unknown ? A : never
const textOf = (content: string | undefined) => Buffer.from(content ?? '', 'base64').toString()

describe('the order for an instance', () => {
  it('has its services with every default, its facts in their environment, and nothing that nobody asked for', () => {
    const made = order(template({ environment: { A: 'x' } }), {}, { hostname: 'laptop' })
    const environment = {
      A: 'x',
      ORCHESTRATOR_INSTANCE: 'i-stored1',
      ORCHESTRATOR_NAME: 'name1',
      ORCHESTRATOR_ADDRESS: 'fd00:1::1001',
      ORCHESTRATOR_OWNER_DUID: '00:03:00:01:02:00:00:00:00:01',
      ORCHESTRATOR_OWNER_IAID: '1',
      ORCHESTRATOR_OWNER_ADDRESS: 'fd00:c::1001',
      ORCHESTRATOR_HOSTNAME: 'laptop',
    }
    const capabilities = [
      'CHOWN',
      'DAC_OVERRIDE',
      'FOWNER',
      'KILL',
      'NET_BIND_SERVICE',
      'SETGID',
      'SETUID',
      'SYS_CHROOT',
    ]
    const { id, generation, owner, name, address, ownerAddress } = instance(1)
    assert.deepEqual(made, {
      instance: id,
      generation,
      owner,
      name,
      address,
      ownerAddress,
      services: [service({ image: 'nginx', environment, capabilities, memoryBytes: 256 * MIB, pids: 256 })],
      outputs: false,
      entryPort: 80,
      home: { name: 'h1', address: null },
    })
  })

  it('has its variables filled in everywhere: parameters of every type, and facts', () => {
    const parameters = [
      parameter('TITLE'),
      parameter('COUNT', 'integer'),
      parameter('SHARE', 'number'),
      parameter('ON', 'boolean'),
    ]
    const from = template(
      {
        command: ['run', '${TITLE}', '${INSTANCE_NAME}@${LEASE_ADDRESS}'],
        environment: { TITLE: null, HOST: '$LEASE_HOSTNAME', NONE: '${NONE:-none}' },
        pids_limit: '${COUNT}',
        cpus: '${SHARE}',
        init: '${ON}',
        labels: ['version=$INSTANCE_VERSION'],
      },
      { parameters },
    )
    const made = web(from, { TITLE: 'a "b" $c', COUNT: 7, SHARE: 0.5, ON: true }, { hostname: 'laptop' })
    assert.deepEqual(made.command, ['run', 'a "b" $c', 'name1@fd00:c::1001'])
    assert.deepEqual(
      [made.environment['TITLE'], made.environment['HOST'], made.environment['NONE']],
      ['a "b" $c', 'laptop', 'none'],
    )
    assert.deepEqual([made.pids, made.cpus, made.init, made.labels], [7, 0.5, true, { version: 'v1' }])
  })

  it('gives every service the parameters in a file, if the template has any', () => {
    const given = { TITLE: 'x', COUNT: 7, ON: false }
    const parameters = [parameter('TITLE'), parameter('COUNT', 'integer'), parameter('ON', 'boolean')]
    const services = { web: { image: 'nginx' }, db: { image: 'redis' } }
    const made = order({ ...template({}, { parameters }), stack: { services } }, given)
    assert.equal(made.services.length, 2)
    for (const { files } of made.services) {
      assert.deepEqual(
        files.map(({ target, mode }) => ({ target, mode })),
        [{ target: '/orchestrator/parameters.json', mode: 0o444 }],
      )
      assert.deepEqual(JSON.parse(textOf(files[0]?.content)), given)
    }
    assert.deepEqual(web(template({})).files, [])
  })

  it('says whether there are outputs', () => {
    assert.equal(order(template({}, { outputs: [{ name: 'url', type: 'url', description: null }] })).outputs, true)
  })

  it('has the networks of the stack beside the wiring of the template', () => {
    const services = { web: { image: 'nginx' }, db: { image: 'redis', networks: ['default', 'back'] } }
    const stack = { services, networks: { back: { ipam: { config: [{ subnet: 'fd00:5::/64' }] } } } }
    const networks = { back: { prefix: 'fd00:5::/64' }, default: {} }
    assert.deepEqual(order({ ...template({}), stack }).wiring, { interfaces: [], networks })
    const policy = { public: [], egress: 'internet', limits: {} } as const
    const wiring = { interfaces: [], policy: { ...policy, public: [] }, networks: {} }
    assert.deepEqual(order({ ...template({}), stack, wiring }).wiring, { interfaces: [], policy, networks })
    assert.deepEqual(order(template({}, { wiring })).wiring, wiring)
  })

  it('has files of the template, and files that parameters are', () => {
    const files = { './page.html': Buffer.from('<p>').toString('base64') }
    const configs = {
      page: { file: './page.html' },
      logo: { environment: 'LOGO' },
      text: { content: 'for $LEASE_MAC' },
    }
    const from = template(
      { configs: ['page', 'logo', 'text'] },
      { files, parameters: [parameter('LOGO', 'file')] },
      { configs },
    )
    const bytes = Buffer.from([0, 255, 1, 254])
    const made = web(from, { LOGO: bytes.toString('base64') }, { mac: '02:00:00:00:00:01' })
    assert.equal(textOf(made.files[0]?.content), '<p>')
    assert.deepEqual(Buffer.from(made.files[1]?.content ?? '', 'base64'), bytes)
    assert.equal(textOf(made.files[2]?.content), 'for 02:00:00:00:00:01')
    const inText = template({ command: ['$LOGO'] }, { parameters: [parameter('LOGO', 'file')] })
    refusedAt(() => order(inText, { LOGO: 'AAAA' }), 'services.web.command[0]', /LOGO is a file/)
  })

  it('has the values that the template has fixed for its base, over parameters', () => {
    const fixed = { NAME: 'Hello ${TITLE}', TWICE: '$NAME $NAME', PORT: 8080 }
    const from = template({ command: ['$NAME', '$TWICE', '$PORT'] }, { fixed, parameters: [parameter('TITLE')] })
    const made = web(from, { TITLE: 'you' })
    assert.deepEqual(made.command, ['Hello you', 'Hello you Hello you', '8080'])
    const given = { NAME: 'Hello you', TWICE: 'Hello you Hello you', PORT: 8080, TITLE: 'you' }
    assert.deepEqual(JSON.parse(textOf(made.files[0]?.content)), given)
    assert.equal(web(from).command?.[0], 'Hello ')
    const strict = template({}, { fixed: { NAME: '${TITLE?}' }, parameters: [parameter('TITLE')] })
    refusedAt(() => order(strict), 'parameters.NAME', /TITLE is missing a value/)
    const bomb = Object.fromEntries(Array.from({ length: 40 }, (_, n) => [`P${n}`, `$P${n + 1}$P${n + 1}`]))
    refusedAt(() => order(template({}, { fixed: { ...bomb, P40: 'x' } })), 'parameters.P19', /longer than any file/)
  })

  it('is refused where a variable that needs a value has none, by the key', () => {
    assert.deepEqual(web(template({ command: ['a', '$NONE'] })).command, ['a', ''])
    refusedAt(() => order(template({ image: '${NONE:?say it}' })), 'services.web.image', /missing a value: say it/)
    refusedAt(
      () => order(template({ mem_limit: '$SIZE' }, { parameters: [parameter('SIZE')] }), { SIZE: 'x' }),
      'services.web.mem_limit',
      /a size/,
    )
  })
})

describe('a secret', () => {
  const secret = 'correct-horse'
  const parameters = [parameter('WORD', 'secret'), parameter('TITLE')]
  const given = { WORD: secret, TITLE: 'x' }

  it('reaches files in memory, and nothing else of the order', () => {
    const sections = {
      configs: { app: { content: 'word=${WORD}\n' } },
      secrets: { word: { environment: 'WORD' } },
    }
    const made = order(template({ configs: ['app'], secrets: ['word'] }, { parameters }, sections), given)
    const [app, word, all] = made.services[0]?.files ?? []
    assert.deepEqual([textOf(app?.content), textOf(word?.content)], [`word=${secret}\n`, secret])
    assert.equal(JSON.parse(textOf(all?.content)).WORD, secret)
    const rest = JSON.stringify({ ...made, services: made.services.map(({ files: _, ...others }) => others) })
    assert.ok(!rest.includes(secret))
  })

  it('is refused everywhere else, in words without it', () => {
    const places: [Template, string][] = [
      [template({ environment: { A: '$WORD' } }, { parameters }), 'services.web.environment.A'],
      [template({ environment: ['WORD'] }, { parameters }), 'services.web.environment[0]'],
      [template({ command: 'run ${WORD}' }, { parameters }), 'services.web.command'],
      [template({ labels: { a: '${NONE:-$WORD}' } }, { parameters }), 'services.web.labels.a'],
      [template({ image: '${WORD}' }, { parameters }), 'services.web.image'],
      [
        template({ env_file: 'a.env' }, { parameters, files: { 'a.env': Buffer.from('A=$WORD').toString('base64') } }),
        'services.web.env_file',
      ],
      [template({ command: ['$INNER'] }, { parameters, fixed: { INNER: 'a $WORD' } }), 'services.web.command[0]'],
      [template({}, { parameters }, { configs: { a: { file: '$WORD' } } }), 'configs.a.file'],
    ]
    for (const [from, key] of places) {
      assert.throws(
        () => order(from, given),
        (error) => {
          assert.ok(error instanceof InvalidInput)
          assert.equal(error.field, key)
          assert.match(error.message, /is a secret/)
          assert.ok(!error.message.includes(secret))
          return true
        },
      )
    }
  })

  it('is not in the words of a fault that the author has written', () => {
    const content = '${NONE:?the word is not $WORD}'
    const from = template({ configs: ['a'] }, { parameters }, { configs: { a: { content } } })
    refusedAt(() => order(from, given), 'configs.a.content', /the word is not \*\*\*$/)
  })
})

describe('what a device says', () => {
  it('is in variables that templates have without declaring them', () => {
    const facts: LeaseFacts = {
      mac: '02:00:00:00:00:01',
      hostname: 'laptop',
      domain: 'example.net',
      interface: 'eth1',
      relay: 'fd00:c::1',
      mudUrl: 'https://example.net/d.json',
      vendorClass: 'MSFT 5.0',
      tags: ['known', 'lan'],
      userClasses: ['a,b', 'c'],
    }
    assert.deepEqual(factsOf(instance(1, { rule: 'guests' }), lease(facts)), {
      LEASE_ADDRESS: 'fd00:c::1001',
      LEASE_HOSTNAME: 'laptop',
      LEASE_DOMAIN: 'example.net',
      LEASE_MAC: '02:00:00:00:00:01',
      LEASE_DUID: '00:03:00:01:02:00:00:00:00:01',
      LEASE_IAID: '1',
      LEASE_TAGS: 'known,lan',
      LEASE_INTERFACE: 'eth1',
      LEASE_RELAY: 'fd00:c::1',
      LEASE_SOURCE: 'h1',
      LEASE_VENDOR_CLASS: 'MSFT_5.0',
      LEASE_USER_CLASSES: 'a_b,c',
      LEASE_MUD_URL: 'https://example.net/d.json',
      INSTANCE_ID: 'i-stored1',
      INSTANCE_NAME: 'name1',
      INSTANCE_ADDRESS: 'fd00:1::1001',
      INSTANCE_TEMPLATE: 'sample',
      INSTANCE_VERSION: 'v1',
      INSTANCE_RULE: 'guests',
    })
  })

  it('is empty where nothing is known, and every variable has a sample, a meaning and a name of its own', () => {
    assert.equal(factsOf(instance(1), lease())['LEASE_HOSTNAME'], '')
    assert.equal(factsOf(instance(1), lease({ hostname: '..' }))['LEASE_HOSTNAME'], '')
    assert.equal(factsOf(instance(1), lease({ mudUrl: 'file:///etc' }))['LEASE_MUD_URL'], '')
    for (const { name, meaning, sample } of FACT_VARIABLES) {
      assert.ok(isFactName(name), name)
      assert.ok(meaning.length > 10 && sample !== '', name)
    }
    assert.equal(new Set(FACT_VARIABLES.map(({ name }) => name)).size, FACT_VARIABLES.length)
  })

  it('stays within its own text wherever it is put, whatever it is', () => {
    const hostile = fc.oneof(
      fc.string(),
      fc.constantFrom(
        'a b',
        '"; rm -rf /',
        '$(id)',
        '`id`',
        "'",
        '../..',
        ':/etc',
        'a\nb',
        'a\0b',
        '${LEASE_MAC}',
        '{}',
        '\u2028',
        '-v\t/:/x',
      ),
    )
    const from = template(
      {
        command: 'run --name ${LEASE_HOSTNAME} --class ${LEASE_VENDOR_CLASS} end',
        tmpfs: ['/run/${LEASE_HOSTNAME}:size=1m'],
        environment: ['HOST=$LEASE_HOSTNAME', 'URL=$LEASE_MUD_URL'],
        configs: ['a'],
      },
      {},
      { configs: { a: { content: '$LEASE_USER_CLASSES' } } },
    )
    fc.assert(
      fc.property(hostile, hostile, (one, other) => {
        const made = web(
          from,
          {},
          { hostname: `x${one}`, vendorClass: `x${other}`, mudUrl: `https://${one}`, userClasses: [one, other] },
        )
        assert.equal(made.command?.length, 6)
        assert.equal(made.mounts.length, 1)
        assert.match(made.mounts[0]?.target ?? '', /^\/run\/[^/:]+$/)
        assert.equal(Object.keys(made.environment).length, 9)
        assert.doesNotMatch(made.environment['ORCHESTRATOR_HOSTNAME'] ?? '', /[\0\n]/)
        for (const text of [
          ...(made.command ?? []),
          made.environment['HOST'] ?? '',
          made.environment['URL'] ?? '',
          textOf(made.files[0]?.content),
        ]) {
          assert.doesNotMatch(text, /[\s\0"'`$;&|<>(){}\\]/)
        }
      }),
    )
  })

  it('cannot weaken isolation, nor can a parameter', () => {
    const keys = { volumes: ['${DIR}:/data'] }
    const parameters = [parameter('DIR')]
    const volumes = { data: {} }
    const from = template(keys, { parameters }, { volumes })
    assert.equal(web(from, { DIR: 'data' }).mounts[0]?.kind, 'volume')
    refusedAt(() => order(from, { DIR: '/etc' }), 'services.web.volumes[0]', /would weaken isolation/)
    const trusted = { ...from, weakens: ['services.web.volumes[0]'] }
    assert.equal(web(trusted, { DIR: '/etc' }).mounts[0]?.kind, 'host')
    const hostname = template({ cap_add: ['$LEASE_HOSTNAME'] })
    refusedAt(() => order(hostname, {}, { hostname: 'SYS_ADMIN' }), 'services.web.cap_add[0]', /would weaken isolation/)
  })
})
