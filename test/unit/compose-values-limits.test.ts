import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import type { ServiceInput } from '../../common/service-spec.ts'
import { DEFAULT_CAPABILITIES } from '../../orchestrator/compose/stack/capabilities.ts'
import type { Json } from '../../orchestrator/domain/template.ts'
import { assertRefused, assertWeb, readWeb } from '../support/compose-stacks.ts'

const MIB = 1024 * 1024
type Keys = { readonly [key: string]: Json }
const limits = (more: Json): Keys => ({ deploy: { resources: { limits: more } } })
const reservations = (more: Json): Keys => ({ deploy: { resources: { reservations: more } } })
const LIMITS = 'services.web.deploy.resources.limits'

/** These keys weaken isolation, each of them, and the service is changed so. */
function weakened(keys: Keys, at: readonly string[], change: Partial<ServiceInput>): void {
  const { services, weakens } = readWeb(keys)
  assert.deepEqual(
    weakens,
    at.map((key) => `services.web.${key}`),
    JSON.stringify(keys),
  )
  for (const [name, value] of Object.entries(change))
    assert.deepEqual(services[0]?.[name as keyof ServiceInput], value, name)
}

describe('the resources of a service', () => {
  it('are limited, in both spellings', () => {
    assertWeb({ mem_limit: '64m' }, { memoryBytes: 64 * MIB })
    assertWeb({ mem_limit: 6 * MIB }, { memoryBytes: 6 * MIB })
    assertWeb(limits({ memory: '1gb' }), { memoryBytes: 1024 * MIB })
    assertWeb({ mem_limit: '1024m', ...limits({ memory: '1g' }) }, { memoryBytes: 1024 * MIB })
    assertWeb({ mem_limit: '64m', memswap_limit: '128m' }, { memoryBytes: 64 * MIB, memorySwapBytes: 128 * MIB })
    assertWeb({ memswap_limit: 0 }, {})
    assertWeb({ mem_reservation: '32m' }, { memoryReservationBytes: 32 * MIB })
    assertWeb(reservations({ memory: '32m' }), { memoryReservationBytes: 32 * MIB })
    assertWeb({ cpus: 0.5 }, { cpus: 0.5 })
    assertWeb({ cpus: '1.5' }, { cpus: 1.5 })
    assertWeb({ cpus: 0 }, {})
    assertWeb(limits({ cpus: '0.25' }), { cpus: 0.25 })
    assertWeb({ cpu_shares: 512, cpuset: '0-2,4' }, { cpuShares: 512, cpuset: '0-2,4' })
    assertWeb({ cpu_shares: '73' }, { cpuShares: 73 })
    assertWeb({ cpu_shares: 0 }, {})
    assertWeb({ pids_limit: 10 }, { pids: 10 })
    assertWeb(limits({ pids: '20' }), { pids: 20 })
    assertWeb({ pids_limit: 20, ...limits({ pids: 20 }) }, { pids: 20 })
    assertWeb({ shm_size: '64m', oom_score_adj: 500 }, { shmBytes: 64 * MIB, oomScoreAdjust: 500 })
    assertWeb({ deploy: null }, {})
    assertWeb({ deploy: { mode: 'replicated', replicas: 1, resources: null }, scale: '1' }, {})
  })

  it('are refused at the exact key', () => {
    assertRefused({ mem_limit: '5m' }, 'services.web.mem_limit', /at least 6m/)
    assertRefused({ mem_limit: 0 }, 'services.web.mem_limit', /at least 6m/)
    assertRefused({ mem_limit: 'much' }, 'services.web.mem_limit', /a size/)
    assertRefused(limits({ memory: '5m' }), `${LIMITS}.memory`, /at least 6m/)
    assertRefused({ memswap_limit: -1 }, 'services.web.memswap_limit', /swap without limit/)
    assertRefused({ memswap_limit: '-1' }, 'services.web.memswap_limit', /swap without limit/)
    assertRefused({ memswap_limit: '10m' }, 'services.web.memswap_limit', /no less than the memory limit, 268435456/)
    assertRefused({ mem_reservation: '300m' }, 'services.web.mem_reservation', /no more than/)
    const reserved = 'services.web.deploy.resources.reservations'
    assertRefused(reservations({ memory: '300m' }), `${reserved}.memory`, /no more than/)
    for (const field of ['cpus', 'devices', 'generic_resources']) {
      assertRefused(reservations({ [field]: 1 }), `${reserved}.${field}`, /not supported/)
    }
    for (const cpus of [-1, 'all', 5000, '1,5', true])
      assertRefused({ cpus }, 'services.web.cpus', /number from 0 to 4096/)
    for (const cpu_shares of [-1, 262_145, 1.5, 'x'])
      assertRefused({ cpu_shares }, 'services.web.cpu_shares', /whole number/)
    assertRefused({ cpu_shares: 1 }, 'services.web.cpu_shares', /from 2/)
    for (const cpuset of ['', 'a', '0-', '2-1', '0,,1']) assertRefused({ cpuset }, 'services.web.cpuset', /processors/)
    for (const pids_limit of [-1, 0, '-1'])
      assertRefused({ pids_limit }, 'services.web.pids_limit', /every service has a limit/)
    assertRefused({ pids_limit: 1.5 }, 'services.web.pids_limit', /whole number/)
    assertRefused(limits({ pids: -1 }), `${LIMITS}.pids`, /every service has a limit/)
    assertRefused({ oom_score_adj: 1001 }, 'services.web.oom_score_adj', /-1000 to 1000/)
    assertRefused({ deploy: { replicas: 2 } }, 'services.web.deploy.replicas', /one container/)
    assertRefused({ scale: 0 }, 'services.web.scale', /one container/)
    assertRefused({ deploy: { mode: 'global' } }, 'services.web.deploy.mode', /one container/)
    for (const field of ['labels', 'placement', 'update_config', 'endpoint_mode']) {
      assertRefused({ deploy: { [field]: {} } }, `services.web.deploy.${field}`, /not supported/)
    }
    assertRefused(limits({ disk: 1 }), `${LIMITS}.disk`, /not supported/)
  })

  it('said twice must be the same', () => {
    const twice = (keys: Keys, more: Json, key: string, other: string) =>
      assertRefused(
        { ...keys, ...limits(more) },
        `${LIMITS}.${key}`,
        new RegExp(`something else than services.web.${other}`),
      )
    twice({ mem_limit: '64m' }, { memory: '65m' }, 'memory', 'mem_limit')
    twice({ cpus: 1 }, { cpus: 2 }, 'cpus', 'cpus')
    twice({ pids_limit: 1 }, { pids: 2 }, 'pids', 'pids_limit')
    const both = { mem_reservation: '8m', ...reservations({ memory: '9m' }) }
    assertRefused(both, 'services.web.deploy.resources.reservations.memory', /something else/)
  })

  it('have ulimits, single or soft and hard', () => {
    assertWeb(
      { ulimits: { nproc: 65535, nofile: { soft: 20000, hard: '40000' }, memlock: -1, core: { soft: 0, hard: -1 } } },
      {
        ulimits: [
          { name: 'nproc', soft: 65535, hard: 65535 },
          { name: 'nofile', soft: 20000, hard: 40000 },
          { name: 'memlock', soft: -1, hard: -1 },
          { name: 'core', soft: 0, hard: -1 },
        ],
      },
    )
    const at = 'services.web.ulimits'
    assertRefused({ ulimits: { files: 1 } }, `${at}.files`, /no such limit: .*nofile/)
    assertRefused({ ulimits: { nofile: { soft: 2, hard: 1 } } }, `${at}.nofile`, /soft not above hard/)
    assertRefused({ ulimits: { nofile: { soft: -1, hard: 1 } } }, `${at}.nofile`, /soft not above hard/)
    assertRefused({ ulimits: { nofile: { soft: 2 } } }, `${at}.nofile.hard`, /whole number/)
    assertRefused({ ulimits: { nofile: 'x' } }, `${at}.nofile`, /whole number/)
    assertRefused({ ulimits: { nofile: -2 } }, `${at}.nofile`, /whole number/)
    assertRefused({ ulimits: { nofile: { soft: 1, hard: 1, x: 1 } } }, `${at}.nofile.x`, /not supported/)
    assertRefused({ ulimits: [] }, at, /a map/)
  })

  it('have settings of the kernel that are their own', () => {
    const sysctls = { 'net.core.somaxconn': '1024', 'kernel.shmmax': '65536', 'fs.mqueue.msg_max': '10' }
    assertWeb(
      { sysctls: { 'net.core.somaxconn': 1024, 'kernel.shmmax': '65536', 'fs.mqueue.msg_max': 10 } },
      { sysctls },
    )
    assertWeb({ sysctls: Object.entries(sysctls).map((pair) => pair.join('=')) }, { sysctls })
    for (const name of ['kernel.panic', 'vm.overcommit_memory', 'fs.file-max', 'kernel.shmmaxx', 'net.', 'net']) {
      assertRefused({ sysctls: { [name]: 1 } }, `services.web.sysctls.${name}`, /not a setting of a container/)
    }
    assertRefused({ sysctls: ['kernel.panic=1'] }, 'services.web.sysctls[0]', /not a setting of a container/)
    assertRefused({ sysctls: ['net.core.somaxconn'] }, 'services.web.sysctls[0]', /expected a value/)
  })

  it('have logs of their size', () => {
    const logging = (more: Json) => ({ logging: more })
    assertWeb(logging({ driver: 'json-file', options: { 'max-size': '10m', 'max-file': '3' } }), {
      log: { mostBytes: 10 * MIB, files: 3 },
    })
    assertWeb(logging({ options: { 'max-size': '1m' } }), { log: { mostBytes: MIB, files: 1 } })
    assertWeb(logging({ driver: 'local' }), {})
    assertRefused(logging({ driver: 'syslog' }), 'services.web.logging.driver', /json-file or local/)
    assertRefused(
      logging({ options: { 'max-file': 3 } }),
      'services.web.logging.options.max-file',
      /max-size beside it/,
    )
    assertRefused(logging({ options: { 'max-size': '1k' } }), 'services.web.logging.options.max-size', /at least 4k/)
    assertRefused(logging({ options: { tag: 'x' } }), 'services.web.logging.options.tag', /not supported/)
    assertRefused(
      logging({ options: { 'max-size': '1m', 'max-file': 0 } }),
      'services.web.logging.options.max-file',
      /1 to 100/,
    )
  })
})

describe('the isolation of a service', () => {
  it('leaves a short list of capabilities, which the file changes', () => {
    const without = (...names: string[]) => DEFAULT_CAPABILITIES.filter((name) => !names.includes(name))
    assertWeb({ cap_drop: ['ALL'] }, { capabilities: [] })
    assertWeb({ cap_drop: ['all'], cap_add: ['CAP_CHOWN', 'net_raw'] }, { capabilities: ['CHOWN', 'NET_RAW'] })
    assertWeb({ cap_drop: ['CAP_CHOWN', 'NET_ADMIN'] }, { capabilities: without('CHOWN') })
    assertWeb({ cap_add: ['NET_ADMIN', 'CHOWN'] }, { capabilities: [...DEFAULT_CAPABILITIES, 'NET_ADMIN'].sort() })
    assertWeb({ cap_add: ['KILL'], cap_drop: ['KILL'] }, { capabilities: [...DEFAULT_CAPABILITIES] })
    assertRefused({ cap_add: ['CHOWN', 'FLY'] }, 'services.web.cap_add[1]', /no capability FLY/)
    assertRefused({ cap_drop: ['CAP_'] }, 'services.web.cap_drop[0]', /no capability/)
    assertRefused({ cap_add: [1] }, 'services.web.cap_add[0]', /a text/)
  })

  it('is weakened by capabilities that reach further than the container', () => {
    const names =
      'SYS_ADMIN SYS_MODULE SYS_RAWIO DAC_READ_SEARCH SYS_BOOT SYS_TIME BPF PERFMON MAC_ADMIN MAC_OVERRIDE AUDIT_CONTROL SYSLOG SYS_RESOURCE SYS_NICE'
    for (const name of names.split(' ')) {
      weakened({ cap_drop: ['ALL'], cap_add: ['CHOWN', name] }, ['cap_add[1]'], {
        capabilities: ['CHOWN', name].sort(),
      })
    }
    const all = readWeb({ cap_add: ['ALL'], cap_drop: ['CHOWN'] })
    assert.deepEqual(all.weakens, ['services.web.cap_add[0]'])
    assert.equal(all.services[0]?.capabilities.length, 40)
    assert.ok(!all.services[0]?.capabilities.includes('CHOWN'))
    assert.equal(readWeb({ cap_add: ['ALL'], cap_drop: ['ALL'] }).services[0]?.capabilities.length, 41)
  })

  it('is weakened by privileges, options of security, devices and priorities', () => {
    weakened({ privileged: true }, ['privileged'], { privileged: true })
    weakened({ privileged: 'true' }, ['privileged'], { privileged: true })
    weakened({ security_opt: ['no-new-privileges:false'] }, ['security_opt[0]'], { noNewPrivileges: false })
    for (const [text, option] of [
      ['seccomp=unconfined', 'seccomp=unconfined'],
      ['seccomp:unconfined', 'seccomp=unconfined'],
      ['apparmor=unconfined', 'apparmor=unconfined'],
      ['apparmor:other', 'apparmor=other'],
      ['label:disable', 'label=disable'],
      ['label=user:USER', 'label=user:USER'],
    ]) {
      weakened({ security_opt: ['no-new-privileges', text ?? ''] }, ['security_opt[1]'], {
        securityOptions: [option ?? ''],
      })
    }
    weakened({ devices: ['/dev/sda:/dev/xvda:r'] }, ['devices[0]'], {
      devices: [{ host: '/dev/sda', container: '/dev/xvda', permissions: 'r' }],
    })
    weakened({ devices: ['/dev/fuse', '/dev/kvm'] }, ['devices[1]'], {})
    weakened({ oom_score_adj: -1 }, ['oom_score_adj'], { oomScoreAdjust: -1 })
    weakened({ ulimits: { rtprio: 10, nice: { soft: 0, hard: -1 } } }, ['ulimits.rtprio', 'ulimits.nice'], {})
  })

  it('is not weakened by what is safe anyway', () => {
    for (const text of ['no-new-privileges', 'no-new-privileges:true', 'no-new-privileges=true'])
      assertWeb({ security_opt: [text] }, {})
    const tun = { host: '/dev/net/tun', container: '/dev/net/tun', permissions: 'rwm' }
    assertWeb({ devices: ['/dev/net/tun'] }, { devices: [tun] })
    assertWeb(
      { devices: ['/dev/net/tun:/dev/net/tun', '/dev/fuse:/dev/f:rw'] },
      {
        devices: [tun, { host: '/dev/fuse', container: '/dev/f', permissions: 'rw' }],
      },
    )
    assertWeb(
      { devices: [{ source: '/dev/net/tun', target: '/dev/tun', permissions: 'rw' }, { source: '/dev/fuse' }] },
      {
        devices: [
          { host: '/dev/net/tun', container: '/dev/tun', permissions: 'rw' },
          { host: '/dev/fuse', container: '/dev/fuse', permissions: 'rwm' },
        ],
      },
    )
    assertWeb({ ulimits: { rtprio: 0 } }, { ulimits: [{ name: 'rtprio', soft: 0, hard: 0 }] })
  })

  it('is refused where it is not understood', () => {
    for (const option of [
      'seccomp=profile.json',
      'seccomp',
      'apparmor',
      'credentialspec=file://x',
      'x',
      '',
      'systempaths=unconfined',
    ]) {
      assertRefused({ security_opt: ['label=disable', option] }, 'services.web.security_opt[1]', /not supported/)
    }
    assertRefused({ security_opt: ['no-new-privileges:maybe'] }, 'services.web.security_opt[0]', /true or false/)
    assertRefused({ security_opt: 'label=disable' }, 'services.web.security_opt', /a list/)
    const at = 'services.web.devices[0]'
    assertRefused({ devices: ['vendor.com/device=gpu'] }, at, /CDI/)
    assertRefused({ devices: ['tun'] }, at, /absolute path/)
    assertRefused({ devices: ['/dev/a:/dev/b:rwx'] }, at, /permissions/)
    assertRefused({ devices: ['/dev/a:/dev/b:rr'] }, at, /permissions/)
    assertRefused({ devices: ['/dev/a:/dev/b:r:w'] }, at, /HOST/)
    assertRefused({ devices: ['/dev/../etc'] }, at, /".."/)
    assertRefused({ devices: [{ target: '/x' }] }, `${at}.source`, /a text/)
    assertRefused({ devices: [{ source: '/dev/fuse', permissions: 'x' }] }, `${at}.permissions`, /permissions/)
    for (const field of [
      'pid',
      'ipc',
      'uts',
      'userns_mode',
      'cgroup',
      'cgroup_parent',
      'runtime',
      'hostname',
      'links',
      'build',
      'gpus',
    ]) {
      assertRefused({ [field]: 'host' }, `services.web.${field}`, /is not supported/)
    }
  })
})
