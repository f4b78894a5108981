import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { type CompileResult, compile } from '../../orchestrator/compose/compile.ts'
import { faultText } from '../../orchestrator/compose/faults.ts'
import { versionOf } from '../../orchestrator/compose/version.ts'
import type { Template } from '../../orchestrator/domain/template.ts'

type Files = Readonly<Record<string, string | Uint8Array>>
interface Around {
  readonly name?: string
  readonly files?: Files
  readonly bases?: readonly Template[]
  readonly trusted?: boolean
}

function run(text: string, { name = 'web', files = {}, bases = [], trusted = false }: Around = {}): CompileResult {
  const beside = new Map(Object.entries(files).map(([path, content]) => [path, Buffer.from(content)]))
  return compile(
    { name, file: `${name}.yaml`, text, files: beside },
    {
      base: (wanted, version) =>
        bases.find(
          (one) => one.name === wanted && (version === undefined || version === one.number || version === one.version),
        ) ?? null,
      trusted: () => trusted,
    },
  )
}
function content(text: string, around?: Around) {
  const result = run(text, around)
  assert.deepEqual(result.faults.map(faultText), [])
  return result.content ?? assert.fail()
}
function template(text: string, around?: Around): Template {
  const made = content(text, around)
  return { name: around?.name ?? 'web', version: versionOf(made), number: 1, ...made }
}
/** `LINE KEY: MESSAGE` of every fault. */
const faults = (text: string, around?: Around) =>
  run(text, around).faults.map(({ line, key, message }) => `${line} ${key}: ${message}`)
const one = (text: string, expected: RegExp, around?: Around) => {
  const found = faults(text, around)
  assert.equal(found.length, 1, found.join('\n'))
  assert.match(found[0] ?? '', expected)
}

const PAGE = 'x-orchestrator: {summary: a page}\nservices:\n  web:\n    image: nginx\n'
const withParameters = (declared: string, rest: string) =>
  `x-orchestrator:\n  summary: a page\n  parameters: ${declared}\nservices:\n  web:\n    image: nginx\n${rest}`

describe('a template', () => {
  it('is a Compose file with a summary; all else has a default', () => {
    assert.deepEqual(content(PAGE), {
      summary: 'a page',
      backend: 'docker',
      kind: 'standard',
      base: null,
      parameters: [],
      fixed: {},
      outputs: [],
      entry: { service: 'web', port: null },
      lifetime: { graceMs: 0, mostMs: null },
      stack: { services: { web: { image: 'nginx' } } },
      files: {},
      images: ['nginx'],
      weakens: [],
    })
  })

  it('has the name that its text says, else that of its file', () => {
    assert.equal(run(PAGE).name, 'web')
    assert.equal(run(`name: site\n${PAGE}`).name, 'site')
    one(`name: A_b\n${PAGE}`, /^1 name: a template is named by/)
    one(PAGE, /^null : a template is named by/, { name: 'A_b' })
  })

  it('has the same version as long as it means the same, in whatever order and with whatever comments', () => {
    const versions = [
      PAGE,
      `# a comment\nservices: {web: {image: "nginx"}}\nx-mine: {a: 1}\nx-orchestrator: {summary: 'a page'}\n`,
      PAGE.replace('{summary', '{backend: docker, lifetime: {grace: 0}, summary'),
    ].map((text) => versionOf(content(text)))
    assert.equal(new Set(versions).size, 1)
    assert.match(versions[0] ?? '', /^[0-9a-f]{12}$/)
    assert.notEqual(versionOf(content(PAGE.replace('nginx', 'nginx:2'))), versions[0])
    assert.notEqual(versionOf(content(PAGE.replace('a page', 'b page'))), versions[0])
  })

  it('names every fault of x-orchestrator with its key and line', () => {
    const text = [
      'x-orchestrator:',
      '  sumary: x',
      '  summary: 3',
      '  state: {}',
      '  options: {Docker: {}}',
      '  entry: {service: web, prt: 80}',
      '  parameters:',
      '    A: {type: foo}',
      '    LEASE_X: {}',
      '    E: {type: enum}',
      '    P: {pattern: "("}',
      '    S: {type: secret, default: hush}',
      '  wiring:',
      '    networks: {}',
      '    interfaces:',
      '      - {name: eth0, link: {kind: bridge, bridge: b}}',
      '  lifetime: {mos: 3}',
      '  files: {a: {content: x}, /b: {}}',
      'services: {web: {image: nginx}}',
    ].join('\n')
    assert.deepEqual(
      run(text).faults.map(({ line, key }) => `${line} ${key}`),
      [
        '2 x-orchestrator.sumary',
        '3 x-orchestrator.summary',
        '4 x-orchestrator.state',
        '5 x-orchestrator.options.Docker',
        '6 x-orchestrator.entry.prt',
        '8 x-orchestrator.parameters.A.type',
        '9 x-orchestrator.parameters.LEASE_X',
        '10 x-orchestrator.parameters.E.values',
        '11 x-orchestrator.parameters.P.pattern',
        '12 x-orchestrator.parameters.S.default',
        '14 x-orchestrator.wiring.networks',
        '15 x-orchestrator.wiring.interfaces',
        '17 x-orchestrator.lifetime.mos',
        '18 x-orchestrator.files.a',
        '18 x-orchestrator.files./b',
      ],
    )
    assert.doesNotMatch(JSON.stringify(run(text)), /hush/)
  })

  it('has an entry: the one that is named, the only one, or the only one with ports', () => {
    const two = (web: string, db: string, said = '') =>
      `x-orchestrator: {summary: x${said}}\nservices:\n  db: {image: db${db}}\n  web: {image: nginx${web}}\n`
    assert.deepEqual(content(two(', ports: ["8080:80", 443]', '')).entry, { service: 'web', port: 80 })
    assert.deepEqual(content(two('', '', ', entry: db')).entry, { service: 'db', port: null })
    assert.deepEqual(content(two(', expose: [53/udp, 8000]', '', ', entry: web')).entry, { service: 'web', port: 8000 })
    assert.deepEqual(content(two('', '', ', entry: {service: web, port: 81}')).entry, { service: 'web', port: 81 })
    one(two('', ''), /^1 x-orchestrator.entry: is needed, as none of the services has `ports`/)
    one(two(', ports: [80]', ', ports: [81]'), /^1 x-orchestrator.entry: is needed, as db, web have `ports`/)
    one(two('', '', ', entry: wb'), /^1 x-orchestrator.entry: there is no service wb/)
  })

  it('may last: durations as in Compose', () => {
    const { lifetime } = content(PAGE.replace('a page', 'a page, lifetime: {grace: 5m, most: 1h30m}'))
    assert.deepEqual(lifetime, { graceMs: 300_000, mostMs: 5_400_000 })
    one(
      PAGE.replace('a page', 'a page, lifetime: {grace: 5 minutes}'),
      /^1 x-orchestrator.lifetime.grace: expected a duration/,
    )
    one(PAGE.replace('a page', 'a page, lifetime: {most: 0s}'), /^1 x-orchestrator.lifetime.most: expected more than 0/)
  })

  it('weakens isolation only where the operator trusts it by name', () => {
    const text = `${PAGE}    privileged: true\n    volumes: [/srv:/srv]\n`
    const found = faults(text)
    assert.equal(found.length, 2)
    assert.match(found[0] ?? '', /^5 services.web.privileged: weakens .* templates.trusted: \[web\]/)
    assert.match(found[1] ?? '', /^6 services.web.volumes\[0\]: weakens /)
    assert.deepEqual(content(text, { trusted: true }).weakens.toSorted(), [
      'services.web.privileged',
      'services.web.volumes[0]',
    ])
  })
})

describe("a template's parameters", () => {
  it('are declared with types, and their defaults are checked', () => {
    const declared =
      '{A: {default: x, most: 3}, N: {type: integer, least: 1, default: 2}, E: {type: enum, values: [a, b]}}'
    assert.deepEqual(
      content(withParameters(declared, '')).parameters.map(({ name, type, required, default: d }) => [
        name,
        type,
        required,
        d,
      ]),
      [
        ['A', 'string', false, 'x'],
        ['N', 'integer', false, 2],
        ['E', 'enum', true, null],
      ],
    )
    one(
      withParameters('{A: {default: long, most: 3}}', ''),
      /^3 x-orchestrator.parameters.A.default: expected at most 3 characters/,
    )
    one(
      withParameters('{N: {type: integer, default: 1.5}}', ''),
      /^3 x-orchestrator.parameters.N.default: expected a whole/,
    )
  })

  it('are the only variables, with the facts of lease and instance', () => {
    const env = (text: string) =>
      withParameters('{TITLE: {default: hello}, OPT: {required: false}}', `    environment: {X: "${text}"}\n`)
    for (const text of [
      '${TITLE}',
      '$TITLE',
      '${LEASE_HOSTNAME}',
      '${INSTANCE_NAME}',
      '${OPT:-none}',
      '$$HOME',
      'costs 5$',
    ]) {
      content(env(text))
    }
    one(
      env('${TITEL?}'),
      /^7 services.web.environment.X: there is no variable TITEL \(did you mean TITLE\?\): its parameters are TITLE, OPT/,
    )
    one(env('${LEASE_HOST:?}'), /there is no variable LEASE_HOST/)
    one(env('${TITLE'), /^7 services.web.environment.X: invalid interpolation format/)
  })

  it('are an empty text where they are not set, as in Compose, which is a note', () => {
    const env = (text: string) =>
      withParameters('{TITLE: {}, OPT: {required: false}}', `    environment: {X: "${text}"}\n`)
    const noted: [string, RegExp][] = [
      [
        '${TITEL}',
        /^7 services.web.environment.X: there is no variable TITEL \(did you mean TITLE\?\): .* an empty text/,
      ],
      ['$LEASE_HOST', /^7 services.web.environment.X: there is no variable LEASE_HOST: .* an empty text/],
      ['${OPT}', /^7 services.web.environment.X: OPT may be left out: then an empty text/],
      ['${OTHER:-text}', /^7 services.web.environment.X: OTHER is no parameter, so it is never set here/],
    ]
    for (const [text, expected] of noted) {
      content(env(text))
      const notes = run(env(text)).notes.map(({ line, key, message }) => `${line} ${key}: ${message}`)
      assert.equal(notes.length, 1, notes.join())
      assert.match(notes[0] ?? '', expected)
    }
  })

  it('are tried with samples: only what is wrong with every value is a fault', () => {
    const limit = (declared: string) => withParameters(`{M: ${declared}}`, '    mem_limit: "${M}"\n')
    content(limit('{}'))
    content(limit('{default: 64m}'))
    one(limit('{default: 64x}'), /^7 services.web.mem_limit: expected a size/)
    one(limit('{type: enum, values: [lots, 64m]}'), /^7 services.web.mem_limit: expected a size/)
    one(withParameters('{M: {}}', '    mem_limit: 64x\n    shm_size: "${M}"\n'), /^7 services.web.mem_limit/)
  })

  it('decide which images are known beforehand', () => {
    const image = (declared: string, name: string) =>
      withParameters(declared, '').replace('image: nginx', `image: "${name}"`)
    assert.deepEqual(content(image('{V: {default: "1"}}', 'nginx:${V}')).images, ['nginx:1'])
    assert.deepEqual(content(image('{V: {}}', 'nginx:${V}')).images, [])
    assert.deepEqual(content(image('{}', 'nginx:${TAG:-2}')).images, ['nginx:2'])
    assert.deepEqual(content(image('{}', 'nginx:${LEASE_IAID}')).images, [])
    assert.deepEqual(content(`${PAGE}    pull_policy: never\n`).images, [])
  })

  it('that are secrets end up in files in memory and nowhere else', () => {
    const secret = (rest: string, files: Files = {}) => run(withParameters('{PASS: {type: secret}}', rest), { files })
    const fine = [
      '    secrets: [p]\nsecrets: {p: {environment: PASS}}\n',
      '    configs: [{source: c, target: /c}]\nconfigs: {c: {content: "password=${PASS}"}}\n',
      '    configs: [{source: c, target: /c}]\nconfigs: {c: {environment: PASS}}\n',
    ]
    for (const rest of fine) assert.deepEqual(secret(rest).faults, [])
    const misused: [string, string, Files?][] = [
      ['    environment: {P: "${PASS}"}\n', 'services.web.environment.P'],
      ['    environment: ["P=x${PASS:-y}"]\n', 'services.web.environment[0]'],
      ['    environment: [PASS]\n', 'services.web.environment[0]'],
      ['    environment: {PASS: }\n', 'services.web.environment.PASS'],
      ['    command: "run ${A:-${PASS}}"\n', 'services.web.command'],
      ['    labels: {l: "$PASS"}\n', 'services.web.labels.l'],
      ['    healthcheck: {test: "curl -u x:${PASS} localhost"}\n', 'services.web.healthcheck.test'],
      ['    configs: [c]\nconfigs: {c: {file: "./${PASS}"}}\n', 'configs.c.file'],
      ['    env_file: a.env\n', 'services.web.env_file', { 'a.env': 'P=${PASS}\n' }],
      ['    label_file: [a.env]\n', 'services.web.label_file[0]', { 'a.env': 'PASS\n' }],
    ]
    for (const [rest, key, files] of misused) {
      const { faults: found } = secret(rest, files)
      assert.deepEqual(
        found.map((fault) => fault.key),
        [key],
        rest,
      )
      assert.match(found[0]?.message ?? '', /PASS is a secret|without variables/)
    }
    const image = withParameters('{PASS: {type: secret}}', '').replace('image: nginx', 'image: "x/${PASS}"')
    one(image, /^6 services.web.image: PASS is a secret/)
  })

  it('that are files get into containers by configs and secrets', () => {
    const file = (rest: string) => withParameters('{LOGO: {type: file}}', rest)
    content(file('    configs: [{source: l, target: /l}]\nconfigs: {l: {environment: LOGO}}\n'))
    one(file('    environment: {L: "${LOGO}"}\n'), /^7 services.web.environment.L: LOGO is a file/)
    one(file('    environment: [LOGO]\n'), /^7 services.web.environment\[0\]: LOGO is a file/)
    one(
      file('    configs: [l]\nconfigs: {l: {environment: LGO}}\n'),
      /^8 configs.l.environment: there is no variable LGO/,
    )
    one(file('    configs: [l]\nconfigs: {l: {environment: $LOGO}}\n'), /^8 configs.l.environment: LOGO is a file/)
  })
})

describe("a template's files", () => {
  const uses = (path: string) => `${PAGE}    configs: [c]\nconfigs: {c: {file: ${path}}}\n`

  it('become part of it, by the path that is written, and change its version', () => {
    const made = content(uses('./a/../a.txt'), { files: { 'a.txt': 'one', 'other.txt': 'no' } })
    assert.deepEqual(made.files, { './a/../a.txt': Buffer.from('one').toString('base64') })
    const again = content(uses('./a/../a.txt'), { files: { 'a.txt': 'two' } })
    assert.notEqual(versionOf(again), versionOf(made))
  })

  it('are below its folder, exist, are no folders, and are not too large', () => {
    const files = { 'a.txt': 'x', 'd/e.txt': 'x', 'big.bin': new Uint8Array(1024 * 1024 + 1) }
    for (const path of ['../a.txt', '/etc/passwd', 'd/../../a.txt', '~/a', '..']) {
      one(uses(path), /^6 configs.c.file: expected a path below the folder/, { files })
    }
    one(uses('b.txt'), /^6 configs.c.file: there is no file b.txt/, { files })
    one(uses('d'), /^6 configs.c.file: d is a folder/, { files })
    one(uses('big.bin'), /^6 configs.c.file: with this file, the template has more than/, { files })
    one(uses('"${LEASE_MAC}.txt"'), /^6 configs.c.file: expected a path without variables/, { files })
  })

  it('that are ad hoc are put into the entry, or the service that they name', () => {
    const text = (files: string) =>
      `x-orchestrator:\n  summary: x\n  entry: web\n  files: ${files}\nservices:\n  web: {image: nginx}\n  db: {image: db}\n`
    const made = content(
      text('{/srv/a: {content: "hi ${LEASE_HOSTNAME}"}, /b.sh: {file: ./b.sh, service: db, mode: 0555}}'),
      {
        files: { 'b.sh': 'echo' },
      },
    )
    assert.equal(made.kind, 'ad-hoc')
    assert.deepEqual(made.files, { './b.sh': Buffer.from('echo').toString('base64') })
    assert.deepEqual(made.stack['configs'], {
      'x-orchestrator-file-1': { content: 'hi ${LEASE_HOSTNAME}' },
      'x-orchestrator-file-2': { file: './b.sh' },
    })
    one(text('{/srv/a: {content: "${NOPE?}"}}'), /^4 x-orchestrator.files.\/srv\/a.content: there is no variable NOPE/)
    one(text('{/srv/a: {file: ../x}}'), /^4 x-orchestrator.files.\/srv\/a.file: expected a path below/)
    one(text('{/srv/a: {content: x, service: bd}}'), /^4 x-orchestrator.files.\/srv\/a: there is no service bd/)
  })
})

describe('a derived template', () => {
  const BASE = [
    'x-orchestrator:',
    '  summary: a site',
    '  lifetime: {grace: 5m}',
    '  outputs: {url: {type: url}}',
    '  parameters:',
    '    TITLE: {default: hello, most: 10}',
    '    COLOUR: {type: enum, values: [red, blue], default: red}',
    '    LOGO: {type: file}',
    '    PASS: {type: secret}',
    '  files: {/srv/index.html: {content: "${TITLE}"}}',
    'services:',
    '  web:',
    '    image: nginx',
    '    ports: [80]',
    '    environment: {COLOUR: "${COLOUR}"}',
    '    configs: [{source: logo, target: /srv/logo}]',
    '    secrets: [pass]',
    'configs: {logo: {environment: LOGO}}',
    'secrets: {pass: {environment: PASS}}',
  ].join('\n')
  const base = template(BASE)
  const derived = (set: string, rest = '') => `x-orchestrator:\n  summary: mine\n  base: web\n  set: ${set}\n${rest}`
  const around = { name: 'mine', bases: [base], files: { 'logo.png': 'PNG', 'index.html': 'own' } }

  it('fixes parameters of its base and passes on the others', () => {
    const made = content(derived('{TITLE: "hi ${WHO}", COLOUR: blue}', '  parameters: {WHO: {default: you}}\n'), around)
    assert.deepEqual(made.base, { name: 'web', version: base.version })
    assert.deepEqual(made.fixed, { TITLE: 'hi ${WHO}', COLOUR: 'blue' })
    assert.deepEqual(
      made.parameters.map(({ name }) => name),
      ['WHO', 'LOGO', 'PASS'],
    )
    assert.deepEqual(
      [made.summary, made.entry, made.outputs, made.lifetime.graceMs, made.kind],
      ['mine', base.entry, base.outputs, 300_000, 'ad-hoc'],
    )
    assert.deepEqual(made.stack, base.stack)
  })

  it('gives files: for parameters of that type, beside those of its base, or instead of them', () => {
    const made = content(
      derived('{LOGO: {file: ./logo.png}}', '  files: {/srv/index.html: {file: index.html}, /srv/b: {content: b}}\n'),
      around,
    )
    const configs = made.stack['configs'] as Record<string, unknown>
    assert.deepEqual(configs['logo'], { file: 'logo.png' })
    assert.equal(made.files['logo.png'], Buffer.from('PNG').toString('base64'))
    assert.equal(made.files['index.html'], Buffer.from('own').toString('base64'))
    const { web } = (made.stack['services'] as Record<string, { configs: { target: string }[] }>) ?? {}
    assert.deepEqual(
      web?.configs.map(({ target }) => target),
      ['/srv/logo', '/srv/index.html', '/srv/b'],
    )
  })

  it('is derived again, and what it fixed stays fixed', () => {
    const first = template(derived('{TITLE: "hi ${WHO}"}', '  parameters: {WHO: {default: you}}\n'), around)
    const text = 'x-orchestrator: {summary: again, base: "mine@1", set: {WHO: me}}\n'
    const made = content(text, { name: 'again', bases: [first] })
    assert.deepEqual(made.fixed, { TITLE: 'hi ${WHO}', WHO: 'me' })
    assert.deepEqual(
      made.parameters.map(({ name }) => name),
      ['COLOUR', 'LOGO', 'PASS'],
    )
  })

  it('has neither services nor an entry of its own, and no parameter of the same name', () => {
    one(
      `${derived('{}')}services: {web: {image: x}}\n`,
      /^5 services: a derived template has the services of its base/,
      around,
    )
    one(derived('{}', '  entry: web\n'), /^5 x-orchestrator.entry: a derived template has that of its base/, around)
    one(
      derived('{TITLE: x}', '  parameters: {TITLE: {}}\n'),
      /parameters.TITLE: the base has a parameter of this name/,
      around,
    )
    one(derived('{}'), /^3 x-orchestrator.base: there is no template web/, { ...around, bases: [] })
    one(derived('{}').replace('base: web', 'base: web@7'), /there is no template web@7/, around)
    one(derived('{}'), /cannot be derived from itself/, { ...around, name: 'web' })
    one(PAGE.replace('a page', 'a page, set: {A: 1}'), /^1 x-orchestrator.set: only a template with a `base`/)
  })

  it('gives its base nothing but values that it declares', () => {
    const refused: [string, RegExp][] = [
      ['{TITLE: much too long}', /set.TITLE: expected at most 10 characters/],
      ['{TITLE: "${WHO?}"}', /set.TITLE: there is no variable WHO/],
      ['{COLOUR: green}', /set.COLOUR: expected one of red, blue/],
      ['{LOGO: text}', /set.LOGO: is a parameter of the type file/],
      ['{LOGO: {file: ../x}}', /set.LOGO.file: expected a path below/],
      ['{TITLE: {file: logo.png}}', /set.TITLE.file: is a parameter of the type string/],
      ['{PASS: hush}', /set.PASS: is a secret, which does not belong in a template/],
      ['{PASS: "${TITLE}"}', /set.PASS: is a secret: expected a text with a parameter of the type secret/],
      ['{NOPE: 1}', /set.NOPE: the base web has no such parameter; it has TITLE, COLOUR, LOGO, PASS/],
    ]
    for (const [set, expected] of refused) {
      one(derived(set), expected, around)
      assert.doesNotMatch(JSON.stringify(faults(derived(set), around)), /hush/)
    }
  })

  it('cannot smuggle a secret through a parameter of its base that is none', () => {
    const text = (set: string) => derived(set, '  parameters: {KEY: {type: secret}}\n')
    content(text('{PASS: "${KEY}", TITLE: "${KEY}"}'), around)
    one(
      text('{COLOUR: "${KEY}"}'),
      /^3 x-orchestrator.base: with these values, web: .*environment.COLOUR: COLOUR is a secret/,
      around,
    )
  })

  it('is told what of its base a value breaks', () => {
    const sized = template(withParameters('{M: {default: 64m}}', '    mem_limit: "${M}"\n'), { name: 'sized' })
    const text = 'x-orchestrator: {summary: x, base: sized, set: {M: lots}}\n'
    one(text, /^1 x-orchestrator.base: with these values, sized: services.web.mem_limit: expected a size/, {
      name: 'small',
      bases: [sized],
    })
  })

  it('weakens isolation only when it is trusted itself', () => {
    const strong = template(`${PAGE}    privileged: true\n`, { name: 'strong', trusted: true })
    const text = 'x-orchestrator: {summary: x, base: strong}\n'
    one(text, /^1 x-orchestrator.base: with these values, strong: services.web.privileged: weakens/, {
      name: 'weak',
      bases: [strong],
    })
    assert.deepEqual(content(text, { name: 'weak', bases: [strong], trusted: true }).weakens, [
      'services.web.privileged',
    ])
  })
})

describe('a hostile file', () => {
  it('gets at most a hundred faults, and an answer', () => {
    const services = Array.from({ length: 3000 }, (_, n) => `  s${n}: {imag: [1], hostname: x}`)
    const { faults: found } = run(`x-orchestrator: {summary: x}\nservices:\n${services.join('\n')}\n`)
    assert.equal(found.length, 101)
    assert.match(found.at(-1)?.message ?? '', /^there are more/)
  })

  it('may have names that objects have', () => {
    const text =
      'x-orchestrator: {summary: x}\nservices: {constructor: {image: a, depends_on: [toString], networks: [valueOf]}}\n'
    const keys = run(text).faults.map(({ key }) => key)
    assert.deepEqual(keys.toSorted(), ['services.constructor.depends_on[0]', 'services.constructor.networks[0]'])
    assert.equal(run(PAGE.replaceAll('web', 'constructor')).content?.entry.service, 'constructor')
  })

  it('names no value of a secret in what is told', () => {
    const text = withParameters(
      '{P: {type: secret, default: hush, pattern: "[0-9]+"}}',
      '    environment: {A: "${P}"}\n',
    )
    assert.doesNotMatch(JSON.stringify(run(text)), /hush/)
  })
})
