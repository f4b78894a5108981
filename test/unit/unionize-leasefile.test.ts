import assert from 'node:assert/strict'
import { mkdirSync, mkdtempSync, rmSync, truncateSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { setTimeout as wait } from 'node:timers/promises'
import { limitsOf, options, readLeaseLimits } from '../../unionize/leases/dnsmasq/config.ts'
import { LeaseFileUnreadable, parseLeaseFile, readLeaseFile } from '../../unionize/leases/dnsmasq/leasefile.ts'
import { createWatermark } from '../../unionize/leases/source.ts'

const NOW = 1_795_300_000_000
const DUID = '00:03:00:01:02:00:00:00:00:01'
const SERVER = 'duid 00:01:00:01:2a:2a:2a:2a:02:00:00:00:00:01'
const seconds = (offset: number) => NOW / 1000 + offset

function folder(t: { after: (end: () => void) => void }): string {
  const path = mkdtempSync(join(tmpdir(), 'unionize-leases-'))
  t.after(() => rmSync(path, { recursive: true }))
  return path
}

test('of a lease file the living DHCPv6 leases are read', () => {
  const table = parseLeaseFile(
    [
      `${seconds(60)} 02:00:00:00:00:01 10.0.0.5 four *`,
      SERVER,
      `${seconds(60)} 42 fd00:c::5 box ${DUID}`,
      `0 4294967295 fd00:c::6 * ${DUID}`,
      `${seconds(60)} T9 fd00:c::7 * ${DUID}`,
      `${seconds(-31)} 43 fd00:c::8 * ${DUID}`,
      `${seconds(-29)} 44 fd00:c::9 * ${DUID}`,
      'garbage',
      '',
    ].join('\n'),
    NOW,
  )
  assert.deepEqual(
    table.leases.map((lease) => [lease.owner.iaid, lease.address, lease.expiresAt, lease.facts]),
    [
      [42, 'fd00:c::5', NOW + 60_000, { hostname: 'box' }],
      [4294967295, 'fd00:c::6', null, {}],
      [44, 'fd00:c::9', NOW - 29_000, {}],
    ],
  )
  assert.equal(table.entries, 7)
  assert.equal(table.faults.length, 1)
})

test('a file that is being rewritten is not taken for whole when it is cut off behind a line', async (t) => {
  const path = join(folder(t), 'leases')
  const cut = `${SERVER}\n${seconds(60)} 42 fd00:c::5 box ${DUID}\n`
  writeFileSync(path, cut)
  let writings = 0
  const rewriting = setInterval(() => {
    writeFileSync(path, ++writings < 30 ? cut : `${cut}${seconds(60)} 43 fd00:c::6 * ${DUID}\n`)
    if (writings === 30) clearInterval(rewriting)
  }, 10)
  assert.equal((await readLeaseFile(path, () => NOW)).leases.length, 2)
})

test('a file that is being rewritten is read when it is whole again', async (t) => {
  const path = join(folder(t), 'leases')
  const whole = `${SERVER}\n${seconds(60)} 42 fd00:c::5 box ${DUID}\n`
  writeFileSync(path, whole)
  truncateSync(path)
  const reading = readLeaseFile(path, () => NOW)
  await wait(60)
  writeFileSync(path, whole.slice(0, -9))
  await wait(60)
  writeFileSync(path, whole)
  assert.equal((await reading).leases.length, 1)
})

test('a file that is absent or never whole is an error, never an empty table', async (t) => {
  const path = join(folder(t), 'leases')
  await assert.rejects(
    readLeaseFile(path, () => NOW),
    LeaseFileUnreadable,
  )
  writeFileSync(path, '')
  await assert.rejects(
    readLeaseFile(path, () => NOW),
    LeaseFileUnreadable,
  )
})

test('lease file, limit and ranges are found in the configuration and what it includes', async (t) => {
  const path = folder(t)
  mkdirSync(join(path, 'more'))
  const write = (name: string, ...lines: string[]) => writeFileSync(join(path, name), `${lines.join('\n')}\n`)
  write(
    'main.conf',
    '# dhcp-lease-max=1',
    `conf-file=${join(path, 'one.conf')}`,
    `conf-dir=${join(path, 'more')},*.conf`,
  )
  write('one.conf', 'dhcp-lease-max=150 # short', 'dhcp-range=::1000,::10ff,constructor:br-clients,64,2m')
  write('more/a.conf', 'dhcp-leasefile="/tmp/x y"', 'dhcp-range=set:red,10.0.0.1,10.0.0.9,1h')
  write('more/b.bak', 'dhcp-lease-max=7')
  write('more/.c.conf', 'dhcp-lease-max=8')
  assert.deepEqual(await readLeaseLimits(join(path, 'main.conf')), { leaseFile: '/tmp/x y', most: 150, addresses: 256 })
})

test('dnsmasq gives no addresses from ranges for router advertisements only', () => {
  const limits = (text: string) => limitsOf(options(text))
  assert.equal(limits('dhcp-range=fd00::,ra-only').addresses, null)
  assert.equal(limits('dhcp-range=tag:x,fd00::10,fd00::1f,64,1h').addresses, 16)
  assert.equal(limits('').most, 1000)
  assert.equal(limits('').leaseFile, '/var/lib/misc/dnsmasq.leases')
})

test('a table that fills up is told once at nine tenths, once when full, and once when there is room', () => {
  const told: string[] = []
  const look = createWatermark((level, code) => told.push(`${level} ${code}`))
  const limits = { leaseFile: '', most: 10, addresses: null }
  for (const entries of [0, 8, 9, 9, 10, 10, 9, 3, 3]) look({ readAt: 0, leases: [], entries, faults: [] }, limits)
  assert.deepEqual(told, [
    'warning lease-table-nearly-full',
    'error lease-table-full',
    'warning lease-table-nearly-full',
    'info lease-table-has-room',
  ])
})
