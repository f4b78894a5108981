import assert from 'node:assert/strict'
import { execFileSync, spawnSync } from 'node:child_process'
import { chmodSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, it } from 'node:test'
import { gunzipSync } from 'node:zlib'
import fc from 'fast-check'
import { parse } from 'yaml'
import { InvalidInput } from '../../common/errors.ts'
import type { ServiceSpec } from '../../common/service-spec.ts'
import { type BootFormat, bootData, outputsIn } from '../../orchestrator/backends/cloud/boot/boot.ts'
import { bootContent, OUTPUTS_MARK } from '../../orchestrator/backends/cloud/boot/content.ts'
import { cloudOrder } from '../support/cloud-backend.ts'
import { service } from '../support/fixtures.ts'

const format: BootFormat = { boot: 'cloud-init', engine: 'docker', packages: [], mostBytes: 65_536 }
const base64 = (text: string) => Buffer.from(text).toString('base64')
const refused = (field: string) => (error: unknown) => error instanceof InvalidInput && error.field === field

/** Nearly everything that a service can say. */
const full: Partial<ServiceSpec> = {
  entrypoint: ['/bin/run', '--flag'],
  command: ["it's", '$(reboot)', 'two words'],
  environment: { TOKEN: "s3cret 'quoted'\nsecond line", PATH: '/app/bin', 'app.name': 'x y', PLAIN: '$HOME' },
  files: [{ target: '/etc/app/key', content: base64('a secret'), mode: 0o444 }],
  mounts: [
    { kind: 'volume', volume: 'data', target: '/data', readOnly: true },
    { kind: 'volume', volume: null, target: '/scratch,"odd"', readOnly: false },
    { kind: 'tmpfs', target: '/tmp', sizeBytes: 1024, mode: 0o1777 },
  ],
  capabilities: ['NET_BIND_SERVICE'],
  healthcheck: { test: ['CMD', 'curl', "it's"], intervalMs: 1500 },
  user: '1000:1000',
  labels: { 'a.b': 'c d' },
  cpus: 0.5,
  readOnly: true,
  stopGraceMs: 5000,
  hosts: [{ name: 'peer', address: '192.0.2.1' }],
}

/** Runs the script that makes a service's container, with an engine that only writes down what it was told. */
function created(
  change: Partial<ServiceSpec>,
  others: readonly ServiceSpec[] = [],
  engine: 'docker' | 'podman' = 'docker',
) {
  const folder = mkdtempSync(join(tmpdir(), 'orc-boot-'))
  try {
    const order = cloudOrder(1, 1, { services: [service(change), ...others], outputs: true })
    const file = bootContent(order, engine).files.find(({ path }) => path.endsWith('/web/create')) ?? assert.fail()
    mkdirSync(join(folder, 'bin'))
    writeFileSync(
      join(folder, 'bin', engine),
      `#!/bin/sh
echo "$1 $2" >>${folder}/calls
case "$1" in
  inspect) cat ${folder}/state 2>/dev/null || exit 1 ;;
  create) printf '%s\\0' "$@" >${folder}/arguments; env -0 >${folder}/environment ;;
esac
`,
    )
    chmodSync(join(folder, 'bin', engine), 0o755)
    // What it depends on is ready at the second look.
    writeFileSync(join(folder, 'bin', 'sleep'), `#!/bin/sh\nprintf 2026-01-01 >${folder}/state\n`)
    chmodSync(join(folder, 'bin', 'sleep'), 0o755)
    const script = join(folder, 'create')
    writeFileSync(script, file.content)
    execFileSync('sh', [script], { env: { PATH: `${folder}/bin:/usr/bin:/bin` }, timeout: 10_000 })
    const split = (name: string) => readFileSync(join(folder, name), 'utf8').split('\0').slice(0, -1)
    const environment = Object.fromEntries(split('environment').map((line) => line.split(/=(.*)/s).slice(0, 2)))
    return { arguments: split('arguments'), environment, calls: readFileSync(join(folder, 'calls'), 'utf8') }
  } finally {
    rmSync(folder, { recursive: true })
  }
}

describe('the container of a service on a cloud machine', () => {
  it('is made with exactly the words of the service, whatever a shell would make of them', () => {
    const { arguments: words, environment } = created(full)
    const at = (word: string) => assert.ok(words.includes(word), `${word} is not among\n${words.join('\n')}`)
    for (const word of [
      ...['--network=host', '--cap-drop=ALL', '--cap-add=NET_BIND_SERVICE', '--security-opt=no-new-privileges'],
      ...[
        '--read-only',
        '--user=1000:1000',
        '--label=a.b=c d',
        '--cpus=0.5',
        `--memory=${64 << 20}b`,
        '--pids-limit=64',
      ],
      ...[
        '--mount=type=volume,source=orc-data,target=/data,readonly',
        '--add-host=peer:192.0.2.1',
        '--add-host=web:::1',
      ],
      '--mount=type=volume,"target=/scratch,""odd"""',
      '--mount=type=tmpfs,target=/tmp,tmpfs-size=1024,tmpfs-mode=1777',
      '--volume=/var/lib/orchestrator/services/web/files/0:/etc/app/key:ro,Z',
      '--volume=/var/lib/orchestrator/told:/orchestrator:z',
      ...["--health-cmd='curl' 'it'\\''s'", '--health-interval=1500ms', '--stop-timeout=5', '--entrypoint=/bin/run'],
    ]) {
      at(word)
    }
    assert.deepEqual(words.slice(-5), ['orchestrator/sample:latest', '--flag', "it's", '$(reboot)', 'two words'])
    // Its values come from the client's environment: they stand in no list of processes.
    assert.equal(environment['TOKEN'], full.environment?.['TOKEN'])
    assert.equal(environment['PLAIN'], '$HOME')
    at('--env=TOKEN')
    at('--env-file=/var/lib/orchestrator/services/web/environment')
    assert.ok(!words.some((word) => word.includes('s3cret')))
    assert.ok(!environment['PATH']?.startsWith('/app/bin'), 'the client itself keeps its own')
  })

  it('gives every word and value unchanged', () => {
    const text = fc
      .string({ unit: 'grapheme', maxLength: 40 })
      .filter((one) => !one.includes('\0') && one.isWellFormed())
    fc.assert(
      fc.property(fc.array(text, { minLength: 1, maxLength: 4 }), text, (command, value) => {
        const { arguments: words, environment } = created({ command, environment: { VALUE: value } })
        assert.deepEqual(words.slice(-command.length), command)
        assert.equal(environment['VALUE'], value)
      }),
      { numRuns: 25 },
    )
  })

  it('is described in options that the client of Docker itself takes', () => {
    const { arguments: words } = created(full)
    const folder = mkdtempSync(join(tmpdir(), 'orc-docker-'))
    try {
      writeFileSync(join(folder, 'environment'), 'PATH=/app/bin\n')
      const own = words.map((word) => (word.startsWith('--env-file=') ? `--env-file=${folder}/environment` : word))
      const parsed = (given: readonly string[]) =>
        spawnSync('docker', given, { encoding: 'utf8', env: { ...process.env, DOCKER_HOST: `unix://${folder}/none` } })
      // It reads all of them before it finds that no engine is there.
      assert.match(parsed(own).stderr, /Cannot connect to the Docker daemon/)
      assert.doesNotMatch(parsed(['create', '--mount=type=odd', 'x']).stderr, /Cannot connect/)
    } finally {
      rmSync(folder, { recursive: true })
    }
  })

  it('waits for what it depends on', () => {
    const db = service({ name: 'db' })
    const { calls } = created({ dependsOn: [{ service: 'db', condition: 'started', restart: false }] }, [db])
    assert.match(calls, /^inspect --format\ninspect --format\nrm --force\ncreate /)
  })

  it('is refused by name where a command line cannot express it', () => {
    const check = (change: Partial<ServiceSpec>, engine: 'docker' | 'podman' = 'docker') => {
      return () => bootData(cloudOrder(1, 1, { services: [service(change)] }), { ...format, engine })
    }
    assert.throws(check({ sysctls: { 'net.core.somaxconn': '1' } }), refused('services.web.sysctls.net.core.somaxconn'))
    assert.throws(check({ environment: { PATH: 'a\nb' } }), refused('services.web.environment.PATH'))
    assert.throws(check({ environment: { 'a b': 'c' } }), refused('services.web.environment.a b'))
    const restart = [{ service: 'db', condition: 'started', restart: true } as const]
    assert.throws(check({ dependsOn: restart }), refused('services.web.dependsOn.db.restart'))
    assert.throws(check({ log: { mostBytes: 4096, files: 1 } }, 'podman'), refused('services.web.log'))
    const mounts = [{ kind: 'volume', volume: null, target: '/orchestrator', readOnly: false } as const]
    assert.throws(check({ mounts }), refused('services.web.mounts'))
    assert.doesNotThrow(check({ sysctls: { 'kernel.msgmax': '1' } }))
  })
})

describe('boot data', () => {
  const rich = () =>
    cloudOrder(1, 1, {
      outputs: true,
      services: [
        service({ ...full, files: [{ target: '/big', content: base64('x'.repeat(9000)), mode: 0o555 }] }),
        service({ name: 'db' }),
      ],
    })

  it('for cloud-init are YAML with all files, their modes, and units that are started', () => {
    const text = bootData(rich(), { ...format, packages: ['docker.io'] })
    assert.ok(text.startsWith('#cloud-config\n'))
    const config = parse(text)
    assert.deepEqual([config.hostname, config.packages], ['test1', ['docker.io']])
    const files = new Map<string, { permissions: string; text: string }>(
      config.write_files.map((file: { path: string; permissions: string; encoding: string; content: string }) => {
        const bytes = Buffer.from(file.content, 'base64')
        const { permissions } = file
        return [file.path, { permissions, text: (file.encoding === 'gz+b64' ? gunzipSync(bytes) : bytes).toString() }]
      }),
    )
    const big = files.get('/var/lib/orchestrator/services/web/files/0')
    assert.deepEqual([big?.permissions, big?.text], ['0555', 'x'.repeat(9000)])
    assert.equal(files.get('/var/lib/orchestrator/services/web/create')?.permissions, '0500')
    assert.equal(files.get('/var/lib/orchestrator/services/web/environment')?.permissions, '0400')
    assert.ok(text.length < 9000, 'what repeats itself is compressed')
    assert.deepEqual(config.bootcmd[0], ['install', '-d', '-m', '700', '/var/lib/orchestrator'])
    const units = ['orchestrator-web.service', 'orchestrator-db.service', 'orchestrator-tell.service']
    assert.deepEqual(config.runcmd.at(-1), ['systemctl', 'enable', '--now', '--no-block', ...units])
    for (const unit of units) assert.match(files.get(`/etc/systemd/system/${unit}`)?.text ?? '', /\nExecStart=\//)
  })

  it('for cloud-init are read as texts by YAML 1.1 too, whatever the device calls itself', () => {
    for (const hostname of ['on', 'no', '2026-11-22', '0b10', 'null', '1e5', '0123']) {
      const text = bootData(cloudOrder(1, 1, { name: hostname }), format)
      assert.equal(parse(text, { version: '1.1' }).hostname, hostname)
    }
  })

  it('for Ignition are what Ignition itself takes for valid, for both engines', () => {
    for (const engine of ['docker', 'podman'] as const) {
      const input = bootData(rich(), { ...format, boot: 'ignition', engine })
      const { status, stdout, stderr } = spawnSync('ignition-validate', ['-'], { input, encoding: 'utf8' })
      assert.equal(status, 0, `${stdout}${stderr}`)
      const config = JSON.parse(input)
      const wrong = JSON.stringify({ ...config, sistemd: {} })
      const second = spawnSync('ignition-validate', ['-'], { input: wrong, encoding: 'utf8' })
      assert.match(`${second.stdout}${second.stderr}`, /sistemd/, 'it would have told of an unknown key')
    }
  })

  it('that are too much for the provider are refused, with both sizes', () => {
    assert.throws(
      () => bootData(rich(), { ...format, mostBytes: 1000 }),
      /services: .* bytes of boot data, and .* 1000/,
    )
  })

  it('make units that systemd takes', () => {
    const folder = mkdtempSync(join(tmpdir(), 'orc-units-'))
    try {
      const paths = bootContent(rich(), 'docker').units.map(({ name, content }) => {
        const path = join(folder, name)
        // The programs are those of another machine.
        writeFileSync(path, content.replaceAll(/^(Exec\w+)=.*$/gm, '$1=/bin/true').replaceAll(' docker.service', ''))
        return path
      })
      const { status, stderr } = spawnSync(
        'systemd-analyze',
        ['verify', '--man=no', '--recursive-errors=no', ...paths],
        {
          encoding: 'utf8',
          env: { ...process.env, SYSTEMD_LOG_LEVEL: 'warning' },
        },
      )
      assert.equal(status, 0, stderr)
      assert.doesNotMatch(stderr, /orchestrator-.*(Unknown|Invalid|ignoring)/)
    } finally {
      rmSync(folder, { recursive: true })
    }
  })
})

describe('outputs on a console', () => {
  const line = (text: string) => `${OUTPUTS_MARK}${base64(text)}\n`

  it('are the last ones that came whole', () => {
    assert.equal(outputsIn(`boot\n${line('{"a":1}')}noise\n${line('{"a":2}')}login: `), '{"a":2}')
    assert.equal(outputsIn(`${line('{"a":1}').replace('\n', '\r\n')}`), '{"a":1}')
    assert.equal(outputsIn(`${line('{"a":1}')}${line('{"a":22}').slice(0, -5)}`), '{"a":1}', 'a line half printed')
    assert.equal(outputsIn(`${OUTPUTS_MARK}!!!\n${OUTPUTS_MARK}YQ\n${OUTPUTS_MARK}\n`), null)
    assert.equal(outputsIn(line('x'.repeat(30_001))), null)
  })

  it('are told by the machine when the file changes, and not when it is a link or too much', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'orc-tell-'))
    try {
      const tell = bootContent(cloudOrder(1, 1, { outputs: true }), 'docker').files.find(({ path }) =>
        path.endsWith('/tell'),
      )
      const console = join(folder, 'console')
      const file = join(folder, 'outputs.json')
      // One look each time that it would sleep.
      const script = Buffer.from(tell?.content ?? '')
        .toString()
        .replaceAll('/var/lib/orchestrator/told/outputs.json', file)
        .replaceAll('>/dev/console', `>>${console}`)
      const steps = [`printf '{"n":1}' >${file}`, ':', `printf '{"n":2}' >${file}`, `ln -sf /etc/passwd ${file}`]
      const more = [`rm ${file}; head -c 30001 /dev/zero >${file}`, `rm ${file}; mkfifo ${file}`, 'kill $$']
      const sleep = [...steps, ...more].map((step, at) => `${at}) ${step} ;;`).join('\n')
      const instead = `  case \${at:-0} in\n${sleep}\n  esac\n  at=$((\${at:-0} + 1))`
      const driven = script.replace('  sleep 5', () => instead)
      assert.notEqual(driven, script)
      assert.equal(spawnSync('sh', ['-c', driven], { timeout: 20_000 }).signal, 'SIGTERM', 'it went through all steps')
      const told = readFileSync(console, 'utf8')
      const lines = told.split('\n').filter((one) => one !== '')
      assert.deepEqual(lines, [line('{"n":1}').trim(), line('{"n":2}').trim()])
      assert.equal(outputsIn(told), '{"n":2}')
    } finally {
      rmSync(folder, { recursive: true })
    }
  })
})
