import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import type { ServiceInput } from '../../common/service-spec.ts'
import type { Json } from '../../orchestrator/domain/template.ts'
import { assertRefused, assertWeb, readWeb } from '../support/compose-stacks.ts'

const MIB = 1024 * 1024
type Mounts = NonNullable<ServiceInput['mounts']>

/** These volumes of the service are those mounts. */
function mounted(volumes: Json, mounts: Mounts): void {
  assertWeb({ volumes }, { mounts }, { volumes: { data: null, 'my.data-2': {} } })
}
function refused(volume: Json, words: RegExp, inside = ''): void {
  assertRefused({ volumes: [volume] }, `services.web.volumes[0]${inside}`, words, { volumes: { data: {} } })
}

describe('the volumes of a service', () => {
  it('may be anonymous, named or in memory, in both forms', () => {
    const own = { kind: 'volume', volume: null, target: '/a', readOnly: false } as const
    const data = { kind: 'volume', volume: 'data', target: '/a', readOnly: false } as const
    mounted(['/a'], [own])
    mounted(['/a/'], [own])
    mounted(['data:/a'], [data])
    mounted(['data:/a:rw'], [data])
    mounted(
      ['data:/a:ro', 'my.data-2:/b'],
      [
        { ...data, readOnly: true },
        { ...data, volume: 'my.data-2', target: '/b' },
      ],
    )
    mounted([{ type: 'volume', target: '/a' }], [own])
    mounted([{ type: 'volume', source: 'data', target: '/a', read_only: 'true' }], [{ ...data, readOnly: true }])
    mounted([{ type: 'tmpfs', target: '/a' }], [{ kind: 'tmpfs', target: '/a' }])
    mounted(
      [{ type: 'tmpfs', target: '/a', tmpfs: { size: '4m', mode: 0o1777 } }],
      [{ kind: 'tmpfs', target: '/a', sizeBytes: 4 * MIB, mode: 0o1777 }],
    )
    mounted(
      [{ type: 'tmpfs', target: '/a', tmpfs: { size: 4096 }, 'x-y': 1 }],
      [{ kind: 'tmpfs', target: '/a', sizeBytes: 4096 }],
    )
  })

  it('of the host weaken isolation, each by its key', () => {
    const host = { kind: 'host', source: '/srv/x', target: '/a', readOnly: false } as const
    const cases: [Json, Mounts[number]][] = [
      ['/srv/x:/a', host],
      ['/srv/x/:/a:ro', { ...host, readOnly: true }],
      ['/:/host:ro', { ...host, source: '/', target: '/host', readOnly: true }],
      [{ type: 'bind', source: '/srv/x', target: '/a' }, host],
      [
        '/var/run/docker.sock:/var/run/docker.sock',
        { ...host, source: '/var/run/docker.sock', target: '/var/run/docker.sock' },
      ],
    ]
    for (const [volume, mount] of cases) {
      const { services, weakens } = readWeb({ volumes: ['/own', volume] })
      assert.deepEqual(services[0]?.mounts?.[1], mount)
      assert.deepEqual(weakens, ['services.web.volumes[1]'])
    }
  })

  it('are refused at the exact key', () => {
    refused('other:/a', /there is no volume other/)
    refused({ type: 'volume', source: 'other', target: '/a' }, /there is no volume other/)
    for (const path of ['./html', '../html', '.', '~/html']) refused(`${path}:/a`, /`configs`.*named volume/)
    refused({ type: 'bind', source: './html', target: '/a' }, /`configs`/, '.source')
    refused('a', /absolute path/)
    refused('data:a', /absolute path/)
    refused('data:/', /other than \//)
    refused('data:/a/../b', /without ".."/)
    refused('/srv/../etc:/a', /without ".."/)
    refused('', /TARGET/)
    refused(':/a', /TARGET/)
    refused('/a::ro', /TARGET/)
    refused('data:/a:ro:z', /TARGET/)
    for (const option of ['z', 'Z', 'nocopy', 'cached', 'rshared', 'RO'])
      refused(`data:/a:${option}`, /is not supported: expected ro or rw/)
    refused('data:/orchestrator/x', /\/orchestrator is where/)
    refused(5, /expected a text/)
    refused({ type: 'volume' }, /expected a text/, '.target')
    refused({ target: '/a' }, /expected a text/, '.type')
    for (const type of ['npipe', 'cluster', 'image', 'x'])
      refused({ type, source: 'data', target: '/a' }, /is not supported/, '.type')
    refused({ type: 'bind', source: 'data', target: '/a' }, /absolute path of the host/, '.source')
    refused({ type: 'bind', target: '/a' }, /absolute path of the host/, '.source')
    refused({ type: 'volume', source: '/x', target: '/a' }, /name of a volume/, '.source')
    refused({ type: 'tmpfs', source: 'data', target: '/a' }, /has no source/, '.source')
    refused({ type: 'tmpfs', target: '/a', read_only: true }, /of no use/, '.read_only')
    refused({ type: 'volume', target: '/a', tmpfs: {} }, /only where/, '.tmpfs')
    refused({ type: 'tmpfs', target: '/a', tmpfs: { size: 'x' } }, /size/, '.tmpfs.size')
    refused({ type: 'tmpfs', target: '/a', tmpfs: { uid: 1 } }, /not supported/, '.tmpfs.uid')
    for (const field of ['bind', 'volume', 'image', 'consistency']) {
      refused({ type: 'volume', source: 'data', target: '/a', [field]: {} }, /not supported/, `.${field}`)
    }
    assertRefused({ volumes: 'data:/a' }, 'services.web.volumes', /expected a list/)
  })

  it('have places of their own in the container', () => {
    assertRefused({ volumes: ['/a', '/a'] }, 'services.web.volumes[1]', /\/a is taken by services.web.volumes\[0\]/)
    assertRefused({ volumes: ['/a'], tmpfs: '/a/' }, 'services.web.tmpfs', /taken by services.web.volumes\[0\]/)
    const secrets = { secrets: { s: { file: 's' } } }
    const keys = { volumes: ['/run/secrets/s'], secrets: ['s'] }
    assertRefused(keys, 'services.web.secrets[0]', /taken by services.web.volumes\[0\]/, secrets, { files: { s: 'x' } })
  })

  it('are declared by a name and no more', () => {
    const declared = (volumes: Json, key: string, words: RegExp) => assertRefused({}, key, words, { volumes })
    assertWeb({}, {}, { volumes: { a: { driver: 'local' }, b: null, 'x-c': {} } })
    declared({ a: { driver: 'nfs' } }, 'volumes.a.driver', /expected local/)
    for (const field of ['external', 'name', 'driver_opts', 'labels'])
      declared({ a: { [field]: 'x' } }, `volumes.a.${field}`, /not supported/)
    declared({ 'a b': {} }, 'volumes.a b', /expected a name/)
    declared(['a'], 'volumes', /expected a map/)
  })
})

describe('the tmpfs of a service', () => {
  it('is one path or several, with size and mode', () => {
    assertWeb({ tmpfs: '/run' }, { mounts: [{ kind: 'tmpfs', target: '/run' }] })
    assertWeb(
      { tmpfs: ['/run', '/tmp:size=64m,mode=1777', '/x:mode=0700,noexec,nosuid,nodev,rw', '/y:size=4096'] },
      {
        mounts: [
          { kind: 'tmpfs', target: '/run' },
          { kind: 'tmpfs', target: '/tmp', sizeBytes: 64 * MIB, mode: 0o1777 },
          { kind: 'tmpfs', target: '/x', mode: 0o700 },
          { kind: 'tmpfs', target: '/y', sizeBytes: 4096 },
        ],
      },
    )
  })

  it('is refused at the exact key', () => {
    for (const option of ['exec', 'uid=5', 'gid=5', 'suid', 'ro', '', 'x=1']) {
      assertRefused({ tmpfs: ['/a', `/b:${option}`] }, 'services.web.tmpfs[1]', /is not supported: expected size/)
    }
    assertRefused({ tmpfs: '/a:size=x' }, 'services.web.tmpfs', /expected a size/)
    assertRefused({ tmpfs: '/a:mode=9' }, 'services.web.tmpfs', /octal/)
    assertRefused({ tmpfs: 'a' }, 'services.web.tmpfs', /absolute path/)
    assertRefused({ tmpfs: '/a:size=1m:x' }, 'services.web.tmpfs', /TARGET/)
  })
})

describe('configs and secrets of a service', () => {
  const base64 = (text: string) => Buffer.from(text).toString('base64')
  const sections = {
    configs: { page: { content: 'hello\n' }, site: { file: './site.conf' }, given: { environment: 'OWN' } },
    secrets: { key: { file: 'key.pem' }, word: { environment: 'WORD' } },
  }
  const around = { files: { './site.conf': 'server {}', 'key.pem': 'PEM' }, variables: { OWN: 'own', WORD: 'hush' } }
  const files = (keys: Parameters<typeof assertWeb>[0], expected: ServiceInput['files']) =>
    assertWeb(keys, { files: expected }, sections, around)
  const wrong = (keys: Parameters<typeof assertWeb>[0], key: string, words: RegExp) =>
    assertRefused(keys, `services.web.${key}`, words, sections, around)

  it('are files in memory, in both forms and of every source', () => {
    files({ configs: ['page', 'site', 'given'] }, [
      { target: '/page', content: base64('hello\n'), mode: 0o444 },
      { target: '/site', content: base64('server {}'), mode: 0o444 },
      { target: '/given', content: base64('own'), mode: 0o444 },
    ])
    files({ secrets: ['key', 'word'] }, [
      { target: '/run/secrets/key', content: base64('PEM'), mode: 0o444 },
      { target: '/run/secrets/word', content: base64('hush'), mode: 0o444 },
    ])
    files({ configs: [{ source: 'page', target: '/srv/index.html', mode: 0o444 }, { source: 'site' }] }, [
      { target: '/srv/index.html', content: base64('hello\n'), mode: 0o444 },
      { target: '/site', content: base64('server {}'), mode: 0o444 },
    ])
    files(
      {
        secrets: [
          { source: 'key', target: 'tls.key' },
          { source: 'word', target: '/etc/word', mode: '0555' },
        ],
      },
      [
        { target: '/run/secrets/tls.key', content: base64('PEM'), mode: 0o444 },
        { target: '/etc/word', content: base64('hush'), mode: 0o555 },
      ],
    )
    files({ configs: [{ source: 'page', target: 'sub/page', mode: 0o755 }] }, [
      { target: '/sub/page', content: base64('hello\n'), mode: 0o555 },
    ])
  })

  it('are readable by everybody in the container, which is said where the file says otherwise', () => {
    for (const [mode, bits] of [
      [0o400, 0o444],
      [0o440, 0o444],
      ['0600', 0o444],
      [0o500, 0o555],
      [0o111, 0o555],
    ] as const) {
      const { services, notes } = readWeb({ secrets: [{ source: 'word', mode }] }, sections, around)
      assert.equal(services[0]?.files?.[0]?.mode, bits)
      assert.deepEqual(
        notes.map(({ key }) => key),
        ['services.web.secrets[0].mode'],
      )
    }
  })

  it('are refused at the exact key', () => {
    wrong({ configs: ['none'] }, 'configs[0]', /no none in the top-level configs/)
    wrong({ configs: ['key'] }, 'configs[0]', /no key in the top-level configs/)
    wrong({ secrets: ['key', { source: 'page' }] }, 'secrets[1].source', /no page in the top-level secrets/)
    wrong({ secrets: [{ target: '/x' }] }, 'secrets[0].source', /expected a text/)
    for (const field of ['uid', 'gid'])
      wrong({ configs: [{ source: 'page', [field]: '0' }] }, `configs[0].${field}`, /not supported/)
    wrong({ configs: [{ source: 'page', mode: 'x' }] }, 'configs[0].mode', /octal/)
    wrong({ configs: [{ source: 'page', target: '/' }] }, 'configs[0].target', /absolute path/)
    wrong({ secrets: [{ source: 'key', target: '../x' }] }, 'secrets[0].target', /without ".."/)
    wrong(
      { configs: ['page', { source: 'site', target: '/page' }] },
      'configs[1]',
      /taken by services.web.configs\[0\]/,
    )
    wrong(
      { configs: [{ source: 'page', target: '/orchestrator/parameters.json' }] },
      'configs[0]',
      /\/orchestrator is where/,
    )
    wrong({ configs: 'page' }, 'configs', /expected a list/)
  })

  it('have one source each, which is there', () => {
    const declared = (more: Parameters<typeof assertWeb>[0], key: string, words: RegExp) =>
      assertRefused({}, key, words, more, around)
    declared({ configs: { a: {} } }, 'configs.a', /one of file, environment, content/)
    declared({ configs: { a: null } }, 'configs.a', /one of/)
    declared({ configs: { a: { content: 'x', file: 'y' } } }, 'configs.a', /one of/)
    declared({ secrets: { a: { content: 'x' } } }, 'secrets.a.content', /not supported/)
    declared({ secrets: { a: { external: true } } }, 'secrets.a.external', /not supported/)
    declared({ configs: { a: { file: 'none' } } }, 'configs.a.file', /no file none beside/)
    declared({ secrets: { a: { environment: 'NONE' } } }, 'secrets.a.environment', /no variable NONE/)
    declared({ configs: { a: { content: 5 } } }, 'configs.a.content', /expected a text/)
    const large = { configs: { a: { content: 'x'.repeat(1024 * 1024 + 10) } } }
    assertRefused({ configs: ['a'] }, 'services.web.configs[0].content', /./, large)
  })

  it('together are no larger than a message', () => {
    const half = { configs: { a: { content: 'x'.repeat(600_000) } } }
    assertWeb(
      { configs: ['a'] },
      { files: [{ target: '/a', content: base64('x'.repeat(600_000)), mode: 0o444 }] },
      half,
    )
    assertRefused({ configs: ['a', { source: 'a', target: '/b' }] }, 'services', /1048576 bytes/, half)
  })
})
