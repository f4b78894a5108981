import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { before, describe, test } from 'node:test'
import type { ValidateFunction } from 'ajv'
import { parse } from 'yaml'
import { readMachineConfig } from '../../orchestrator/backends/coreos/machines/config.ts'
import { cloudConfig } from '../../orchestrator/backends/coreos/machines/config-cloud.ts'
import {
  contentOf,
  type MachineContent,
  mountUnit,
} from '../../orchestrator/backends/coreos/machines/config-content.ts'
import { ignition } from '../../orchestrator/backends/coreos/machines/config-ignition.ts'
import { faultText } from '../../orchestrator/compose/faults.ts'
import { cloudInitSchema } from '../support/cloud-init-schema.ts'

const KEY = 'ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGJ4c2hvcnRrZXlmb3J0ZXN0cw me@desk'
const least = `hostname: m1\nssh-keys: ['${KEY}']\n`
const full = `hostname: m4
user: core
ssh-keys: ['${KEY}']
host-key: m4_host
users:
  - { name: alice, groups: [wheel], ssh-keys: ['${KEY}'], password-hash: '$6$salt$hash', sudo: true }
network: { interface: 'en*', addresses: ['fd00::4/64'], gateway: 'fd00::1', dns: ['fd00::53'] }
disks:
  - { device: /dev/vdb, label: data, mount: /var/lib/my-data, wipe: true }
files:
  - { path: /etc/motd, text: "hello\\n" }
  - { path: /etc/my/cert.pem, local: cert.pem, mode: "0600", owner: alice }
units:
  - name: web.service
    text: |
      [Service]
      ExecStart=/usr/bin/true
      [Install]
      WantedBy=multi-user.target
    needs-secrets: [web-key]
  - { name: sshd.service, drop-ins: { 10-more.conf: "[Service]\\nNice=1\\n" } }
profile:
  runtime: docker
  etcd:
    peer: http://[fd00::4]:2380
    client: http://[fd00::4]:2379
    cluster: { m1: 'http://[fd00::1]:2380', m4: 'http://[fd00::4]:2380' }
    state: existing
`
const host = `${least}unionize: host
join: { server: 'https://control:8998', token: 'orc1.abcdefghijklmnop.${'0'.repeat(64)}' }
`

function content(text: string): MachineContent {
  const { config, faults } = readMachineConfig({ file: 'm.yaml', text })
  assert.deepEqual(faults.map(faultText), [])
  assert.ok(config)
  return contentOf(config, (path) => Buffer.from(`content of ${path}`))
}

function faults(text: string): string[] {
  const { config, faults } = readMachineConfig({ file: 'm.yaml', text })
  assert.equal(config, null)
  return faults.map(faultText)
}

/** What Ignition's own checker says; '' when it is well. */
function validated(text: string): string {
  const { status, stdout, stderr, error } = spawnSync('ignition-validate', ['-'], { input: text, encoding: 'utf8' })
  assert.equal(error, undefined)
  return status === 0 ? (stdout + stderr).trim() : `exit code ${status}: ${stdout}${stderr}`
}

describe('orctl machine config', () => {
  let schema: ValidateFunction
  before(async () => {
    schema = await cloudInitSchema()
  })

  for (const [name, text] of Object.entries({ least, full, host })) {
    test(`Ignition of the ${name} configuration is valid for Ignition itself, without a warning`, () => {
      assert.equal(validated(ignition(content(text))), '')
    })
    test(`cloud-config of the ${name} configuration is valid by the schema of cloud-init`, () => {
      const written = cloudConfig(content(text))
      assert.match(written, /^#cloud-config\n/)
      assert.equal(schema(parse(written)), true, JSON.stringify(schema.errors))
    })
  }

  test('the checkers find what is wrong', () => {
    assert.match(validated(ignition(content(least)).replace('"passwd"', '"password"')), /[Uu]nused key password/)
    assert.match(validated(ignition(content(least)).replace('"3.3.0"', '"9.9.9"')), /exit code 1/)
    assert.equal(schema({ write_files: [{ path: 5 }] }), false)
  })

  test('users, files, units and drop-ins arrive in Ignition as they were written', () => {
    const { passwd, storage, systemd } = JSON.parse(ignition(content(full))) as {
      passwd: { users: { name: string; sshAuthorizedKeys: string[]; passwordHash?: string }[] }
      storage: { files: { path: string; mode: number; user: { name: string }; contents: { source: string } }[] }
      systemd: {
        units: { name: string; enabled?: boolean; contents?: string; dropins?: { name: string; contents: string }[] }[]
      }
    }
    assert.deepEqual(
      passwd.users.map(({ name }) => name),
      ['core', 'alice'],
    )
    const text = (path: string) => {
      const file = storage.files.find((one) => one.path === path)
      assert.ok(file, path)
      return Buffer.from(file.contents.source.replace('data:;base64,', ''), 'base64').toString()
    }
    assert.equal(text('/etc/hostname'), 'm4\n')
    assert.equal(text('/etc/my/cert.pem'), 'content of cert.pem')
    assert.equal(storage.files.find(({ path }) => path === '/etc/my/cert.pem')?.mode, 0o600)
    assert.equal(text('/etc/ssh/ssh_host_ed25519_key'), 'content of m4_host')
    assert.equal(storage.files.find(({ path }) => path.endsWith('ed25519_key'))?.mode, 0o600)
    assert.match(
      text('/etc/systemd/network/10-orchestrator.network'),
      /Address=fd00::4\/64\nGateway=fd00::1\nDNS=fd00::53\n/,
    )
    assert.match(
      text('/etc/orchestrator/etcd.env'),
      /^ETCD_INITIAL_CLUSTER=m1=http:\/\/\[fd00::1\]:2380,m4=http:\/\/\[fd00::4\]:2380$/m,
    )
    assert.match(text('/etc/orchestrator/etcd.env'), /^ETCD_INITIAL_CLUSTER_STATE=existing$/m)
    const unit = (name: string) => systemd.units.find((one) => one.name === name)
    assert.match(
      unit('var-lib-my\\x2ddata.mount')?.contents ?? '',
      /What=\/dev\/disk\/by-label\/data\nWhere=\/var\/lib\/my-data\n/,
    )
    const waits = unit('web.service')?.dropins?.[0]?.contents ?? ''
    assert.match(waits, /^ConditionPathExists=\/run\/orchestrator-secrets\/web-key$/m)
    assert.match(waits, /^WantedBy=orchestrator-secrets.target$/m)
    assert.equal(unit('sshd.service')?.contents, undefined)
    assert.ok(unit('docker.service')?.enabled)
  })

  test('a host joins with its token in a file for root alone', () => {
    const { files, units } = content(host)
    const file = files.find(({ path }) => path === '/etc/orchestrator/join.env')
    assert.equal(file?.mode, 0o600)
    const unit = units.find(({ name }) => name === 'orchestrator-join.service')
    assert.match(unit?.text ?? '', /unionize join --server https:\/\/control:8998/)
    assert.doesNotMatch(unit?.text ?? '', /orc1/)
  })

  test('unknown keys are refused by name, with their line', () => {
    assert.deepEqual(faults(`${least}hostnam: m2\nnetwork:\n  addresses: ['fd00::4/64']\n  adress: x\n`), [
      'm.yaml:3: hostnam: is not known here: take it away, or see docs/machines.md',
      'm.yaml:6: network.adress: is not known here: take it away, or see docs/machines.md',
    ])
  })

  test('every other fault is told with its line and key too, all at once', () => {
    assert.deepEqual(faults('ssh-keys: []\n'), [
      'm.yaml: hostname: is missing, and has no default',
      'm.yaml:1: ssh-keys: expected at least one key: nobody could log in',
    ])
    const cases: [string, RegExp][] = [
      ["ssh-keys: ['-----BEGIN OPENSSH PRIVATE KEY-----']", /ssh-keys\[0\]: expected a public key/],
      [`${least}user: Root`, /user: expected a user name/],
      [`${least}network: { addresses: ['fd00::4'] }`, /network\.addresses\[0\]: expected an address with the length/],
      [`${least}network: { addresses: ['10.0.0.1/24'] }`, /network\.addresses\[0\]: expected an IPv6 address/],
      [`${least}files: [{ path: /etc/x, text: a, local: b }]`, /files\[0\]: expected either/],
      [`${least}files: [{ path: etc/x, text: a }]`, /files\[0\]\.path: expected an absolute path/],
      [`${least}files: [{ path: /etc/x, text: a, mode: 0644 }]`, /files\[0\]\.mode: /],
      [`${least}units: [{ name: web }]`, /units\[0\]\.name: expected the name of a unit/],
      [`${least}units: [{ name: a.socket, needs-secrets: [x] }]`, /units\[0\]\.needs-secrets: only a service/],
      [`${least}unionize: host`, /unionize: a host needs `join`/],
      [`${least}join: { server: 'http://x', token: y }`, /join\.server: expected https/],
      [
        full.replace("m4: 'http://[fd00::4]:2380'", "m5: 'http://[fd00::4]:2380'"),
        /profile\.etcd\.cluster: expected m4 in it/,
      ],
      [full.replace('peer: http:', 'peer: https:'), /profile\.etcd\.tls: a peer URL with https needs/],
      [`${least}${least}`, /:3: hostname: stands here twice: first on line 1/],
    ]
    for (const [text, expected] of cases) assert.match(faults(text).join('\n'), expected, text)
  })

  test('what is written from other keys cannot be written again', () => {
    const again = `${least}files: [{ path: /etc/hostname, text: other }]\n`
    assert.throws(() => content(again), /files\[0\]\.path: \/etc\/hostname is written already/)
    assert.throws(
      () => content(`${least}units: [{ name: podman.socket }]\n`),
      /units\[0\]\.name: podman\.socket is there/,
    )
  })

  test('the file of the documentation is one that is taken', () => {
    const page = readFileSync(new URL('../../docs/machines.md', import.meta.url), 'utf8')
    const [first = '', second = ''] = [...page.matchAll(/```yaml\n([\s\S]*?)```/g)].map((found) => found[1] ?? '')
    const written = first.replaceAll('AAAA…', 'AAAAC3NzaC1lZDI1NTE5')
    assert.match(written, /^hostname: m1$/m)
    content(written)
    const member = second.replace(/#.*tls:.*$/m, '').replaceAll('m4:', 'm1x:')
    const etcd = member.replace('m1:', 'm0:').replace('m1x:', 'm1:')
    content(`${least}${etcd}`)
  })

  test('names of mount units are those of systemd-escape', () => {
    for (const path of ['/var/lib/my-data', '/srv/.hidden/a b', '/mnt/ä']) {
      const { stdout } = spawnSync('systemd-escape', ['--path', '--suffix=mount', path], { encoding: 'utf8' })
      assert.equal(mountUnit(path), stdout.trim())
    }
  })
})
