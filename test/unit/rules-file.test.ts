import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import { stringify } from 'yaml'
import { InvalidInput } from '../../common/errors.ts'
import { durationText } from '../../orchestrator/catalog/rule-gift.ts'
import { keepSeals, type RulesKnown, readRules, writtenRules } from '../../orchestrator/catalog/rules-file.ts'
import { faultText } from '../../orchestrator/compose/faults.ts'
import { settleParameters } from '../../orchestrator/compose/parameters.ts'
import { durationOf } from '../../orchestrator/compose/stack/durations.ts'
import type { Parameter } from '../../orchestrator/domain/parameter.ts'
import type { Template } from '../../orchestrator/domain/template.ts'
import { template } from '../support/fixtures.ts'

const parameter = (name: string, change: Partial<Parameter>): Parameter => ({
  ...{ name, type: 'string', description: null, required: false, default: null, values: null, pattern: null },
  ...{ least: null, most: null },
  ...change,
})
const web: Template = {
  ...template,
  name: 'web',
  version: '0123456789ab',
  number: 3,
  parameters: [
    parameter('COLOR', { required: true }),
    parameter('PASSWORD', { type: 'secret', least: 4 }),
    parameter('PAGE', { type: 'file' }),
    parameter('PORT', { type: 'integer', most: 65535 }),
  ],
}
/** Some texts would be compared with its pattern for years. */
const slow: Template = {
  ...template,
  name: 'slow',
  parameters: [parameter('A', { pattern: '(a+)+' }), parameter('N', { type: 'integer' })],
}
let sealings = 0
const seal = {
  seal: (name: string, secret: string) => ({ sealed: `${name}#${++sealings}#${secret}` }),
  open: (_: string, { sealed }: { sealed: string }) => sealed.split('#')[2] ?? '',
}
const known: RulesKnown = {
  find: (name, version) =>
    name === 'slow'
      ? slow
      : name === 'web' && (version === undefined || version === 3 || version === '0123456789ab')
        ? web
        : null,
  names: ['web', 'notes'],
  backends: ['docker', 'fake'],
  seal,
}
const read = (text: string) => readRules({ file: 'rules.yaml', text }, known)
const content = (text: string) => {
  const { content: found, faults } = read(text)
  assert.deepEqual(faults, [])
  assert.ok(found)
  return found
}
/** The faults of one rule's text, which begins on line 2. */
const faultsOf = (rule: string) => {
  const result = read(`rules:\n${rule}`)
  assert.equal(result.content, null)
  return result.faults.map(faultText)
}

describe('a rules file', () => {
  it('means the rules that it says, in one spelling', () => {
    const { rules, quotas } = content(`
rules:
  - name: lab
    match:
      mac: [02-00-5E-*, 02:00:5E:00:53:0A]
      duid: 00:03:00:01:*
      tags: {all: [lab], none: guest}
      subnet: FD00:0::/32
      relay: [none, "fd00::/64"]
      hostname: Printer-*
      mud-url: "https://*.example/*"
      vendor-class: dhcpcd*
      user-class: [gold]
      interface: eth0
      source: h1
      time: {days: [Fri, sat], from: 8:00, to: 24:00, zone: Europe/Berlin}
      percent: 12.5
    give:
      template: web@3
      parameters: {COLOR: red, PORT: 8080, PAGE: {content: "hi\\n"}}
      backend: fake
      lifetime: {most: 2h, grace: 1m30s}
      most: 5
  - {name: guests, match: {tags: guest}, give: nothing}
  - {name: rest, give: {template: web@0123456789ab, parameters: {COLOR: blue}}}
quotas: {total: 10, per-owner: 2}
`)
    assert.deepEqual(quotas, { total: 10, perOwner: 2 })
    assert.deepEqual(rules[0]?.match, {
      duid: ['00:03:00:01:*'],
      mac: ['02:00:5e:*', '02:00:5e:00:53:0a'],
      tags: { all: ['lab'], none: ['guest'] },
      subnet: ['fd00::/32'],
      relay: ['none', 'fd00::/64'],
      interface: ['eth0'],
      source: ['h1'],
      hostname: ['printer-*'],
      mudUrl: ['https://*.example/*'],
      vendorClass: ['dhcpcd*'],
      userClass: ['gold'],
      time: { days: ['fri', 'sat'], from: '08:00', to: '24:00', zone: 'Europe/Berlin' },
      percent: 12.5,
    })
    assert.deepEqual(rules[0]?.give, {
      template: 'web',
      version: 3,
      parameters: { COLOR: 'red', PORT: 8080, PAGE: 'aGkK' },
      backend: 'fake',
      lifetime: { mostMs: 7_200_000, graceMs: 90_000 },
      most: 5,
    })
    assert.deepEqual(rules[1], { name: 'guests', match: { tags: { any: ['guest'] } }, give: null })
    assert.equal(rules[2]?.give?.version, '0123456789ab')
  })

  it('names the line, the key and the remedy of each fault, all at once', () => {
    assert.deepEqual(
      faultsOf(`  - name: a
    matsch: {}
    match:
      macs: x
      mac: 02:00:5e
      tags: []
      subnet: fd00::1/64
      relay: nope
      percent: 120
      hostname: 5
      duid:
      time: {from: 25:00, zone: Europe/Berln, days: [monday]}
    give:
      template: wep
      most: -1
      lifetime: {most: 3 parsecs, gracee: 1s}
`),
      [
        'rules.yaml:3: rules[0].matsch: is not known here (did you mean match?); expected name, match, give',
        'rules.yaml:5: rules[0].match.macs: is not known here (did you mean mac?); expected duid, mac, tags, subnet, relay, interface, source, hostname, mud-url, vendor-class, user-class, time, percent',
        'rules.yaml:12: rules[0].match.duid: has no value: give it one, or take it away',
        'rules.yaml:6: rules[0].match.mac: 02:00:5e has 3 octets, and a MAC has 6; if all that begin so are meant, write 02:00:5e:*',
        'rules.yaml:7: rules[0].match.tags: is an empty list, which nothing matches: give it values, or take it away',
        'rules.yaml:8: rules[0].match.subnet: fd00::1/64 has bits set below its length; write fd00::/64',
        'rules.yaml:9: rules[0].match.relay: expected an IPv6 prefix such as fd00:1::/64, got "nope"',
        'rules.yaml:11: rules[0].match.hostname: expected a text: put it in quotes',
        'rules.yaml:13: rules[0].match.time.days[0]: expected mon, tue, wed, thu, fri, sat, sun, got monday',
        'rules.yaml:13: rules[0].match.time.from: expected a time of day such as 08:00',
        'rules.yaml:13: rules[0].match.time.zone: expected a time zone of the IANA database such as Europe/Berlin (did you mean Europe/Berlin?)',
        'rules.yaml:10: rules[0].match.percent: expected a number from 0 to 100',
        'rules.yaml:15: rules[0].give.template: there is no template wep (did you mean web?); apply it first, or together with the rules',
        'rules.yaml:17: rules[0].give.lifetime.gracee: is not known here (did you mean grace?); expected most, grace',
        'rules.yaml:17: rules[0].give.lifetime.most: expected a duration with units, such as 90s, 1m30s or 2h',
        'rules.yaml:16: rules[0].give.most: expected a whole number from 0',
      ],
    )
  })

  it('refuses what a template does not have, and never repeats a secret', () => {
    const faults = faultsOf(`  - {name: a, give: {template: web@7, parameters: {COLOR: x}}}
  - {name: b, give: {template: web@latest}}
  - name: c
    give: {template: web, parameters: {COLUR: red, PASSWORD: abc, PAGE: "??", PORT: 70000}}
  - {name: d, give: {template: web, parameters: {COLOR: [x], PASSWORD: {content: hush}}, backend: dockr}}
`)
    assert.deepEqual(
      faults.map((text) => text.slice('rules.yaml:'.length)),
      [
        '2: rules[0].give.template: template web has no version 7',
        "3: rules[1].give.template: expected a version's number or its hash of 12 hex digits behind the @, got web@latest",
        '5: rules[2].give.parameters.COLUR: is no parameter of the template (did you mean COLOR?): known are COLOR, PASSWORD, PAGE, PORT',
        '5: rules[2].give.parameters.COLOR: is needed and was not given',
        '5: rules[2].give.parameters.PASSWORD: expected at least 4 characters',
        "5: rules[2].give.parameters.PAGE: expected a file's content in base64",
        '5: rules[2].give.parameters.PORT: expected at most 65535',
        '6: rules[3].give.parameters.COLOR: expected a text, a number, true or false; of a `file` parameter {content: TEXT}',
        '6: rules[3].give.parameters.PASSWORD: expected a text, a number, true or false; of a `file` parameter {content: TEXT}',
        '6: rules[3].give.backend: expected the name of a backend (did you mean docker?): docker, fake',
      ],
    )
    assert.ok(!faults.join().includes('abc') && !faults.join().includes('hush'))
  })

  it('tries no more patterns once one took too long, tells that once, and all else as ever', () => {
    const rule = (n: number) => `  - {name: r${n}, give: {template: slow, parameters: {A: ${'a'.repeat(60)}!, N: x}}}\n`
    const faults = faultsOf(Array.from({ length: 40 }, (_, n) => rule(n)).join(''))
    const about = (name: string) => faults.filter((text) => text.includes(`give.parameters.${name}: `))
    assert.deepEqual([about('A').length, about('N').length], [1, 40])
    assert.match(about('A')[0] ?? '', /^rules.yaml:2: .*takes too long to compare the text with the pattern \(a\+\)\+$/)
  })

  it('lets patterns that are not too slow each take no more than their time together', () => {
    const time = { leftMs: 0, isOver: false }
    const settle = () => settleParameters(slow.parameters, { A: 'aaa' }, time)
    assert.throws(settle, { code: 'invalid-input', message: /A: it takes too long/ })
    assert.deepEqual(settle(), { A: 'aaa' }, 'told once')
    const spent = { leftMs: 5000, isOver: false }
    const some = 'a'.repeat(20)
    for (let n = 0; n < 1000 && spent.leftMs === 5000; n++) {
      assert.throws(() => settleParameters(slow.parameters, { A: `${some}!` }, spent), /expected a text that matches/)
    }
    assert.ok(spent.leftMs < 5000, 'a comparison uses it up')
  })

  it('refuses names twice, windows that hold nothing, gifts that are none, and other files', () => {
    const twice = faultsOf(
      '  - {name: a, give: nothing}\n  - {name: a, give: nothing}\n  - {name: "b c", give: nothing}\n',
    )
    assert.match(twice[0] ?? '', /^rules.yaml:3: rules\[1\].name: a is the name of rule 1 already/)
    assert.match(twice[1] ?? '', /^rules.yaml:4: rules\[2\].name: expected a name of letters/)
    const time = (text: string) => faultsOf(`  - {name: a, match: {time: ${text}}, give: nothing}`).join()
    assert.match(time('{from: 8:00, to: 08:00, zone: UTC}'), /ends when it begins, at 08:00/)
    assert.match(time('{zone: UTC}'), /says no time/)
    assert.match(time('{from: 08:00}'), /zone: expected a time zone.*do not guess/)
    assert.match(time('{from: 24:00, zone: UTC}'), /from: is the end of the day/)
    assert.match(time('{from: 08:00, zone: "+02:00"}'), /zone: expected a time zone of the IANA database/)
    assert.match(faultsOf('  - {name: a}').join(), /give: expected `nothing`, or a map/)
    assert.match(faultsOf('  - {name: a, give: yes}').join(), /give: expected `nothing`, or a map/)
    assert.match(faultsOf('  - nothing').join(), /rules\[0\]: expected a map with name, match, give/)
    assert.match(faultsOf('  - {name: a, match: {mac: "02:*0:zz"}, give: nothing}').join(), /hex octets with colons/)
    assert.match(faultsOf('  - {name: a, match: {mac: "*x*"}, give: nothing}').join(), /hex octets with colons/)
    for (const [text, words] of [
      ['', /is empty: expected a rules file/],
      ['- a', /is not a rules file/],
      ['rules: {}', /rules: expected a list of rules/],
      ['rules: [', /is not YAML/],
      ['rules: []\nquotas: {total: many, totl: 1}', /quotas.totl: is not known here \(did you mean total\?\)/],
    ] as const) {
      const { content: none, faults } = read(text)
      assert.equal(none, null)
      assert.match(faults.map(faultText).join('\n'), words)
    }
  })

  it('takes patterns that a MAC or a DUID can match', () => {
    const patterns = ['02:*', '02:0*', '02:00:5e:*:01', '*:01', '*1', '*', '02:*5e*:01', '0*', '*:5e:*']
    const { rules } = content(
      stringify({ rules: patterns.map((mac, i) => ({ name: `r${i}`, match: { mac, duid: mac }, give: 'nothing' })) }),
    )
    assert.deepEqual(
      rules.map(({ match }) => match.mac?.[0]),
      patterns,
    )
  })

  it('notes rules that no lease reaches', () => {
    const notes = (first: string) =>
      read(
        `rules:\n  - {name: all, ${first} give: nothing}\n  - {name: late, match: {mac: "02:*"}, give: nothing}\n`,
      ).notes.map(faultText)
    for (const everything of ['', 'match: {},', 'match: {percent: 100},', 'match: {subnet: ["::/0"], source: "*"},']) {
      assert.deepEqual(notes(everything), [
        'rules.yaml:3: rules[1]: late is never reached: rule all before it matches every lease',
      ])
    }
    for (const some of ['match: {percent: 99},', 'match: {mac: "*"},', 'match: {time: {from: 08:00, zone: UTC}},']) {
      assert.deepEqual(notes(some), [])
    }
  })

  it('seals secrets, shows none of them, and is the same after it was written and read again', () => {
    const text = `rules:
  - name: a
    match: {mac: "02:*", tags: [x], time: {from: 22:00, to: 06:00, zone: UTC}, percent: 10, relay: none}
    give: {template: web, parameters: {COLOR: red, PASSWORD: hush-hush}, lifetime: {grace: 0s, most: 36h}, most: 0}
  - {name: b, give: nothing}
quotas: {total: 0}
`
    const first = content(text)
    assert.match(JSON.stringify(first.rules[0]?.give?.parameters['PASSWORD']), /"sealed"/)
    const shown = stringify(writtenRules(first, () => '(secret)'))
    assert.ok(!shown.includes('hush') && shown.includes('PASSWORD: (secret)'))
    const again = content(stringify(writtenRules(first, () => 'hush-hush')))
    assert.notDeepEqual(again, first, 'sealed anew')
    assert.deepEqual(keepSeals(again, first, seal), first)
    const other = content(text.replace('hush-hush', 'other'))
    assert.notDeepEqual(keepSeals(other, first, seal), first)
    assert.deepEqual(content('rules: []'), { rules: [], quotas: {} })
  })

  it('names further backends in the order in which they are tried, and what may be spent', () => {
    const text = `rules:
  - {name: a, give: {template: slow, backend: [fake, docker], spend: 0.50 EUR/hour}}
  - {name: b, give: {template: slow, backend: [docker]}}
quotas: {total: 3, spend: 20 EUR/hour}
`
    const found = content(text)
    const [a, b] = found.rules
    assert.deepEqual([a?.give?.backend, a?.give?.otherwise], ['fake', ['docker']])
    assert.deepEqual(a?.give?.spend, { perHour: 0.5, currency: 'EUR' })
    assert.deepEqual([b?.give?.backend, b?.give?.otherwise], ['docker', undefined])
    assert.deepEqual(found.quotas, { total: 3, spend: { perHour: 20, currency: 'EUR' } })
    const written = stringify(writtenRules(found, () => ''))
    assert.match(written, /spend: 0.5 EUR\/hour\n/)
    assert.deepEqual(content(written), found)
    const backend = (value: string) => faultsOf(`  - {name: a, give: {template: slow, backend: ${value}}}`).join('\n')
    assert.match(backend('[]'), /give.backend: is an empty list/)
    assert.match(
      backend('[fake, dokcer]'),
      /give.backend\[1\]: expected the name of a backend \(did you mean docker\?\)/,
    )
    assert.match(backend('[fake, docker, fake]'), /give.backend\[2\]: fake is in the list already/)
    assert.match(backend('{}'), /give.backend: expected the name of a backend/)
    const spend = (value: string) => faultsOf(`  - {name: a, give: {template: slow, spend: ${value}}}`).join('\n')
    for (const wrong of ['5', '5 EUR', '[5]', '5 EUR/month']) {
      assert.match(spend(wrong), /give.spend: expected an amount, a currency and \/hour, such as 0.50 EUR\/hour/)
    }
  })

  it('gives no template to a backend that cannot honour it', () => {
    const checkTemplate = ({ backend }: Template) => {
      if (backend === 'fake') throw new InvalidInput('services.web.image', 'is too large')
    }
    const text = 'rules:\n  - {name: a, give: {template: slow, backend: [docker, fake]}}\n'
    const { faults } = readRules({ file: 'rules.yaml', text }, { ...known, checkTemplate })
    assert.deepEqual(faults.map(faultText), [
      'rules.yaml:2: rules[0].give.backend[1]: template slow does not fit backend fake: services.web.image: is too large',
    ])
  })

  it('is read with ten thousand rules', () => {
    const rules = Array.from({ length: 10_000 }, (_, n) => ({
      name: `rule-${n}`,
      match: {
        mac: [
          `02:00:00:00:${String(n >> 8)
            .padStart(2, '0')
            .slice(-2)}:01`,
        ],
        tags: { any: ['lab', 'x'] },
      },
      give: { template: 'web', parameters: { COLOR: 'red' } },
    }))
    assert.equal(content(stringify({ rules })).rules.length, 10_000)
  })
})

describe('a duration as text', () => {
  it('is read as what it was', () => {
    fc.assert(fc.property(fc.nat(31_536_000_000), (ms) => assert.equal(durationOf(durationText(ms), 'x'), ms)))
    assert.deepEqual([5_400_000, 90_000, 0, 1001].map(durationText), ['1h30m', '1m30s', '0s', '1s1ms'])
  })
})
