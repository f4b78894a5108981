import assert from 'node:assert/strict'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { after, beforeEach, describe, it } from 'node:test'
import fc from 'fast-check'
import { InvalidInput } from '../../common/errors.ts'
import { orderFor } from '../../orchestrator/domain/instance.ts'
import { chooseTemplate, readTemplates } from '../../orchestrator/templates.ts'
import { orderShape } from '../../unionize/contract.ts'
import { instance } from '../support/instances.ts'

const WEB = 'summary: a page\nservices: { web: { image: nginx } }\n'

describe('templates', () => {
  const made: string[] = []
  let directory = ''
  beforeEach(() => {
    directory = mkdtempSync('/tmp/orchestrator-templates-')
    made.push(directory)
  })
  after(() => {
    for (const one of made) rmSync(one, { recursive: true })
  })
  const write = (name: string, text: string) => writeFileSync(join(directory, name), text)
  const one = (text: string) => {
    write('sample.yaml', text)
    return readTemplates(directory)[0] ?? assert.fail()
  }
  const refused = (text: string, expected: RegExp) =>
    assert.throws(
      () => one(text),
      (error) => error instanceof InvalidInput && error.field.endsWith('sample.yaml') && expected.test(error.message),
    )

  it('are read from a folder by name, with defaults that are safe', () => {
    write('b.yml', WEB)
    write('a.yaml', WEB)
    write('.hidden.yaml', 'nonsense')
    write('README.md', 'nonsense')
    const templates = readTemplates(directory)
    assert.deepEqual(
      templates.map((t) => t.name),
      ['a', 'b'],
    )
    const [web] = templates[0]?.services ?? []
    assert.deepEqual([web?.memoryBytes, web?.pids, web?.stopGraceMs], [256 << 20, 256, 0])
    assert.ok(!web?.capabilities.some((c) => ['SYS_ADMIN', 'NET_ADMIN', 'NET_RAW', 'SYS_PTRACE'].includes(c)))
    assert.deepEqual([templates[0]?.backend, templates[0]?.entryPort, templates[0]?.graceMs], ['docker', null, 0])
  })

  it('keep their services in the order of the file: the first is the entry', () => {
    const services = one('summary: x\nservices: { zz: { image: a }, aa: { image: b }, mm: { image: c } }').services
    assert.deepEqual(
      services.map((s) => s.name),
      ['zz', 'aa', 'mm'],
    )
  })

  it('have the same version as long as they mean the same', () => {
    const { version } = one(WEB)
    assert.equal(one(`# a comment\nservices:\n  web:\n    image: "nginx"\nsummary: 'a page'\n`).version, version)
    assert.equal(one(`${WEB}grace-seconds: 0\n`).version, version, 'a default said aloud')
    assert.notEqual(one(`${WEB}grace-seconds: 1\n`).version, version)
    assert.notEqual(one(WEB.replace('nginx', 'nginx:2')).version, version)
  })

  it('count whole milliseconds, whatever fractions of a second they say', () => {
    fc.assert(
      fc.property(fc.double({ min: 0, max: 3600, noNaN: true }), (seconds) => {
        const text = WEB.replace('image: nginx', `image: nginx, stop-grace-seconds: ${seconds}`)
        const template = one(`${text}grace-seconds: ${seconds}`)
        assert.ok(Number.isInteger(template.graceMs) && Number.isInteger(template.services[0]?.stopGraceMs))
      }),
      { numRuns: 30, examples: [[1.001], [0.0001]] },
    )
  })

  it('make orders that every host accepts, at their very limits', () => {
    const services = Array.from({ length: 32 }, (_, n) => `s${n}: { image: a, command: [${Array(256).fill('x')}] }`)
    const template = one(`summary: x\nentry-port: 65535\nservices: { ${services.join(', ')} }`)
    const lease = { facts: {} } as Parameters<typeof orderFor>[2]
    const parsed = orderShape.safeParse(orderFor(instance(1), template, lease))
    assert.equal(parsed.success, true, parsed.error?.message)
  })

  it('are refused, naming file and field, when a host would refuse their orders', () => {
    const service = (text: string) => `summary: x\nservices: { web: { image: a, ${text} } }`
    const many = Array.from({ length: 33 }, (_, n) => `s${n}: { image: a }`)
    refused(`summary: x\nservices: { ${many.join(', ')} }`, /services: expected at most 32/)
    refused(service(`command: [${Array(257).fill('x')}]`), /services\.web\.command/)
    refused(service(`capabilities: [${Array(42).fill('CHOWN')}]`), /services\.web\.capabilities/)
    refused(service('memory-mib: 1'), /services\.web\.memory-mib/)
    refused(service('pids: 0'), /services\.web\.pids/)
    refused(service('environment: { A-B: x }'), /services\.web\.environment/)
    refused('summary: x\nservices: { Web: { image: a } }', /services/)
    refused('summary: x\nservices: {}', /expected at least one service/)
  })

  it('are refused when they hold what nobody knows, or tell all faults at once', () => {
    refused(`${WEB}colour: red`, /colour/)
    refused('services: { web: { imag: a } }\nentry-port: 70000', /summary.*services\.web.*entry-port/s)
    refused('', /the file/)
    refused('- a', /the file/)
    refused('a: b: c', /cannot be read/)
  })

  it('are refused when two files or a folder would leave it open what is meant', () => {
    write('a.yaml', WEB)
    write('a.yml', WEB)
    assert.throws(() => readTemplates(directory), /there is a template a in a\.yaml too/)
    assert.throws(() => readTemplates(join(directory, 'none')), /templates\.directory: the folder .* cannot be read/)
    rmSync(join(directory, 'a.yml'))
    write('Big_Name.yaml', WEB)
    assert.throws(() => readTemplates(directory), /Big_Name\.yaml: a template file is named/)
  })

  it('carry their wiring to the order word for word, whatever the lease says', () => {
    const template = one(`summary: x
services:
  web: { image: a, networks: { back: { aliases: [front] } } }
  db: { image: b, sandbox: own, networks: { back: {} } }
wiring:
  interfaces: [{ name: lan, link: { kind: macvlan, parent: eno1 }, addressing: dhcp }]
  policy: { public: [{ port: 443 }], egress: [2001:db8::/32] }
  networks: { back: {} }
`)
    fc.assert(
      fc.property(fc.string(), fc.string(), (hostname, mac) => {
        const lease = { facts: { hostname, mac, tags: [hostname], domain: mac } } as never
        const order = orderFor(instance(1, { name: 'box' }), template, lease)
        assert.deepEqual(order.wiring, template.wiring)
        assert.deepEqual(
          order.services.map((s) => [s.sandbox, s.networks]),
          [
            [undefined, { back: { aliases: ['front'] } }],
            ['own', { back: { aliases: [] } }],
          ],
        )
        assert.ok(orderShape.safeParse(order).success)
      }),
      { numRuns: 20 },
    )
  })

  it('are refused, naming file and field, when their wiring cannot be', () => {
    const wired = (wiring: string, service = '') =>
      `summary: x\nservices: { web: { image: a ${service} } }\nwiring: ${wiring}`
    refused(wired('{ interfaces: [{ link: { kind: bridge } }] }'), /wiring\.interfaces\.0\.link\.bridge/)
    refused(
      wired('{ interfaces: [{ name: net-x, link: { kind: dummy } }] }'),
      /wiring\.interfaces: expected names other than/,
    )
    refused(wired('{ interfaces: [{ link: { kind: dummy } }, { link: { kind: dummy } }] }'), /each name once/)
    refused(wired('{ policy: { public: [{ port: 0 }] } }'), /wiring\.policy\.public\.0\.port/)
    refused(
      wired('{ networks: { back: { prefix: fd00::1 } } }'),
      /wiring\.networks\.back\.prefix: expected an IPv6 prefix/,
    )
    refused(
      wired('{ networks: {} }', ', networks: { back: {} }'),
      /services\.web\.networks\.back: there is no such network/,
    )
    refused(wired('{}', ', sandbox: own'), /services\.web\.sandbox: the first service/)
    refused(wired('{ colour: red }'), /wiring: .*colour/)
  })

  it('are chosen by name, with a suggestion when it is misspelt', () => {
    const sample = one(WEB)
    assert.equal(chooseTemplate([sample], 'sample'), sample)
    assert.throws(() => chooseTemplate([sample], 'smaple'), /there is no template smaple \(did you mean sample\?\)/)
    assert.throws(() => chooseTemplate([], 'sample'), InvalidInput)
  })
})
